"""peer_report.py FOLDER CONNS DEPTH: turns what scripts/peer-bench.sh measured into Markdown."""
import datetime
import json
import os
import platform
import sys

TITLES = {"one": "1 node, ONE", "three": "3 nodes, RF 3, QUORUM", "cas": "3 nodes, RF 3, conditional writes over 10,000 keys",
          "hot": "3 nodes, RF 3, conditional writes on one key, 16 in flight"}
# Ratios to reach (Helenus over Cassandra, by operation) and the part of p99 and of memory that is allowed.
GOALS = {"one": {"read": 5, "mixed": 4, "write": 2.5, "write (periodic)": 4}, "three": {"read": 8, "mixed": 8, "write": 8},
         "cas": {"cas": 10}, "hot": {}}


def reports(folder, name):
    path = os.path.join(folder, name + ".json")
    if not os.path.exists(path):
        return {}
    with open(path) as f:
        return {r["op"]: r for r in json.load(f)}


def facts(folder):
    path = os.path.join(folder, "facts")
    if not os.path.exists(path):
        return {}
    with open(path) as f:
        return dict(line.split() for line in f)


def row(name, op, r):
    return "| %s | %s | %s | %.2f | %.2f | %.0f | %.0f | %s | %s |" % (
        name, op, format(round(r["ops_per_second"]), ","), r["latency_us"]["p50"] / 1000, r["latency_us"]["p99"] / 1000,
        r["server_cpu_us_per_op"], r["server_rss_mib"], "%.0f" % r["fsync_p50_us"] if r.get("fsync_p50_us") else "-",
        r["bad"] or "0")


def compare(key, op, ours, theirs):
    ratio = ours["ops_per_second"] / theirs["ops_per_second"]
    goal = GOALS[key].get(op)
    return "| %s | %.1fx | %s | %.2f | %.2f |" % (
        op, ratio, "-" if goal is None else "%gx: %s" % (goal, "reached" if ratio >= goal else "**missed**"),
        ours["latency_us"]["p99"] / theirs["latency_us"]["p99"], ours["server_rss_mib"] / theirs["server_rss_mib"])


def section(folder, key):
    group, periodic, theirs = (reports(folder, key + "." + n) for n in ("helenus.group", "helenus.periodic", "cassandra"))
    if not group:
        return
    print("\n### %s\n" % TITLES[key])
    print("| server | operation | op/s | p50 ms | p99 ms | server CPU us/op | memory MiB | fsync us | wrong |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, ops in (("Helenus", group), ("Helenus, periodic", periodic), ("Cassandra", theirs)):
        for op in ("load", "write", "read", "mixed", "cas"):
            if op in ops:
                print(row(name, op, ops[op]))
    if not theirs:
        return
    print("\n| operation | throughput, Helenus / Cassandra | goal | p99 ratio (goal 0.20) | memory ratio (goal 0.125) |")
    print("|---|---|---|---|---|")
    for op in ("load", "write", "read", "mixed", "cas"):
        if op in group and op in theirs:
            print(compare(key, op, group[op], theirs[op]))
    if "write" in periodic and "write" in theirs:
        print(compare(key, "write (periodic)", periodic["write"], theirs["write"]))


def repaired(known, server, name):
    """Returns seconds, seconds of CPU, rows sent, bytes of rows and bytes of messages of a repair, None where one is not known."""
    if "repair.%s.%s" % (server, name) not in known:
        return None
    return [float(v) if v else None for v in known["repair.%s.%s" % (server, name)].split(",")]


REPAIRS = (("first", "equal rows, the first time: all are read", 0), ("again", "equal rows, nothing changed since", 20), ("full", "equal rows, `--full`: all are read again", 0),
           ("empty", "one replica empty", 5), ("verify", "once more", 0))
PEER_OF = {"first": "full", "again": "full", "full": "full", "empty": "empty"}


def repairs(known):
    rows = known.get("repair.helenus.rows")
    if rows is None:
        return
    print("\n### Repair, 3 nodes, RF 3, %s rows of 5 x 34 bytes\n" % format(int(rows), ","))
    theirs = known.get("repair.cassandra.rows")
    if theirs is not None and theirs != rows:
        print("Cassandra with %s rows.\n" % format(int(theirs), ","))
    print("| what | Helenus s | CPU s | rows sent | bytes of rows | bytes of all messages | Cassandra, `-full` s | CPU s | bytes of all messages | times as fast |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    differ = [(k.rsplit(".", 1)[0].rsplit(".", 1)[1] + "." + k.rsplit(".", 1)[1], int(k.rsplit(".", 1)[1])) for k in known if k.startswith("repair.helenus.differ.")]
    more = [(name, "%s rows of one replica are older" % format(n, ","), 0) for name, n in sorted(differ, key=lambda d: d[1])]
    for name, label, goal in REPAIRS[:3] + tuple(more) + REPAIRS[3:]:
        ours, peer = repaired(known, "helenus", name), repaired(known, "cassandra", PEER_OF.get(name, name))
        if ours is None:
            continue
        cells = ["%.2f" % ours[0], "%.2f" % ours[1]] + [format(int(v), ",") for v in ours[2:]]
        cells += ["-"] * 4 if peer is None else ["%.2f" % peer[0], "%.2f" % peer[1], format(int(peer[4]), ","), "%.1fx" % (peer[0] / ours[0])]
        if peer is not None and goal:
            cells[-1] += " (goal %dx: %s)" % (goal, "reached" if peer[0] >= goal * ours[0] else "**missed**")
        print("| %s | %s |" % (label, " | ".join(cells)))


def main():
    folder, conns, depth = sys.argv[1:4]
    known = facts(folder)
    print("## Helenus and Apache Cassandra 5.0.8, %s\n" % datetime.date.today())
    print("%s, %d CPUs shared with the load generator; %s connections with %s requests in flight each, every answer checked; "
          "default settings: Helenus waits for its fsync (`commit_sync: group`), Cassandra does not (`commitlog_sync: periodic`)."
          % (platform.platform(), os.cpu_count(), conns, depth))
    for key in TITLES:
        section(folder, key)
    repairs(known)
    if not any(k.endswith((".start", ".idle", ".restart")) for k in known):
        return
    print("\n| | Helenus | Cassandra |\n|---|---|---|")
    for key, title in TITLES.items():
        for what, unit, label in (("start", "s", "start to the first answered query"), ("restart", "s", "the same after kill -9"),
                                  ("idle", "MiB", "resident memory when idle")):
            ours, theirs = known.get("%s.helenus.%s" % (key, what)), known.get("%s.cassandra.%s" % (key, what))
            if ours or theirs:
                show = [("%.2f %s" if unit == "s" else "%.0f %s") % (float(v), unit) if v else "-" for v in (ours, theirs)]
                print("| %s: %s | %s | %s |" % (title, label, *show))


if __name__ == "__main__":
    main()
