#!/usr/bin/env bash
# A real Apache Cassandra 5.0.8 to compare with, from Maven Central alone. Needs a JDK 17 and Maven.
#   scripts/peer.sh fetch        fetch the jars (about 120 MB, once)
#   scripts/peer.sh start [N]    start node N, 1 by default, and wait until it answers clients
#   scripts/peer.sh stop [N]     stop node N, or all
#   scripts/peer.sh wipe         stop all nodes and remove what they keep
#   scripts/peer.sh log [N]      show the end of a node's log
#   scripts/peer.sh nodetool N COMMAND...          run nodetool against node N
#   scripts/peer.sh rows FOLDER KEYSPACE TABLE FIRST COUNT   write sstables of rows of helenus bench, for nodetool import
# Nodes live on PEER_NET.N:9042 (default 127.0.9.N), for nodetool on 127.0.0.1:$((PEER_JMX+N)) (default 7200+N); node 1 is the seed, start it
# first. Others: HEAP (2g), JAVA_HOME, PEER_DIR (.cache/peer), JVM (more options of the node's Java).
set -euo pipefail
cd "$(dirname "$0")/.."
PEER_DIR=${PEER_DIR:-$PWD/.cache/peer}
PEER_NET=${PEER_NET:-127.0.9}
HEAP=${HEAP:-2g}
PEER_JMX=${PEER_JMX:-7200}
JAVA=${JAVA_HOME:+$JAVA_HOME/bin/}java

fetch() {
  command -v mvn >/dev/null || { echo "peer: Maven is missing" >&2; exit 2; }
  if [ -f "$PEER_DIR/lib/.complete" ] && cmp -s scripts/peer/pom.xml "$PEER_DIR/lib/.complete"; then return; fi
  rm -rf "$PEER_DIR/lib"
  mkdir -p "$PEER_DIR"
  mvn -B -q -f scripts/peer/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PEER_DIR/lib"
  cp scripts/peer/pom.xml "$PEER_DIR/lib/.complete"
}

# Java 17 closes its insides; these are the ones that Cassandra 5.0 reaches into.
opened() {
  for p in jdk.internal.misc jdk.internal.ref sun.nio.ch java.lang.ref java.lang.reflect; do echo "--add-exports=java.base/$p=ALL-UNNAMED"; done
  for p in java.lang java.lang.module java.lang.reflect java.io java.nio java.net java.math java.util java.util.concurrent \
    java.util.concurrent.atomic sun.nio.ch jdk.internal.loader jdk.internal.ref jdk.internal.reflect jdk.internal.math jdk.internal.module \
    jdk.internal.util.jar; do echo "--add-opens=java.base/$p=ALL-UNNAMED"; done
  echo "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED --add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED"
  echo "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED --add-exports=java.rmi/sun.rmi.server=ALL-UNNAMED"
  echo "--add-exports=java.management.rmi/com.sun.jmx.remote.internal.rmi=ALL-UNNAMED --add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED"
  echo "--add-exports=java.sql/java.sql=ALL-UNNAMED --add-exports=jdk.attach/sun.tools.attach=ALL-UNNAMED"
  echo "--add-exports=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED"
}

start() {
  fetch
  "$JAVA" -version 2>&1 | grep -q 'version "17' || { echo "peer: Cassandra 5.0 needs Java 17 (set JAVA_HOME)" >&2; exit 2; }
  local n=$1 dir=$PEER_DIR/node$1 address=$PEER_NET.$1
  mkdir -p "$dir/conf" "$dir/logs" "$dir/tmp" "$dir/triggers"
  sed -e "s#@ADDRESS@#$address#g" -e "s#@SEED@#$PEER_NET.1#g" -e "s#@DIR@#$dir#g" scripts/peer/cassandra.yaml > "$dir/conf/cassandra.yaml"
  cp scripts/peer/logback.xml "$dir/conf/"
  : > "$dir/logs/system.log"
  # shellcheck disable=SC2046
  nohup setsid "$JAVA" -Xms"$HEAP" -Xmx"$HEAP" -XX:+UseG1GC -XX:MaxGCPauseMillis=300 -XX:+PerfDisableSharedMem $(opened) ${JVM:-} \
    -Djdk.attach.allowAttachSelf=true -Djava.security.manager=allow -Dio.netty.tryReflectionSetAccessible=true \
    -javaagent:"$(ls "$PEER_DIR"/lib/jamm-*.jar)" -Dlogback.configurationFile=logback.xml -Dcassandra.logdir="$dir/logs" \
    -Dcassandra.storagedir="$dir" -Dcassandra.triggers_dir="$dir/triggers" -Djava.io.tmpdir="$dir/tmp" -Djna.tmpdir="$dir/tmp" \
    -Dcassandra.jmx.local.port=$((PEER_JMX + n)) \
    -Dcassandra-foreground=yes -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=5000 \
    -cp "$dir/conf:$PEER_DIR/lib/*" org.apache.cassandra.service.CassandraDaemon < /dev/null > "$dir/logs/output.log" 2>&1 &
  echo $! > "$dir/pid"
  for _ in $(seq 600); do
    if grep -q "Starting listening for CQL clients" "$dir/logs/system.log"; then echo "peer $n answers at $address:9042, pid $(cat "$dir/pid")"; return; fi
    kill -0 "$(cat "$dir/pid")" 2>/dev/null || break
    sleep 0.2
  done
  echo "peer $n does not come up:" >&2
  tail -n 20 "$dir/logs/output.log" "$dir/logs/system.log" >&2
  exit 1
}

tool() { # tool N COMMAND...
  local n=$1; shift
  # shellcheck disable=SC2046
  "$JAVA" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 $(opened) -Dcassandra.storagedir="$PEER_DIR/node$n" -Dlogback.configurationFile=logback-tools.xml \
    -cp "$PEER_DIR/node$n/conf:$PEER_DIR/lib/*" org.apache.cassandra.tools.NodeTool -h 127.0.0.1 -p $((PEER_JMX + n)) "$@"
}

rows() {
  # shellcheck disable=SC2046
  "$JAVA" -Xmx2g $(opened) -Dlogback.configurationFile=logback-tools.xml -Dcassandra.storagedir="$PEER_DIR/rows" \
    -Dcassandra.config="file://$PEER_DIR/node1/conf/cassandra.yaml" -cp "$PEER_DIR/node1/conf:$PEER_DIR/lib/*" scripts/peer/Rows.java "$@"
}

stop() {
  local dir=$PEER_DIR/node$1 pid
  [ -f "$dir/pid" ] || return 0
  pid=$(cat "$dir/pid")
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$dir/pid"
}

stop_all() { for f in "$PEER_DIR"/node*/pid; do if [ -f "$f" ]; then n=${f%/pid}; stop "${n##*node}"; fi; done; }

case ${1:-} in
  fetch) fetch ;;
  start) start "${2:-1}" ;;
  stop) if [ $# -gt 1 ]; then stop "$2"; else stop_all; fi ;;
  wipe) stop_all; rm -rf "$PEER_DIR"/node* ;;
  log) tail -n 50 "$PEER_DIR/node${2:-1}/logs/system.log" ;;
  nodetool) shift; tool "$@" ;;
  rows) shift; rows "$@" ;;
  *) sed -n '2,11p' "$0"; exit 2 ;;
esac
