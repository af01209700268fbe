"""A steady load with a ledger, through the stock Python driver with its own policies, while ranges move.

  moving.py HOSTS --rows 1000000 --rate 2000

Half reads, half writes at QUORUM of random rows of bench.kv, which helenus bench has loaded: c0 of a row is what it loaded, or "version:N" of the
last write. A row is written by one request at a time. A read shows a version from the newest that was acknowledged or seen when it began up to the newest
that was sent when it ended. Statements are idempotent, so the driver may repeat them.

Lines on standard input: "phase NAME" begins a new phase, which is reported when it ends: "phase NAME ops=.. errors=.. late=.. p50=.. p99=.. max=.." (ms); "end" ends the load, reads every
row that was written at ALL and prints "done ops=.. errors=.. lost=.. wrong=.. written=..". Exit code 1 if anything was lost or wrong.
"""
import argparse
import collections
import random
import struct
import sys
import threading
import time

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import ConstantReconnectionPolicy, DCAwareRoundRobinPolicy, TokenAwarePolicy

SHOWN_MAX = 20
IN_FLIGHT_MAX = 256
M = (1 << 64) - 1


def loaded(key):
    """What helenus bench --op load writes into c0: internal/bench."""
    i = (key * 8 + 0x9E3779B97F4A7C15) & M
    i = (i ^ i >> 30) * 0xBF58476D1CE4E5B9 & M
    i = (i ^ i >> 27) * 0x94D049BB133111EB & M
    v = i ^ i >> 31
    out = b""
    for _ in range(4):
        out += struct.pack("<Q", v)
        v = (v * 0x9E3779B97F4A7C15 + 1) & M
    return out + bytes((v & 255, v >> 8 & 255))


def value(key, version):
    return loaded(key) if version == 0 else b"%d:%d" % (version, key)


class Row:
    __slots__ = ("floor", "sent", "busy")

    def __init__(self):
        self.floor = self.sent = 0
        self.busy = False


class Load:
    def __init__(self, session, args):
        self.session, self.args, self.rng = session, args, random.Random(args.seed)
        self.insert = session.prepare("UPDATE bench.kv SET c0 = ? WHERE key = ?")
        self.select = session.prepare("SELECT c0 FROM bench.kv WHERE key = ?")
        for s in (self.insert, self.select):
            s.consistency_level, s.is_idempotent = ConsistencyLevel.QUORUM, True
        self.rows = {}
        self.lock = threading.Lock()
        self.free = threading.Semaphore(IN_FLIGHT_MAX)
        self.total = collections.Counter()
        self.begin("begin")
        self.ended = False

    def begin(self, name):
        self.name, self.took, self.errors, self.late = name, [], 0, 0

    def phase(self, name):
        with self.lock:
            took, line = sorted(self.took), (self.name, len(self.took), self.errors, self.late)
            self.begin(name)
        if took:
            print("phase %s ops=%d errors=%d late=%d p50=%.2f p99=%.2f max=%.2f" % (
                line + tuple(1000 * took[min(len(took) - 1, int(len(took) * q))] for q in (0.5, 0.99, 1))), flush=True)

    def wrong(self, what, text):
        self.total[what] += 1
        if self.total[what] <= SHOWN_MAX:
            print(what, text, flush=True)

    def done(self, began, error, request):
        """Counts a request; the lock is held."""
        self.free.release()
        self.took.append(time.monotonic() - began)
        self.total["ops"] += 1
        if error is not None:
            self.errors += 1
            self.total["errors"] += 1
            if self.total["errors"] <= SHOWN_MAX:
                print("error", request, type(error).__name__, str(error)[:200], flush=True)

    def write(self, key, began):
        with self.lock:
            row = self.rows.setdefault(key, Row())
            if row.busy:
                self.free.release()
                return
            row.busy, row.sent = True, row.sent + 1
            version = row.sent

        def wrote(_):
            with self.lock:
                row.busy, row.floor = False, max(row.floor, version)
                self.done(began, None, "write")

        def failed(error):
            with self.lock:
                row.busy = False
                self.done(began, error, "write")
        self.session.execute_async(self.insert, (value(key, version), key)).add_callbacks(wrote, failed)

    def read(self, key, began):
        with self.lock:
            row = self.rows.setdefault(key, Row())
            floor = row.floor

        def came(rows):
            with self.lock:
                self.check(key, row, floor, rows)
                self.done(began, None, "read")

        def failed(error):
            with self.lock:
                self.done(began, error, "read")
        self.session.execute_async(self.select, (key,)).add_callbacks(came, failed)

    def check(self, key, row, floor, rows):
        if not rows or rows[0].c0 is None:
            self.wrong("lost", "key %d: no row, version %d was there" % (key, floor))
            return
        got = bytes(rows[0].c0)
        head = got.split(b":")[0]
        version = int(head) if len(got) < 34 and head.isdigit() else 0
        if got != value(key, version):
            self.wrong("wrong", "key %d: shows %r" % (key, got))
        elif version < floor:
            self.wrong("lost", "key %d: version %d after %d" % (key, version, floor))
        elif version > row.sent:
            self.wrong("wrong", "key %d: version %d of %d" % (key, version, row.sent))
        else:
            row.floor = max(row.floor, version)

    def run(self):
        begin, n = time.monotonic(), 0
        while not self.ended:
            due = begin + n / self.args.rate
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            elif wait < -0.1:  # this program is too slow, or all requests are out: the rate is not kept
                with self.lock:
                    self.late += 1
                begin, due = begin - wait, time.monotonic()
            n += 1
            self.free.acquire()
            (self.write if self.rng.random() < 0.5 else self.read)(self.rng.randrange(self.args.rows), time.monotonic())

    def verify(self):
        self.select.consistency_level = ConsistencyLevel.ALL
        keys = sorted(k for k, r in self.rows.items() if r.sent)
        for at in range(0, len(keys), 4096):
            part = keys[at:at + 4096]
            answers = execute_concurrent_with_args(self.session, self.select, [(k,) for k in part], concurrency=64, raise_on_first_error=False)
            for k, (ok, rows) in zip(part, answers):
                if ok:
                    self.check(k, self.rows[k], self.rows[k].floor, list(rows))
                else:
                    self.wrong("unread", "key %d: %r" % (k, rows))
        return len(keys)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("hosts")
    p.add_argument("--rows", type=int, default=1000000)
    p.add_argument("--rate", type=float, default=2000)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    profile = ExecutionProfile(load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy()), consistency_level=ConsistencyLevel.QUORUM, request_timeout=30)
    cluster = Cluster(args.hosts.split(","), execution_profiles={EXEC_PROFILE_DEFAULT: profile}, protocol_version=5,
                      reconnection_policy=ConstantReconnectionPolicy(0.5, None))
    load = Load(cluster.connect(), args)
    runner = threading.Thread(target=load.run, daemon=True)
    runner.start()
    print("running", flush=True)
    for line in sys.stdin:
        what = line.split()
        if what[:1] == ["phase"]:
            load.phase(what[1])
        elif what == ["end"]:
            break
    load.ended = True
    runner.join()
    for _ in range(IN_FLIGHT_MAX):
        load.free.acquire()
    load.phase("verify")
    written = load.verify()
    t = load.total
    print("done ops=%d errors=%d lost=%d wrong=%d unread=%d written=%d" % (t["ops"], t["errors"], t["lost"], t["wrong"], t["unread"], written), flush=True)
    cluster.shutdown()
    return 1 if t["lost"] or t["wrong"] or t["unread"] else 0


if __name__ == "__main__":
    sys.exit(main())
