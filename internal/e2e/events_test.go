package e2e

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// listener keeps what a client is told of one node.
type listener struct {
	about string // its address

	mu     sync.Mutex
	events []string // "UP", or what is wrong with an event
}

func (l *listener) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// listen registers for events of nodes; the others may only just have said that they serve clients.
func listen(t *testing.T, addr, about string) *listener {
	t.Helper()
	w := mustDial(t, addr)
	set := protocol.EventSet(0).With(protocol.TopologyChange).With(protocol.StatusChange)
	if op, _, err := w.call(protocol.AppendRegister(nil, protocol.V4, 0, set)); err != nil || op != protocol.OpReady {
		t.Fatalf("REGISTER is answered with opcode %d, %v", op, err)
	}
	l := &listener{about: about}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.read(w)
	}()
	t.Cleanup(func() { w.Close(); <-done })
	return l
}

// read ends with the connection.
func (l *listener) read(w *wire) {
	if w.SetReadDeadline(time.Time{}) != nil {
		return
	}
	for {
		var hdr [protocol.HeaderLen]byte
		if _, err := io.ReadFull(w.r, hdr[:]); err != nil {
			return
		}
		h, _, err := protocol.DecodeHeader(hdr[:])
		if err != nil {
			return
		}
		body := make([]byte, h.Length)
		if _, err := io.ReadFull(w.r, body); err != nil {
			return
		}
		e, err := protocol.DecodeEvent(body)
		if err != nil || h.Op != protocol.OpEvent {
			e.Change = fmt.Sprintf("opcode %d: %v", h.Op, err)
		}
		if err == nil && e.Addr.Addr().String() != l.about {
			continue
		}
		l.mu.Lock()
		l.events = append(l.events, e.Change)
		l.mu.Unlock()
	}
}

// TestNodeEventsOnceEach: clients are told what Cassandra's are when a node joins, moves, dies, comes back and leaves, each once, whichever node they listen at. The moving and
// the leaving node's own clients are told as well.
func TestNodeEventsOnceEach(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	w := mustDial(t, c.addr(0))
	w.must(t, "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 2}")
	w.must(t, "CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
	for i := range 20 {
		w.must(t, "INSERT INTO ks.t (k, v) VALUES (%d, %d)", i, i)
	}
	listeners := []*listener{listen(t, c.addr(0), c.addr(3)), listen(t, c.addr(2), c.addr(3))}
	var want []string
	await := func(events ...string) {
		t.Helper()
		want = append(want, events...)
		for end := time.Now().Add(startWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if !slices.ContainsFunc(listeners, func(l *listener) bool { return len(l.heard()) < len(want) }) {
				break
			}
		}
		for i, l := range listeners {
			if got := l.heard(); !slices.Equal(got, want) {
				t.Fatalf("listener %d was told %q, want %q", i, got, want)
			}
		}
	}
	fourth := c.joins()
	c.nodes[0].sees(4, moveWait)
	await("NEW_NODE", "UP")

	tokens := strings.Fields(strings.Trim(fmt.Sprint(mustTokens(t, fourth)), "[]"))
	fourth.helenus(append([]string{"move", "--of", fourth.addr}, tokens...)...)
	await("MOVED_NODE")

	fourth.kill()
	await("DOWN")
	fourth.start()
	fourth.ready()
	await("UP")
	c.nodes[0].sees(4, startWait)

	own := listen(t, fourth.addr, fourth.addr)
	c.nodes[0].helenus("decommission", fourth.addr)
	await("REMOVED_NODE")
	if code := fourth.exited(moveWait); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	time.Sleep(2 * time.Second) // nothing follows, not even that it is down
	await()
	if got := own.heard(); !slices.Equal(got, []string{"REMOVED_NODE"}) {
		t.Errorf("its own clients were told %q", got)
	}
}

// mustTokens returns as many tokens as the node has, others, none of them negative.
func mustTokens(t *testing.T, p *process) (out []int64) {
	t.Helper()
	rows := mustDial(t, p.addr).must(t, "SELECT tokens FROM system.local")
	n := int(rows[0][0][3]) // of a set<text>
	for i := range n {
		out = append(out, int64(i+1)<<58+12345)
	}
	return out
}
