#!/usr/bin/env bash
# Makes CACHE/python: a virtual environment with the stock Python driver and cqlsh, pinned.
set -euo pipefail
CACHE=$1
PINS="cassandra-driver==3.30.1 lz4==4.4.5 cqlsh==6.2.2"
if [ -f "$CACHE/python/.pins" ] && [ "$(cat "$CACHE/python/.pins")" = "$PINS" ]; then exit 0; fi
rm -rf "$CACHE/python"
python3 -m venv "$CACHE/python"
"$CACHE/python/bin/pip" install --quiet --disable-pip-version-check $PINS
echo "$PINS" > "$CACHE/python/.pins"
