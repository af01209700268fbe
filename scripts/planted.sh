#!/usr/bin/env bash
# planted.sh [ARGS]: hunts the planted bugs in the simulator (internal/sim/cmd/planted); without arguments all of them, a minute each.
set -euo pipefail
cd "$(dirname "$0")/.."
exec go run ./internal/sim/cmd/planted "$@"
