#!/usr/bin/env bash
# Is this build slower than an earlier one? One node of each, in turns, the same load; the geometric mean of the ratios of throughput (this build's by the
# other's), and its 95 % interval, for each operation; the load comes from the earlier build. The machine should be quiet; takes about 1 minute per pair.
#
#   scripts/pairs.sh REVISION [PAIRS]     10 pairs by default
#
# ROWS (200000), SECONDS_EACH (5), WARM (2s), CONNS (8), DEPTH (16), OPS (load,write,read,mixed)
set -euo pipefail
cd "$(dirname "$0")/.."
REV=${1:?a revision to compare with} PAIRS=${2:-10}
ROWS=${ROWS:-200000} SECONDS_EACH=${SECONDS_EACH:-5} WARM=${WARM:-2s} CONNS=${CONNS:-8} DEPTH=${DEPTH:-16} OPS=${OPS:-load,write,read,mixed}
WORK=$PWD/.cache/pairs ADDR=127.0.7.1
export CGO_ENABLED=0
pid=""
stop() { [ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; }; pid=""; rm -rf "$WORK/data"; }
trap 'stop; git worktree remove --force "$WORK/source" 2>/dev/null || true' EXIT

rm -rf "$WORK"; mkdir -p "$WORK"
git worktree add -q --detach "$WORK/source" "$REV"
(cd "$WORK/source" && go build -trimpath -o "$WORK/then" ./cmd/helenus)
go build -trimpath -o "$WORK/now" ./cmd/helenus

measure() { # measure then|now N
  "$WORK/$1" start --listen-address "$ADDR" --data-dir "$WORK/data" > "$WORK/$1.log" 2>&1 & pid=$!
  until "$WORK/now" sh "$ADDR" --connect-timeout 1s -e 'SELECT key FROM system.local' > /dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || { tail "$WORK/$1.log"; exit 1; }
    sleep 0.05
  done
  "$WORK/then" bench --hosts "$ADDR" --setup --rows "$ROWS" --op "$OPS" --conns "$CONNS" --depth "$DEPTH" --warm "$WARM" --duration "${SECONDS_EACH}s" \
    --pids "$pid" --json "$WORK/$1.$2.json" > /dev/null
  stop
}

for n in $(seq "$PAIRS"); do # who is first changes, so that a drift of the machine favours neither
  if [ $((n % 2)) = 1 ]; then measure then "$n"; measure now "$n"; else measure now "$n"; measure then "$n"; fi
done
python3 scripts/pairs.py "$WORK" "$PAIRS"
