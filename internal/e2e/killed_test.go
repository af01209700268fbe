package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// TestKilledNodesAreTimeouts: two nodes of three are killed with SIGKILL. Until that is noticed, requests that need them time out,
// as Cassandra has them; afterwards they are unavailable. They never fail, since nobody refused, and are not kept waiting.
func TestKilledNodesAreTimeouts(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	w := mustDial(t, c.addr(0))
	w.must(t, "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
	w.must(t, "CREATE TABLE k.t (k int PRIMARY KEY, v int)")
	w.must(t, "INSERT INTO k.t (k, v) VALUES (1, 1)")
	c.nodes[1].kill()
	c.nodes[2].kill()
	timeouts := 0
	for range 200 {
		_, err := w.query(protocol.Quorum, "INSERT INTO k.t (k, v) VALUES (1, 2)")
		write := codeOf(t, err)
		_, err = w.query(protocol.All, "SELECT * FROM k.t WHERE k = 1")
		read := codeOf(t, err)
		if write == protocol.CodeUnavailable && read == protocol.CodeUnavailable {
			if timeouts == 0 {
				t.Log("the nodes were convicted before the first request")
			}
			return
		}
		if write != protocol.CodeWriteTimeout && write != protocol.CodeUnavailable || read != protocol.CodeReadTimeout && read != protocol.CodeUnavailable {
			t.Fatalf("after %d rounds of timeouts: write %s, read %s", timeouts, write, read)
		}
		timeouts++
		time.Sleep(200 * time.Millisecond)
	}
	t.Error("the killed nodes are never noticed")
}

// codeOf returns the code of a server's error.
func codeOf(t *testing.T, err error) protocol.ErrorCode {
	t.Helper()
	var e *protocol.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	return e.Code
}
