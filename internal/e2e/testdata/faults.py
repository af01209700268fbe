"""Keeps a ledger of what a cluster acknowledged, through the stock Python driver, while somebody breaks the cluster.

  faults.py HOSTS --seconds 40 --features registers,batches,counters,cas

Prints "running" when its tables are there and load begins, "paused" when the time is up; then it waits for a line on its
standard input that says that every node is back, checks everything once more, and prints "done ops=.. unknown=.. refused=..".
Each contradiction between answers is a line "violation ..."; the exit code is 1 if there was one.

The outcome of a write is one of three: acknowledged; refused, that is Unavailable, after which it must never be seen; unknown,
which is anything else. The driver does not retry (FallthroughRetryPolicy), so an error is about one attempt.
"""
import argparse
import random
import sys
import threading
import time

from cassandra import ConsistencyLevel, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import ConstantReconnectionPolicy, FallthroughRetryPolicy, RoundRobinPolicy, TokenAwarePolicy
from cassandra.query import BatchStatement, BatchType

ACKED, REFUSED, UNKNOWN = "acked", "refused", "unknown"
BATCH_ROWS = 4
VIOLATIONS_MAX = 20


class Report:
    """Counts of all workers."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {}
        self.violations = 0

    def add(self, what, n=1):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + n

    def violation(self, text):
        with self.lock:
            self.violations += 1
            if self.violations <= VIOLATIONS_MAX:
                print("violation", text, flush=True)

    def get(self, what):
        return self.counts.get(what, 0)


class Attempt:
    """Carries out statements and says how they ended."""

    def __init__(self, session, report):
        self.session, self.report = session, report

    def write(self, kind, statement, values=None):
        try:
            result = self.session.execute(statement, values)
        except Unavailable:
            self.report.add("refused")
            return REFUSED, None
        except Exception as e:  # what else a driver raises says nothing of whether the write is applied
            self.report.add("unknown")
            self.report.add("%s: %s" % (kind, type(e).__name__))
            return UNKNOWN, None
        self.report.add("ops")
        return ACKED, result

    def read(self, statement, values=None, patience=0.0):
        """Returns rows, or None when no answer came."""
        end = time.monotonic() + patience
        while True:
            try:
                rows = list(self.session.execute(statement, values))
                self.report.add("ops")
                return rows
            except Exception as e:
                if time.monotonic() >= end:
                    self.report.add("read: " + type(e).__name__)
                    return None
                time.sleep(0.2)


class Register:
    """One row that one worker writes: version i is a value or a deletion. Reads at QUORUM may show any version from the newest that
    was acknowledged or seen on, but none that was refused."""

    def __init__(self, key):
        self.key = key
        self.next = 1
        self.floor = 0        # the newest version acknowledged or seen; 0: the row was never there
        self.deleted = {0}    # versions that are deletions
        self.refused = set()

    def step(self, attempt, statements, rng, report):
        if rng.random() < 0.5:
            self.check(attempt.read(statements["select"], (self.key,)), report)
            return
        version, self.next = self.next, self.next + 1
        if rng.random() < 0.2:
            self.deleted.add(version)
            outcome, _ = attempt.write("delete", statements["delete"], (self.key,))
        else:
            outcome, _ = attempt.write("write", statements["insert"], (self.key, version, "%d:%d" % (self.key, version)))
        if outcome == ACKED:
            self.floor = version
        elif outcome == REFUSED:
            self.refused.add(version)

    def check(self, rows, report):
        if rows is None:
            return
        if not rows:
            open_deletions = [v for v in self.deleted if v >= self.floor and v not in self.refused]
            if not open_deletions:
                report.violation("register %d: gone, although version %d was acknowledged or seen" % (self.key, self.floor))
                return
            self.floor = min(open_deletions)
            return
        version, text = rows[0].v, rows[0].t
        if version is None or text != "%d:%d" % (self.key, version):
            report.violation("register %d: torn row %r %r" % (self.key, version, text))
        elif version in self.refused or version >= self.next or version in self.deleted:
            report.violation("register %d: version %d was refused, deleted or never written" % (self.key, version))
        elif version < self.floor:
            report.violation("register %d: version %d after version %d was acknowledged or seen" % (self.key, version, self.floor))
        else:
            self.floor = version


class Registers(threading.Thread):
    def __init__(self, attempt, report, statements, keys, seed, stop):
        super().__init__(daemon=True)
        self.attempt, self.report, self.statements, self.stop = attempt, report, statements, stop
        self.registers = [Register(k) for k in keys]
        self.rng = random.Random(seed)

    def run(self):
        while not self.stop.is_set():
            self.rng.choice(self.registers).step(self.attempt, self.statements, self.rng, self.report)

    def verify(self):
        for r in self.registers:
            rows = self.attempt.read(self.statements["select_all"], (r.key,), patience=60)
            if rows is None:
                self.report.violation("register %d: no answer at ALL after everything was healed" % r.key)
            r.check(rows, self.report)


class Batches(threading.Thread):
    """Logged batches of several partitions: after healing each is there whole or not at all."""

    def __init__(self, attempt, report, statements, seed, stop):
        super().__init__(daemon=True)
        self.attempt, self.report, self.statements, self.seed, self.stop = attempt, report, statements, seed, stop
        self.outcomes = {}

    def run(self):
        n = 0
        while not self.stop.is_set():
            batch_id, n = self.seed * 1000000 + n, n + 1
            batch = BatchStatement(batch_type=BatchType.LOGGED, consistency_level=ConsistencyLevel.QUORUM)
            for part in range(BATCH_ROWS):
                batch.add(self.statements["batch_insert"], (batch_id * BATCH_ROWS + part, batch_id))
            self.outcomes[batch_id] = self.attempt.write("batch", batch)[0]

    def verify(self):
        half = {}
        for batch_id, outcome in self.outcomes.items():
            for _ in range(60):  # replay of the batch log takes its time
                there = 0
                for part in range(BATCH_ROWS):
                    rows = self.attempt.read(self.statements["batch_select"], (batch_id * BATCH_ROWS + part,), patience=60)
                    there += len(rows or [])
                if there in (0, BATCH_ROWS):
                    break
                time.sleep(1)
            if there not in (0, BATCH_ROWS):
                half[batch_id] = there
            if outcome == ACKED and there != BATCH_ROWS:
                self.report.violation("batch %d: acknowledged, and %d of %d rows are there" % (batch_id, there, BATCH_ROWS))
            if outcome == REFUSED and there != 0:
                self.report.violation("batch %d: refused, and %d rows are there" % (batch_id, there))
        for batch_id, there in half.items():
            self.report.violation("batch %d: %d of %d rows are there" % (batch_id, there, BATCH_ROWS))


class Counters(threading.Thread):
    """Increments: acknowledged <= value <= acknowledged + unknown."""

    def __init__(self, attempt, report, statements, keys, seed, stop):
        super().__init__(daemon=True)
        self.attempt, self.report, self.statements, self.keys, self.stop = attempt, report, statements, keys, stop
        self.rng = random.Random(seed)
        self.acked = dict.fromkeys(keys, 0)
        self.unknown = dict.fromkeys(keys, 0)

    def run(self):
        while not self.stop.is_set():
            key = self.rng.choice(self.keys)
            outcome, _ = self.attempt.write("counter", self.statements["increment"], (1, key))
            if outcome == ACKED:
                self.acked[key] += 1
            elif outcome == UNKNOWN:
                self.unknown[key] += 1
            if self.rng.random() < 0.3:
                self.check(key, self.statements["counter"], 0)

    def check(self, key, statement, patience):
        rows = self.attempt.read(statement, (key,), patience)
        if rows is None:
            if patience:
                self.report.violation("counter %d: no answer after everything was healed" % key)
            return
        value = rows[0].c if rows and rows[0].c is not None else 0
        if not self.acked[key] <= value <= self.acked[key] + self.unknown[key]:
            self.report.violation("counter %d: is %d with %d acknowledged and %d unknown" % (key, value, self.acked[key], self.unknown[key]))

    def verify(self):
        for key in self.keys:
            self.check(key, self.statements["counter_all"], 60)


class Chain:
    """A register that several workers move on by compare-and-set: no value is replaced twice."""

    def __init__(self, key):
        self.key = key
        self.lock = threading.Lock()
        self.next = 1
        self.replaced = {}   # old value -> new value, of the sets that were applied
        self.refused = set()
        self.applied = 0


class Cas(threading.Thread):
    def __init__(self, attempt, report, statements, chains, seed, stop, first):
        super().__init__(daemon=True)
        self.attempt, self.report, self.statements, self.chains, self.stop = attempt, report, statements, chains, stop
        self.first = first  # the chains are shared: the first worker checks them
        self.rng = random.Random(seed)

    def run(self):
        seen = {}
        while not self.stop.is_set():
            chain = self.rng.choice(self.chains)
            old = seen.get(chain.key)
            if old is None:
                rows = self.attempt.read(self.statements["serial"], (chain.key,))
                if not rows:
                    continue
                old = rows[0].v
            with chain.lock:
                new, chain.next = chain.next, chain.next + 1
            outcome, result = self.attempt.write("cas", self.statements["cas"], (new, chain.key, old))
            seen.pop(chain.key, None)
            if outcome == REFUSED:
                with chain.lock:
                    chain.refused.add(new)
            if outcome == ACKED:
                row = result.one()
                if row.applied:
                    self.moved(chain, old, new)
                    seen[chain.key] = new
                elif row.v == new:
                    self.report.violation("chain %d: not applied, and the value %d is there" % (chain.key, new))
                else:
                    seen[chain.key] = row.v

    def moved(self, chain, old, new):
        with chain.lock:
            if old in chain.replaced:
                self.report.violation("chain %d: %d was replaced by %d and by %d" % (chain.key, old, chain.replaced[old], new))
            chain.replaced[old] = new
            chain.applied += 1

    def verify(self):
        for chain in self.chains if self.first else []:
            rows = self.attempt.read(self.statements["serial"], (chain.key,), patience=60)
            if not rows:
                self.report.violation("chain %d: no answer or no row after everything was healed" % chain.key)
                continue
            value = rows[0].v
            if value in chain.refused or value >= chain.next:
                self.report.violation("chain %d: its value %d was refused or never written" % (chain.key, value))
            if value in chain.replaced:
                self.report.violation("chain %d: its value is %d, which was replaced by %d" % (chain.key, value, chain.replaced[value]))


def prepare(session, text, level, serial=None):
    statement = session.prepare(text)
    statement.consistency_level = level
    if serial is not None:
        statement.serial_consistency_level = serial
    return statement


def connect(args):
    profile = ExecutionProfile(load_balancing_policy=TokenAwarePolicy(RoundRobinPolicy()), retry_policy=FallthroughRetryPolicy(),
                               consistency_level=ConsistencyLevel.QUORUM, request_timeout=10)
    cluster = Cluster(args.hosts.split(","), execution_profiles={EXEC_PROFILE_DEFAULT: profile}, protocol_version=5,
                      reconnection_policy=ConstantReconnectionPolicy(0.5, None), connect_timeout=5, idle_heartbeat_interval=2,
                      idle_heartbeat_timeout=2)
    return cluster, cluster.connect()


def schema(session, features):
    session.execute("CREATE KEYSPACE faults WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
    session.execute("CREATE TABLE faults.registers (k int PRIMARY KEY, v int, t text)")
    if "batches" in features:
        session.execute("CREATE TABLE faults.batches (k int PRIMARY KEY, b int)")
    if "counters" in features:
        session.execute("CREATE TABLE faults.counters (k int PRIMARY KEY, c counter)")
    if "cas" in features:
        session.execute("CREATE TABLE faults.chains (k int PRIMARY KEY, v int)")


def statements(session, features):
    quorum, every = ConsistencyLevel.QUORUM, ConsistencyLevel.ALL
    out = {
        "insert": prepare(session, "INSERT INTO faults.registers (k, v, t) VALUES (?, ?, ?)", quorum),
        "delete": prepare(session, "DELETE FROM faults.registers WHERE k = ?", quorum),
        "select": prepare(session, "SELECT v, t FROM faults.registers WHERE k = ?", quorum),
        "select_all": prepare(session, "SELECT v, t FROM faults.registers WHERE k = ?", every),
    }
    if "batches" in features:
        out["batch_insert"] = prepare(session, "INSERT INTO faults.batches (k, b) VALUES (?, ?)", quorum)
        out["batch_select"] = prepare(session, "SELECT b FROM faults.batches WHERE k = ?", quorum)
    if "counters" in features:
        out["increment"] = prepare(session, "UPDATE faults.counters SET c = c + ? WHERE k = ?", quorum)
        out["counter"] = prepare(session, "SELECT c FROM faults.counters WHERE k = ?", quorum)
        out["counter_all"] = prepare(session, "SELECT c FROM faults.counters WHERE k = ?", every)
    if "cas" in features:
        out["cas"] = prepare(session, "UPDATE faults.chains SET v = ? WHERE k = ? IF v = ?", quorum, ConsistencyLevel.SERIAL)
        out["serial"] = prepare(session, "SELECT v FROM faults.chains WHERE k = ?", ConsistencyLevel.SERIAL)
    return out


def workers(args, features, attempt, report, prepared, stop):
    out = [Registers(attempt, report, prepared, range(w * args.keys, (w + 1) * args.keys), "%d registers %d" % (args.seed, w), stop)
           for w in range(args.workers)]
    if "batches" in features:
        out += [Batches(attempt, report, prepared, 1 + w, stop) for w in range(2)]
    if "counters" in features:
        out += [Counters(attempt, report, prepared, range(w * 4, w * 4 + 4), "%d counters %d" % (args.seed, w), stop) for w in range(2)]
    if "cas" in features:
        chains = [Chain(k) for k in range(4)]
        for c in chains:
            attempt.session.execute("INSERT INTO faults.chains (k, v) VALUES (%d, 0) IF NOT EXISTS" % c.key)
        out += [Cas(attempt, report, prepared, chains, "%d chains %d" % (args.seed, w), stop, first=w == 0) for w in range(3)]
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("hosts")
    p.add_argument("--seconds", type=float, default=40)
    p.add_argument("--workers", type=int, default=8)
    p.add_argument("--keys", type=int, default=25)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--features", default="registers")
    args = p.parse_args()
    features = args.features.split(",")
    cluster, session = connect(args)
    report, stop = Report(), threading.Event()
    attempt = Attempt(session, report)
    schema(session, features)
    all_workers = workers(args, features, attempt, report, statements(session, features), stop)
    print("running", flush=True)
    for w in all_workers:
        w.start()
    time.sleep(args.seconds)
    stop.set()
    for w in all_workers:
        w.join()
    print("paused", flush=True)
    sys.stdin.readline()
    for w in all_workers:
        w.verify()
    for name in sorted(report.counts):
        print("count", report.counts[name], name)
    print("done ops=%d unknown=%d refused=%d violations=%d" % (report.get("ops"), report.get("unknown"), report.get("refused"), report.violations), flush=True)
    cluster.shutdown()
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
