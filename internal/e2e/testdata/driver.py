"""driver.py HOST KEYSPACE RF ROWS: creates, prepares, writes, pages and reads; the last line says what happened."""
import json
import sys
import time

from cassandra.cluster import Cluster
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import SimpleStatement


def check(row, want=None):
    if want is not None and row.id != want:
        raise SystemExit("asked for %d, got %d" % (want, row.id))
    if row.v != "value %d" % row.id:
        raise SystemExit("row %d is %s" % (row.id, row.v))


def main():
    host, keyspace, rf, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    cluster = Cluster([host])  # token-aware by default
    session = cluster.connect()
    session.default_timeout = 20
    session.execute("CREATE KEYSPACE %s WITH replication = {'class': 'SimpleStrategy', 'replication_factor': %d}" % (keyspace, rf))
    session.execute("CREATE TABLE %s.t (id int PRIMARY KEY, v text)" % keyspace)
    time.sleep(1.5)  # pools to every node are open by then

    insert = session.prepare("INSERT INTO %s.t (id, v) VALUES (?, ?)" % keyspace)
    execute_concurrent_with_args(session, insert, [(i, "value %d" % i) for i in range(rows)], concurrency=64)

    pages = paged = 0
    result = session.execute(SimpleStatement("SELECT id, v FROM %s.t" % keyspace, fetch_size=100))
    while True:
        pages += 1
        if len(result.current_rows) > 100:
            raise SystemExit("a page of %d rows" % len(result.current_rows))
        for row in result.current_rows:
            check(row)
        paged += len(result.current_rows)
        if not result.has_more_pages:
            break
        result.fetch_next_page()

    select = session.prepare("SELECT id, v FROM %s.t WHERE id = ?" % keyspace)
    read = 0
    for i in range(rows):
        check(session.execute(select, (i,)).one(), i)
        read += 1
    connected = sum(1 for state in session.get_pool_state().values() if state["open_count"] > 0)
    print(json.dumps({"nodes": connected, "written": rows, "paged": paged, "pages": pages, "read": read,
                      "version": "V%d" % cluster.protocol_version}))
    cluster.shutdown()


if __name__ == "__main__":
    main()
