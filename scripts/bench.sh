#!/usr/bin/env bash
# Speed of this build: the Go benchmarks of the hot paths; start-up times and idle memory; then every operation of helenus
# bench on a fresh node. BENCHTIME (1s) of each Go benchmark, PACKAGES (those with benchmarks), ROWS (500000), CONNS (8),
# DEPTH (16), SECONDS_EACH (10), IDLE (10: seconds before memory is read), FLAGS of the node, NET (127.0.7).
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
WORK=$PWD/.cache/bench
NET=${NET:-127.0.7}
mkdir -p "$WORK" bin
rm -rf "$WORK"/data*
go build -trimpath -o bin/helenus ./cmd/helenus

nodes=()
end() { # SIGNAL: ends all nodes
  for pid in "${nodes[@]}"; do kill "-$1" "$pid" 2>/dev/null || true; done
  for pid in "${nodes[@]}"; do wait "$pid" 2>/dev/null || true; done
  nodes=()
}
trap 'end KILL' EXIT

now() { echo $(($(date +%s%N) / 1000000)); }
start() { # N SEEDS: starts node N
  # shellcheck disable=SC2086
  ./bin/helenus start --listen-address "$NET.$1" --seeds "$2" --data-dir "$WORK/data$1" ${FLAGS:-} > "$WORK/node$1.log" 2>&1 &
  nodes+=($!)
}
await() { # N QUERY TEXT: until the answer of node N has TEXT in it
  until ./bin/helenus sh "$NET.$1" --connect-timeout 1s -e "$2" 2>/dev/null | grep -q "$3"; do
    for pid in "${nodes[@]}"; do kill -0 "$pid" || { tail "$WORK"/node*.log; exit 1; }; done
    sleep 0.02
  done
}
resident() { awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$1/status"; }

for p in ${PACKAGES-$(git grep -l '^func Benchmark' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's|^|./|')}; do
  go test -run '^$' -bench . -benchmem -benchtime "${BENCHTIME:-1s}" "$p"
done

echo "== three processes"
began=$(now)
for n in 1 2 3; do start $n "$NET.1,$NET.2,$NET.3"; done
for n in 1 2 3; do await $n 'SELECT count(*) AS others FROM system.peers' '^ *2 *$'; done
echo "three new nodes form a cluster and answer after $(($(now) - began)) ms"
end KILL
rm -rf "$WORK"/data*

echo "== one process"
began=$(now)
start 1 "$NET.1"
await 1 'SELECT key FROM system.local' local
echo "a new node answers after $(($(now) - began)) ms"
sleep "${IDLE:-10}"
echo "an idle node has $(resident "${nodes[0]}") MiB resident"
./bin/helenus bench --hosts "$NET.1" --setup --rows "${ROWS:-500000}" --op all --conns "${CONNS:-8}" --depth "${DEPTH:-16}" \
  --duration "${SECONDS_EACH:-10}s" --pids "${nodes[0]}" --fsync-dir "$WORK" --json "$WORK/report.json" --plot "$WORK/plot.svg"
echo "after the load it has $(resident "${nodes[0]}") MiB resident"
end KILL
began=$(now)
start 1 "$NET.1"
await 1 'SELECT key FROM system.local' local
echo "after kill -9 it answers after $(($(now) - began)) ms"
