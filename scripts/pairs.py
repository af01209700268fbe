"""Prints the ratio of throughput of two builds over pairs of measurements: pairs.py FOLDER PAIRS, with FOLDER/{then,now}.N.json of helenus bench."""
import json
import math
import statistics
import sys

# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 14: 2.14, 19: 2.09}


def reports(folder, build, n):
    with open(f"{folder}/{build}.{n}.json") as f:
        return {r["op"]: r for r in json.load(f)}


def main():
    folder, pairs = sys.argv[1], int(sys.argv[2])
    runs = [(reports(folder, "then", n), reports(folder, "now", n)) for n in range(1, pairs + 1)]
    print("| operation | then op/s | now op/s | ratio | 95 % interval | server CPU ratio |")
    print("|---|---|---|---|---|---|")
    for op in runs[0][0]:
        logs = [math.log(now[op]["ops_per_second"] / then[op]["ops_per_second"]) for then, now in runs]
        mean = statistics.fmean(logs)
        wide = 0.0
        if pairs > 1:
            t = T.get(pairs - 1) or T[max(k for k in T if k <= pairs - 1)]
            wide = t * statistics.stdev(logs) / math.sqrt(pairs)
        cpu = statistics.median(now[op]["server_cpu_us_per_op"] / then[op]["server_cpu_us_per_op"] for then, now in runs)
        middle = [statistics.median(r[i][op]["ops_per_second"] for r in runs) for i in (0, 1)]
        print(f"| {op} | {middle[0]:,.0f} | {middle[1]:,.0f} | {math.exp(mean):.3f} | {math.exp(mean - wide):.3f} to {math.exp(mean + wide):.3f} | {cpu:.2f} |")


main()
