#!/usr/bin/env bash
# Everything that must be green: build, vet, golangci-lint, unit and storage tests, the race detector, real processes
# with stock drivers, simulated clusters. Usage: scripts/test.sh [lint|unit|race|simulate|planted|e2e]... (all of them without arguments).
# Tools are pinned below and installed into .cache by this script. Needs Go and Python 3; Node.js and a JDK with Maven
# are used where they are, else their driver's test is skipped with a notice.
# E2E is a pattern of the names of the tests with real processes: those alone are run then.
# HELENUS_LONG=1 gives the random tests of storage, row and protocol 20 times their time.
set -euo pipefail
cd "$(dirname "$0")/.."

GOLANGCI=v2.15.0
RACE_GO=go1.27.4
CACHE=$PWD/.cache
mkdir -p "$CACHE/bin"
export CGO_ENABLED=0 GOTOOLCHAIN=auto

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

lint() {
  step "build and vet"
  go build ./...
  go vet ./...
  test -z "$(gofmt -l $(git ls-files '*.go'))" || { echo "not gofmt'ed:"; gofmt -l $(git ls-files '*.go'); exit 1; }
  step "golangci-lint $GOLANGCI"
  if [ "$("$CACHE/bin/golangci-lint" version --short 2>/dev/null)" != "${GOLANGCI#v}" ]; then
    GOBIN=$CACHE/bin go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$GOLANGCI"
  fi
  "$CACHE/bin/golangci-lint" run --allow-parallel-runners --timeout 15m ./...
}

unit() {
  step "unit, property, storage tests"
  go test -short -timeout 20m ./internal/sim/...
  go test -timeout 25m $(go list ./... | grep -v -e /internal/e2e -e /internal/sim)
}

# concurrent lists the packages that have goroutines, locks or parallel tests; in the others there is nothing to race.
concurrent() {
  git grep -lE '^\s*go (func|[a-z])|\.Go\(|t\.Parallel\(|synctest\.|"sync(/atomic)?"' -- '*.go' | xargs -n1 dirname | sort -u | grep -v '^internal/e2e' | sed 's|^|./|'
}

# With Go before 1.27 the race detector itself dies of SIGSEGV, or of its own CHECK, in timers of testing/synctest: two goroutines of
# a bubble that fire timers at once share one context of the detector (unlockAndRun in runtime/time.go). So this step has its toolchain.
race() {
  step "race detector, $RACE_GO"
  if ! command -v gcc >/dev/null; then echo "SKIP race: no C compiler, which the race detector needs"; return; fi
  CGO_ENABLED=1 GOTOOLCHAIN=$RACE_GO go test -race -short -timeout 20m $(concurrent)
}

# simulate runs SIMULATE_SEEDS (30) seeds of internal/sim from SIMULATE_FIRST (1) on: the same ones each time, so that a change is judged by
# what it changes. SIMULATE_FOR (10m) ends it earlier. Then SIMULATE_MOVES (8) seeds of the scenarios in which ranges move.
# Campaigns with new seeds: make simulate.
simulate() {
  step "simulated clusters: one seed is one run"
  SIM_RACE=1 go test -count=1 -timeout 20m -run '^TestOneSeedOneRun$' ./internal/sim
  step "simulated clusters: ${SIMULATE_SEEDS:-30} seeds"
  go run ./internal/sim/cmd/simulate -seeds "${SIMULATE_SEEDS:-30}" -for "${SIMULATE_FOR:-10m}" -first "${SIMULATE_FIRST:-1}" \
    -scenario "${SIMULATE_SCENARIOS:-registers,quorum,crashes,clocks,disks,flips}" -swarm -json "$CACHE/simulate.json"
  step "simulated clusters in which ranges move: ${SIMULATE_MOVES:-8} seeds"
  go run ./internal/sim/cmd/simulate -seeds "${SIMULATE_MOVES:-8}" -for "${SIMULATE_FOR:-10m}" -first 301 -virtual 30s \
    -scenario moves,losses,shards,unhinted -json "$CACHE/moves.json"
}

# planted proves the checkers: the simulator has to find these planted bugs, one of each kind. make planted hunts all of them.
planted() {
  local bugs="${PLANTED:-hint-restamped,digest-not-compared,cache-not-told,live-beats-deletion,read-repair-not-sent,counter-shards-summed,batchlog-restamped,promise-not-persisted}"
  step "planted bugs: $bugs"
  ./scripts/planted.sh -only "$bugs" -json "$CACHE/planted.json"
  go test -tags planted -count=1 -run 'TestTombstones_Planted' ./node
}

e2e() {
  step "real processes, stock drivers"
  ./scripts/python-env.sh "$CACHE"
  go build -trimpath -o bin/helenus ./cmd/helenus
  HELENUS_E2E=1 HELENUS_BIN=$PWD/bin/helenus HELENUS_PYTHON=$CACHE/python/bin/python HELENUS_CACHE=$CACHE \
    go test -count=1 -v -timeout "${E2E_TIMEOUT:-25m}" -run "${E2E:-.}" ./internal/e2e/... > "$CACHE/e2e.log" 2>&1 || { tail -n 400 "$CACHE/e2e.log"; exit 1; }
  grep -E '^ *(--- |ok )|NOTICE' "$CACHE/e2e.log"
}

if [ $# -eq 0 ]; then set -- lint unit race simulate planted e2e; fi
for part in "$@"; do "$part"; done
step "done"
