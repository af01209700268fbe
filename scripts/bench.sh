#!/usr/bin/env bash
# Speed of this build: the Go benchmarks of the hot paths, then every operation of helenus bench on a fresh node.
# BENCHTIME (1s) of each Go benchmark, PACKAGES (those with benchmarks), ROWS (500000), CONNS (8), DEPTH (16),
# SECONDS_EACH (10), FLAGS of the node.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
WORK=$PWD/.cache/bench
NET=127.0.7
mkdir -p "$WORK" bin
rm -rf "$WORK"/data
go build -trimpath -o bin/helenus ./cmd/helenus

PACKAGES=${PACKAGES-$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n1 dirname | sort -u)}
for p in $PACKAGES; do
  go test -run '^$' -bench . -benchmem -benchtime "${BENCHTIME:-1s}" "$p"
done

# shellcheck disable=SC2086
./bin/helenus start --listen-address $NET.1 --data-dir "$WORK/data" ${FLAGS:-} > "$WORK/node.log" 2>&1 &
node=$!
trap 'kill $node 2>/dev/null; wait $node 2>/dev/null || true' EXIT
until ./bin/helenus sh $NET.1 --connect-timeout 1s -e 'SELECT key FROM system.local' >/dev/null 2>&1; do
  kill -0 $node || { tail "$WORK/node.log"; exit 1; }
  sleep 0.02
done
./bin/helenus bench --hosts $NET.1 --setup --rows "${ROWS:-500000}" --op all --conns "${CONNS:-8}" --depth "${DEPTH:-16}" \
  --duration "${SECONDS_EACH:-10}s" --pids $node --fsync-dir "$WORK" --json "$WORK/report.json" --plot "$WORK/plot.svg"
