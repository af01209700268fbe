# The part "repair" of scripts/peer-bench.sh, which sources it: what a repair costs, here and in a real Cassandra.
#
# Three nodes, RF 3, without hints and without repair by themselves. First all replicas are equal; then one of them misses the overwriting of so many rows;
# then one is empty. In Helenus it misses what is written at QUORUM while it is down; into Cassandra the same rows are imported as sstables, which is faster and leaves it
# in the best state it can be in (one sstable). Cassandra repairs once for nothing, so that its code is compiled when it counts.
#
# ROWSR (1000000) rows of 5 x 34 bytes, DIFFER ("10 100 1000 10000 100000 1000000"), DIFFER_PEER (100), ROWS_PEER (ROWSR)
ROWSR=${ROWSR:-1000000} DIFFER=${DIFFER:-10 100 1000 10000 100000 1000000} DIFFER_PEER=${DIFFER_PEER:-100} ROWS_PEER=${ROWS_PEER:-$ROWSR}
PEER=${PEER_DIR:-$PWD/.cache/peer} PEERNET=${PEER_NET:-127.0.9}
# What differs and how large the cells are is the load generator's: bench.kv. Nothing but repair may mend it.
QUIET=(--hinted-handoff off --repair-within 0)

up() { "$BIN" status --host "$NET.1" 2>/dev/null | grep -c '^UN' || true; }
await_up() { # await_up N: node 1 sees N nodes
  for _ in $(seq 1200); do [ "$(up)" = "$1" ] && return; sleep 0.1; done
  echo "peer-repair: not $1 nodes are up" >&2; exit 1
}
write() { "$BIN" bench --hosts "$1" --cl "$2" --rows "$3" --op load --conns "$CONNS" --depth "$DEPTH" --warm 0s "${@:4}"; }
third_down() { kill "${pids[3]}"; wait "${pids[3]}" || true; await_up 2; }
third_up() { start_one 3 3 "${QUIET[@]}"; await_up 3; }

# cpu PIDS: seconds that they have computed.
cpu() { local p t=0; for p in "$@"; do t=$((t + $(awk '{print $14 + $15}' "/proc/$p/stat"))); done; awk -v t="$t" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", t / hz }'; }

# mend NAME FLAGS...: helenus repair, and a line of facts about it: seconds, seconds of CPU, rows sent, bytes of rows, bytes of messages.
mend() {
  local began before took
  sleep 5 # what was just written is flushed and compacted: the other one's rows are imported in that state
  before=$(cpu "${pids[@]}") began=$(now)
  "$BIN" repair --host "$NET.1" --json bench kv "${@:2}" > "$WORK/repair.json"
  took=$(since "$began")
  fact "repair.helenus.$1" "$took,$(awk -v a="$before" -v b="$(cpu "${pids[@]}")" 'BEGIN { printf "%.2f", b - a }'),$(python3 -c '
import json, sys
peers = json.load(open(sys.argv[1]))["tables"][0]["peers"]
print(*(sum(p[k] for p in peers) for k in ("rows", "bytes", "traffic")), sep=",")' "$WORK/repair.json")"
  tail -n 1 "$WORK/facts"
}

repair_helenus() {
  local n all="$NET.1,$NET.2,$NET.3"
  echo "== Helenus, 3 nodes, repair of $ROWSR rows"
  rm -rf "$WORK"/helenus?
  start_helenus 3 "${QUIET[@]}"
  await_up 3
  write "$all" ALL "$ROWSR" --setup --rf 3
  mend first
  mend again
  mend full --full
  for n in $DIFFER; do
    [ "$n" -le "$ROWSR" ] || continue
    third_down; write "$NET.1,$NET.2" QUORUM "$n"; third_up
    mend "differ.$n"
  done
  "$BIN" bench --hosts "$NET.1" --cl ALL --rows 1 --op load --setup --rf 3 --warm 0s > /dev/null
  third_down; write "$NET.1,$NET.2" QUORUM "$ROWSR"; third_up
  mend empty
  mend verify
  stop_helenus
}

# peer_sent: bytes that the three nodes have sent one another, streams included.
peer_sent() {
  local n sum=0 v
  for n in 1 2 3; do
    v=$("$BIN" sh "$PEERNET.$n" -e 'SELECT sum(sent_bytes) FROM system_views.internode_outbound' | grep -oE '[0-9]+' | head -n 1)
    sum=$((sum + v))
  done
  echo "$sum"
}

# peer_mend NAME TABLE: nodetool repair -full; its time is by what it says itself, without the start of nodetool.
peer_mend() {
  local p list=() before sent
  for n in 1 2 3; do list+=("$(cat "$PEER/node$n/pid")"); done
  before=$(cpu "${list[@]}") sent=$(peer_sent)
  ./scripts/peer.sh nodetool 1 repair -full bench "$2" > "$WORK/repair.log"
  fact "repair.cassandra.$1" "$(python3 -c '
import datetime, re, sys
lines = sys.stdin.read().splitlines()
def at(text):
    return [datetime.datetime.strptime(l[1:24], "%Y-%m-%d %H:%M:%S,%f") for l in lines if text in l]
begun, ended = at("Starting repair command"), at(" finished in ")
said = re.search(r" finished in (?:(\d+) minutes? ?)?(?:(\d+) seconds?)?", "\n".join(lines))
print("%.3f" % ((ended[0] - begun[0]).total_seconds() if begun else 60 * int(said[1] or 0) + int(said[2] or 0)))  # it may lose its first line
' < "$WORK/repair.log"),$(awk -v a="$before" -v b="$(cpu "${list[@]}")" 'BEGIN { printf "%.2f", b - a }'),,,$(($(peer_sent) - sent))"
  tail -n 1 "$WORK/facts"
}

# peer_rows NAME TABLE NODES COUNT imports the first rows into a table of some nodes, as sstables that are written once for each name. ROWS_DIR keeps them for another run.
peer_rows() {
  local kept=${ROWS_DIR:-$WORK/rows}/$1 dir=$WORK/import/bench/$2 n # import looks at the names of the folders
  if [ ! -f "$kept/.complete" ]; then
    rm -rf "$kept"
    ./scripts/peer.sh rows "$kept" bench kv 0 "$4"
    touch "$kept/.complete"
  fi
  rm -rf "$dir"
  mkdir -p "$dir"
  cp "$kept"/*.* "$dir/"
  for n in $3; do
    ./scripts/peer.sh nodetool "$n" import --copy-data bench "$2" "$dir"
    ./scripts/peer.sh nodetool "$n" tablestats "bench.$2" | grep -E 'SSTable count: [1-9]' > /dev/null || { echo "peer-repair: nothing was imported on node $n" >&2; exit 1; }
  done
}

repair_cassandra() {
  local n t
  echo "== Cassandra, 3 nodes, heap $HEAP3, repair of $ROWS_PEER rows"
  for n in 1 2 3; do HEAP=$HEAP3 ./scripts/peer.sh start "$n"; done
  "$BIN" sh "$PEERNET.1" -e "CREATE KEYSPACE bench WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"
  for t in kv em; do "$BIN" sh "$PEERNET.1" -e "CREATE TABLE bench.$t (key bigint PRIMARY KEY, c0 blob, c1 blob, c2 blob, c3 blob, c4 blob)"; done
  peer_rows "all.$ROWS_PEER" kv "1 2 3" "$ROWS_PEER"
  peer_mend warming kv
  peer_mend full kv
  peer_rows "all.$ROWS_PEER" em "1 2" "$ROWS_PEER"
  peer_mend empty em
  for n in $DIFFER_PEER; do
    rm -rf "${ROWS_DIR:-$WORK/rows}/differ.$n" # their timestamps have to be later than those of all rows
    peer_rows "differ.$n" kv "1 2" "$n"
    peer_mend "differ.$n" kv
  done
  fact repair.cassandra.rows "$ROWS_PEER"
  ./scripts/peer.sh wipe
}

repair() {
  if [ "$ONLY" != cassandra ]; then
    fact repair.helenus.rows "$ROWSR"
    repair_helenus
  fi
  [ "$ONLY" = helenus ] || repair_cassandra
}
