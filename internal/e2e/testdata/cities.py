"""Loads and checks the cities of testdata/cities.csv.gz through the stock Python driver.

  cities.py load  HOSTS [--protocol 5] [--only]   create the table, write every row at QUORUM with default policies
  cities.py check HOSTS [--cl ONE] [--only]       read every row and compare with the file
  cities.py read-all HOSTS                        read every partition at ALL (blocking read repair makes replicas equal)

--only restricts the driver to HOSTS (white list), so that a test decides who coordinates. Prints progress lines that
tests wait for: "half" when half of the rows are written, "done ok=N failed=N" at the end; exit code 1 on any failure
(unless --allow-failures, which prints the keys whose fate is unknown).
"""
import argparse
import csv
import gzip
import sys

from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster, ExecutionProfile, EXEC_PROFILE_DEFAULT
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import WhiteListRoundRobinPolicy, DCAwareRoundRobinPolicy, TokenAwarePolicy

COLUMNS = ["country", "population", "city_id", "name", "alt_name", "admin", "feature", "longitude", "latitude"]
CREATE = """CREATE TABLE IF NOT EXISTS geo.cities (country text, population bigint, city_id int, name text, alt_name text,
  admin text, feature text, longitude double, latitude double, PRIMARY KEY (country, population, city_id))
  WITH CLUSTERING ORDER BY (population DESC, city_id ASC)"""


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as f:
        for r in csv.DictReader(f):
            yield (r["country"], int(r["population"]), int(r["city_id"]), r["name"], r["alt_name"], r["admin"],
                   r["feature"], float(r["longitude"]), float(r["latitude"]))


def connect(args):
    hosts = args.hosts.split(",")
    policy = WhiteListRoundRobinPolicy(hosts) if args.only else TokenAwarePolicy(DCAwareRoundRobinPolicy())
    profile = ExecutionProfile(load_balancing_policy=policy, consistency_level=getattr(ConsistencyLevel, args.cl),
                               request_timeout=args.timeout)
    cluster = Cluster(hosts, protocol_version=args.protocol, execution_profiles={EXEC_PROFILE_DEFAULT: profile})
    return cluster, cluster.connect()


def load(args):
    cluster, session = connect(args)
    session.execute("CREATE KEYSPACE IF NOT EXISTS geo WITH replication = {'class': 'SimpleStrategy', 'replication_factor': %d}" % args.rf)
    session.execute(CREATE)
    insert = session.prepare("INSERT INTO geo.cities (%s) VALUES (%s)" % (", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))))
    data = list(rows(args.file))
    print("rows", len(data), flush=True)
    failed, done, errors = [], 0, {}
    for start in range(0, len(data), 4096):
        part = data[start:start + 4096]
        results = execute_concurrent_with_args(session, insert, part, concurrency=args.concurrency, raise_on_first_error=False)
        for row, (ok, result) in zip(part, results):
            done += ok
            if not ok:
                failed.append(row)
                errors[repr(result)[:200]] = errors.get(repr(result)[:200], 0) + 1
        if start <= len(data) // 2 < start + 4096:
            print("half", flush=True)
    for e, n in sorted(errors.items()):
        print("error x%d: %s" % (n, e), flush=True)
    for row in failed:
        print("unknown", row[0], row[1], row[2])
    print("done ok=%d failed=%d" % (done, len(failed)), flush=True)
    cluster.shutdown()
    return 0 if args.allow_failures or not failed else 1


def check(args):
    cluster, session = connect(args)
    want = {}
    for r in rows(args.file):
        want.setdefault(r[0], {})[(r[1], r[2])] = r
    unknown = set()
    if args.unknown:
        with open(args.unknown) as f:
            for line in f:
                p = line.split()
                if p and p[0] == "unknown":
                    unknown.add((p[1], int(p[2]), int(p[3])))
    select = session.prepare("SELECT %s FROM geo.cities WHERE country = ?" % ", ".join(COLUMNS))
    wrong = seen = missing = 0
    for country, cities in sorted(want.items()):
        got, last = set(), None
        for r in session.execute(select, (country,)):
            r = tuple(r)
            seen += 1
            key = (-r[1], r[2])
            if last is not None and key <= last:
                wrong += 1
                if wrong <= 5:
                    print("out of order", country, last, key)
            last = key
            if cities.get((r[1], r[2])) != r:
                wrong += 1
                if wrong <= 5:
                    print("differs", r, "want", cities.get((r[1], r[2])))
            got.add((r[1], r[2]))
        for k in cities:
            if k not in got and (country,) + k not in unknown:
                missing += 1
                if missing <= 5:
                    print("missing", country, k)
    print("checked rows=%d wrong=%d missing=%d" % (seen, wrong, missing), flush=True)
    cluster.shutdown()
    return 1 if wrong or missing else 0


def read_all(args):
    args.cl = "ALL"
    return check(args)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["load", "check", "read-all"])
    p.add_argument("hosts")
    p.add_argument("--file", required=True)
    p.add_argument("--protocol", type=int, default=5)
    p.add_argument("--rf", type=int, default=3)
    p.add_argument("--cl", default="QUORUM")
    p.add_argument("--only", action="store_true")
    p.add_argument("--allow-failures", action="store_true")
    p.add_argument("--unknown", help="output of load: rows whose fate is unknown")
    p.add_argument("--concurrency", type=int, default=100)
    p.add_argument("--timeout", type=float, default=10)
    args = p.parse_args()
    sys.exit({"load": load, "check": check, "read-all": read_all}[args.what](args))


if __name__ == "__main__":
    main()
