#!/usr/bin/env bash
# Makes CACHE/python: a virtual environment with the stock Python driver and cqlsh, pinned. Needs nothing but Python 3:
# where it comes without pip (Debian's python3 without python3-venv), pip is fetched from PyPI.
set -euo pipefail
CACHE=$1
PINS="cassandra-driver==3.30.1 lz4==4.4.5 cqlsh==6.2.2"
PIP=pip-25.3-py3-none-any.whl
if [ -f "$CACHE/python/.pins" ] && [ "$(cat "$CACHE/python/.pins")" = "$PINS" ]; then exit 0; fi
rm -rf "$CACHE/python"
pip=(-m pip)
if ! python3 -m venv "$CACHE/python" 2>/dev/null || ! "$CACHE/python/bin/python" -m pip --version >/dev/null 2>&1; then
  rm -rf "$CACHE/python"
  python3 -m venv --without-pip "$CACHE/python"
  python3 - "$CACHE/$PIP" <<'PYTHON'
import hashlib, json, os, sys, urllib.request
path = sys.argv[1]
index = urllib.request.Request("https://pypi.org/simple/pip/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
file = next(f for f in json.load(urllib.request.urlopen(index))["files"] if f["filename"] == os.path.basename(path))
wheel = urllib.request.urlopen(file["url"]).read()
if hashlib.sha256(wheel).hexdigest() != file["hashes"]["sha256"]:
    sys.exit("pip's wheel is not what the index says")
with open(path, "wb") as f:
    f.write(wheel)
PYTHON
  pip=("$CACHE/$PIP/pip")
fi
# shellcheck disable=SC2086
"$CACHE/python/bin/python" "${pip[@]}" install --quiet --disable-pip-version-check $PINS
echo "$PINS" > "$CACHE/python/.pins"
