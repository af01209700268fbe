"""counters.py HOSTS SECONDS: counts through the stock driver, without retries, and keeps a ledger. It says "counting" when it
has begun; the last line says what was acknowledged, what is unknown and what every replica knows in the end."""
import json
import random
import sys
import threading
import time

from cassandra import ConsistencyLevel, OperationTimedOut, Unavailable, WriteFailure, WriteTimeout
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.policies import DCAwareRoundRobinPolicy, FallthroughRetryPolicy, TokenAwarePolicy

KEYS, THREADS = 40, 8


def main():
    hosts, seconds = sys.argv[1].split(","), float(sys.argv[2])
    # Increments are not idempotent: whoever retries one that may be applied counts twice.
    profile = ExecutionProfile(load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy()), retry_policy=FallthroughRetryPolicy(),
                               consistency_level=ConsistencyLevel.QUORUM, request_timeout=10)
    cluster = Cluster(hosts, execution_profiles={EXEC_PROFILE_DEFAULT: profile})
    session = cluster.connect()
    session.execute("CREATE KEYSPACE counters WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}")
    session.execute("CREATE TABLE counters.t (k int, c int, n counter, m counter, PRIMARY KEY (k, c))")
    table = cluster.metadata.keyspaces["counters"].tables["t"]
    if not (table.columns["n"].cql_type == "counter" and "n counter" in table.export_as_string()):
        raise SystemExit("the driver does not see counters: " + table.export_as_string())
    up = session.prepare("UPDATE counters.t SET n = n + ?, m = m - ? WHERE k = ? AND c = 0")
    read = session.prepare("SELECT n, m FROM counters.t WHERE k = ? AND c = 0")
    read.consistency_level = ConsistencyLevel.ALL

    acked, unknown, kinds = [0] * KEYS, [0] * KEYS, {}
    lock = threading.Lock()
    end = time.time() + seconds

    def count(seed):
        rng = random.Random(seed)
        while time.time() < end:
            k, by = rng.randrange(KEYS), rng.randrange(1, 10)
            kind = "acknowledged"
            try:
                session.execute(up, (by, by, k))
            except WriteTimeout as e:
                if e.write_type != 6 and str(e.write_type) != "COUNTER":  # cassandra.WriteType.COUNTER
                    kind = "write type %s" % e.write_type
                else:
                    kind = "timeout"
            except (OperationTimedOut, ConnectionException, WriteFailure) as e:
                kind = type(e).__name__
            except (Unavailable, NoHostAvailable) as e:
                kind = type(e).__name__
            with lock:
                kinds[kind] = kinds.get(kind, 0) + 1
                if kind == "acknowledged":
                    acked[k] += by
                elif kind != "Unavailable":
                    unknown[k] += by

    threads = [threading.Thread(target=count, args=(i,)) for i in range(THREADS)]
    for t in threads:
        t.start()
    print("counting", flush=True)
    for t in threads:
        t.join()

    wrong, value = [], 0
    for k in range(KEYS):
        for attempt in range(100):
            try:
                row = session.execute(read, (k,)).one()
                break
            except Exception as e:  # the node that was killed may still be starting
                last = e
                time.sleep(0.2)
        else:
            raise SystemExit("no read at ALL: %s" % last)
        n = row.n if row else 0
        if n != (-row.m if row else 0):
            wrong.append("counter %d: n is %d, m is %d" % (k, n, row.m))
        if not acked[k] <= n <= acked[k] + unknown[k]:
            wrong.append("counter %d is %d: %d were acknowledged, %d are unknown" % (k, n, acked[k], unknown[k]))
        value += n
    print(json.dumps({"acked": sum(acked), "unknown": sum(unknown), "value": value, "kinds": kinds, "wrong": wrong}))
    cluster.shutdown()


if __name__ == "__main__":
    main()
