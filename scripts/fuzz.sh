#!/usr/bin/env bash
# Runs every fuzz target of the repository for FUZZTIME each (default 30s).
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
for dir in $(git grep -l '^func Fuzz' -- '*_test.go' | xargs -n1 dirname | sort -u); do
  for target in $(git grep -hoE '^func Fuzz[A-Za-z0-9_]+' -- "$dir/*_test.go" | awk '{print $2}' | sort -u); do
    grep -qE "^func $target\(" "$dir"/*_test.go || continue # it is in a folder below
    echo "== $dir $target"
    go test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}"
  done
done
