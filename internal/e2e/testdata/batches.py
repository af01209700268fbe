"""batches.py write|check LEDGER HOSTS: logged batches over many partitions, and what became of them.

write: writers make batch after batch at QUORUM until the file LEDGER.stop is there, and note in LEDGER what each came to;
check: each batch is there whole or not at all, and whole when it was acknowledged; the last line of both is a report.
"""
import collections
import json
import os
import sys
import threading
import time

from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster, ExecutionProfile, EXEC_PROFILE_DEFAULT
from cassandra.policies import RoundRobinPolicy, ConstantReconnectionPolicy
from cassandra.query import BatchStatement, BatchType, SimpleStatement

WRITERS = 6
PARTS = 12


def connect(hosts):
    profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy(), request_timeout=10, consistency_level=ConsistencyLevel.QUORUM)
    for _ in range(100):
        try:
            cluster = Cluster(hosts.split(","), execution_profiles={EXEC_PROFILE_DEFAULT: profile},
                              reconnection_policy=ConstantReconnectionPolicy(0.2, None), connect_timeout=5)
            return cluster, cluster.connect()
        except Exception:
            time.sleep(0.2)
    raise SystemExit("no connection")


def write(ledger, hosts):
    cluster, session = connect(hosts)
    insert = session.prepare("INSERT INTO b.t (id, part, v) VALUES (?, ?, ?)")
    other = session.prepare("INSERT INTO b2.u (id, part) VALUES (?, ?)")
    lock = threading.Lock()
    counts = collections.Counter()

    def writer(w, out):
        n = 0
        while not os.path.exists(ledger + ".stop"):
            ident = w * 1000000 + n
            n += 1
            batch = BatchStatement(batch_type=BatchType.LOGGED, consistency_level=ConsistencyLevel.QUORUM)
            for p in range(PARTS):
                batch.add(insert, (ident, p, "value %d.%d" % (ident, p)))
            batch.add(other, (ident, 0))
            try:
                session.execute(batch)
                outcome = "ok"
            except Exception as e:  # every kind of error leaves it open, or refuses: the check says that it is no half
                outcome = type(e).__name__
                time.sleep(0.02)
            with lock:
                counts[outcome] += 1
                out.write("%d %s\n" % (ident, outcome))
                out.flush()

    with open(ledger, "w") as out:
        threads = [threading.Thread(target=writer, args=(w, out)) for w in range(WRITERS)]
        for t in threads:
            t.start()
        print("writing", flush=True)
        for t in threads:
            t.join()
    print(json.dumps(counts))
    cluster.shutdown()


def check(ledger, hosts):
    cluster, session = connect(hosts)
    there = collections.Counter()
    for query in ("SELECT id, part FROM b.t", "SELECT id, part FROM b2.u"):
        for row in session.execute(SimpleStatement(query, consistency_level=ConsistencyLevel.ALL, fetch_size=1000)):
            there[row.id] += 1
    report = collections.Counter()
    for line in open(ledger):
        ident, outcome = line.split()
        found = there[int(ident)]
        if found not in (0, PARTS + 1):
            report["half"] += 1
            print("batch %s (%s): %d of %d" % (ident, outcome, found, PARTS + 1))
        elif outcome == "ok" and not found:
            report["lost"] += 1
        report["acknowledged" if outcome == "ok" else "open"] += 1
        report["whole"] += found == PARTS + 1
    print(json.dumps(report))
    cluster.shutdown()


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])
