#!/usr/bin/env bash
# The same load against Helenus and a real Apache Cassandra 5.0.8, one after the other, in one run, with ratios:
# one node at ONE, then three nodes at RF 3 and QUORUM; then conditional writes (SERIAL, commit at QUORUM) on three nodes, over
# 10,000 keys and on one; then repair (scripts/peer-repair.sh has its settings). Needs a JDK 17 and Maven, about 12 GiB of memory and a quiet
# machine; takes about 25 minutes. The report is printed and written to OUT as Markdown, for docs/benchmarks.md.
#
#   scripts/peer-bench.sh [one] [three] [cas] [repair]     all by default
#
# ROWS1 (500000), ROWS3 (200000), SECONDS_EACH (20), WARM (15s), CONNS (8), DEPTH (16), HEAP1 (4g), HEAP3 (2g),
# ONLY=helenus leaves Cassandra out (of repair ONLY=cassandra Helenus), WORK (.cache/peer-bench), OUT ($WORK/report.md), NET (127.0.8: Helenus; Cassandra is on PEER_NET, 127.0.9)
set -euo pipefail
cd "$(dirname "$0")/.."
ROWS1=${ROWS1:-500000} ROWS3=${ROWS3:-200000} SECONDS_EACH=${SECONDS_EACH:-20} WARM=${WARM:-15s}
CONNS=${CONNS:-8} DEPTH=${DEPTH:-16} HEAP1=${HEAP1:-4g} HEAP3=${HEAP3:-2g} ONLY=${ONLY:-}
WORK=${WORK:-$PWD/.cache/peer-bench}
OUT=${OUT:-$WORK/report.md}
NET=${NET:-127.0.8}
BIN=$PWD/bin/helenus
declare -A pids=()

stop_helenus() {
  local n
  for n in "${!pids[@]}"; do kill "${pids[$n]}" 2>/dev/null || true; done
  for n in "${!pids[@]}"; do wait "${pids[$n]}" 2>/dev/null || true; unset "pids[$n]"; done
}
clean() { stop_helenus; [ -n "$ONLY" ] || ./scripts/peer.sh wipe; }
trap clean EXIT

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.3f", b - a }'; }
answers() { "$BIN" sh "$1" --connect-timeout 1s -e 'SELECT key FROM system.local' >/dev/null 2>&1; }
rss() { local sum=0 p; for p in "$@"; do sum=$((sum + $(awk '/^VmRSS/ {print $2}' "/proc/$p/status"))); done; echo $((sum / 1024)); }

# start_one N NODES FLAGS... starts the Nth of so many.
start_one() {
  local n=$1 seeds="" i
  for i in $(seq "$2"); do seeds+="${seeds:+,}$NET.$i"; done
  "$BIN" start --listen-address "$NET.$n" --data-dir "$WORK/helenus$n" --seeds "$seeds" "${@:3}" >> "$WORK/helenus$n.log" 2>&1 &
  pids[$n]=$!
}

# start_helenus NODES FLAGS...: starts all nodes at once and notes how long it takes until each answers a query.
start_helenus() {
  local nodes=$1 n began; shift
  began=$(now)
  for n in $(seq "$nodes"); do start_one "$n" "$nodes" "$@"; done
  for n in $(seq "$nodes"); do
    until answers "$NET.$n"; do
      kill -0 "${pids[$n]}" 2>/dev/null || { tail "$WORK/helenus$n.log"; exit 1; }
      sleep 0.01
    done
  done
  started=$(since "$began")
}

# fact NAME VALUE keeps a figure that is not in the load generator's reports.
fact() { echo "$1 $2" >> "$WORK/facts"; }

# load NAME HOSTS RF LEVEL ROWS OPS PIDS measures and keeps the reports as NAME.json.
load() {
  "$BIN" bench --hosts "$2" --setup --rf "$3" --cl "$4" --rows "$5" --op "$6" --conns "$CONNS" --depth "$DEPTH" \
    --warm "$WARM" --duration "${SECONDS_EACH}s" --pids "$7" --fsync-dir "$WORK" --json "$WORK/$1.json"
}

joined() { local IFS=,; echo "$*"; }

helenus() { # helenus KEY NODES RF LEVEL ROWS
  local hosts="" n mode
  for n in $(seq "$2"); do hosts+="${hosts:+,}$NET.$n"; done
  for mode in group periodic; do
    echo "== Helenus, $2 node(s), commit_sync: $mode"
    rm -rf "$WORK"/helenus?
    start_helenus "$2" --commit-sync "$mode"
    if [ "$mode" = group ]; then fact "$1.helenus.start" "$started"; sleep 2; fact "$1.helenus.idle" "$(rss "${pids[@]}")"; fi
    load "$1.helenus.$mode" "$hosts" "$3" "$4" "$5" "$([ "$mode" = group ] && echo load,write,read,mixed || echo load,write)" "$(joined "${pids[@]}")"
    if [ "$mode" = group ] && [ "$2" = 1 ]; then
      kill -9 "${pids[1]}"; wait "${pids[1]}" 2>/dev/null || true
      start_helenus 1 --commit-sync "$mode"
      fact "$1.helenus.restart" "$started"
    fi
    stop_helenus
  done
}

cassandra() { # cassandra KEY NODES RF LEVEL ROWS HEAP
  [ "$ONLY" = helenus ] && return
  echo "== Cassandra, $2 node(s), heap $6"
  local hosts="" n began list=()
  began=$(now)
  for n in $(seq "$2"); do HEAP=$6 ./scripts/peer.sh start "$n"; hosts+="${hosts:+,}127.0.9.$n"; list+=("$(cat "${PEER_DIR:-.cache/peer}/node$n/pid")"); done
  fact "$1.cassandra.start" "$(since "$began")"
  fact "$1.cassandra.idle" "$(rss "${list[@]}")"
  load "$1.cassandra" "$hosts" "$3" "$4" "$5" load,write,read,mixed "$(joined "${list[@]}")" || echo "some of its answers were errors: they are counted in the report"
  ./scripts/peer.sh wipe
}

# conditional SERVER HOSTS PIDS: over 10,000 keys, then on one key with 16 requests in flight.
conditional() {
  local wrong=0
  "$BIN" bench --hosts "$2" --setup --rf 3 --cl QUORUM --rows 10000 --op load,cas --conns "$CONNS" --depth "$DEPTH" \
    --warm "$WARM" --duration "${SECONDS_EACH}s" --pids "$3" --fsync-dir "$WORK" --json "$WORK/cas.$1.json" || wrong=1
  "$BIN" bench --hosts "$2" --cl QUORUM --rows 1 --op cas --conns 4 --depth 4 \
    --warm "$WARM" --duration "${SECONDS_EACH}s" --pids "$3" --json "$WORK/hot.$1.json" || wrong=1
  return "$wrong"
}

cas() {
  local hosts="" n list=()
  echo "== Helenus, 3 nodes, conditional writes"
  rm -rf "$WORK"/helenus?
  start_helenus 3
  for n in 1 2 3; do hosts+="${hosts:+,}$NET.$n"; done
  sleep 2
  conditional helenus.group "$hosts" "$(joined "${pids[@]}")"
  stop_helenus
  [ "$ONLY" = helenus ] && return
  echo "== Cassandra, 3 nodes, heap $HEAP3, conditional writes"
  hosts=""
  for n in 1 2 3; do HEAP=$HEAP3 ./scripts/peer.sh start "$n"; hosts+="${hosts:+,}127.0.9.$n"; list+=("$(cat "${PEER_DIR:-.cache/peer}/node$n/pid")"); done
  conditional cassandra "$hosts" "$(joined "${list[@]}")" || echo "some of its answers were errors: they are counted in the report"
  ./scripts/peer.sh wipe
}

# shellcheck source=scripts/peer-repair.sh
source scripts/peer-repair.sh

mkdir -p "$WORK" bin
rm -f "$WORK"/facts "$WORK"/*.json "$WORK"/*.log
CGO_ENABLED=0 go build -trimpath -o "$BIN" ./cmd/helenus
[ -n "$ONLY" ] || ./scripts/peer.sh fetch
if [ $# -eq 0 ]; then set -- one three cas repair; fi
for what in "$@"; do
  case $what in
    one) helenus one 1 1 ONE "$ROWS1"; cassandra one 1 1 ONE "$ROWS1" "$HEAP1" ;;
    three) helenus three 3 3 QUORUM "$ROWS3"; cassandra three 3 3 QUORUM "$ROWS3" "$HEAP3" ;;
    cas) cas ;;
    repair) repair ;;
    *) sed -n '2,13p' "$0"; exit 2 ;;
  esac
done
python3 scripts/peer_report.py "$WORK" "$CONNS" "$DEPTH" | tee "$OUT"
