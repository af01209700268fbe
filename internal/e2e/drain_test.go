package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	drainClients = 4  // connections to each node
	drainDepth   = 32 // writes in flight on each
)

// stream writes rows (part, 0), (part, 1), ... of d.t on a connection of its own, drainDepth at a time, until the
// connection ends or quit is closed.
type stream struct {
	part  int
	level protocol.Consistency
	w     *wire

	acked    []int // rows that were acknowledged
	refused  error // the first ERROR
	cutShort bool  // the connection has ended
}

func (s *stream) run(quit *atomic.Bool) {
	defer s.w.Close()
	for next := 0; !quit.Load() && s.refused == nil; next += drainDepth {
		var frames []byte
		for i := range drainDepth {
			frames = protocol.AppendQuery(frames, protocol.V4, int16(i), 0, fmt.Sprintf("INSERT INTO d.t (part, i) VALUES (%d, %d)", s.part, next+i), params(s.level))
		}
		_ = s.w.SetWriteDeadline(time.Now().Add(wireTimeout))
		if _, err := s.w.Write(frames); err != nil {
			s.cutShort = true // what was answered before is read all the same
		}
		for range drainDepth {
			h, _, err := s.w.answer()
			var e *protocol.Error
			switch {
			case errors.As(err, &e):
				s.refused = e
			case err != nil:
				s.cutShort = true
				return
			default:
				s.acked = append(s.acked, next+int(h.Stream))
			}
		}
	}
}

// streams starts drainClients streams to each node.
func streams(t *testing.T, level protocol.Consistency, nodes ...*process) (list []*stream, wait func()) {
	t.Helper()
	quit := new(atomic.Bool)
	var wg sync.WaitGroup
	for range drainClients {
		for _, p := range nodes {
			s := &stream{part: len(list), level: level, w: mustDial(t, p.addr)}
			list = append(list, s)
			wg.Go(func() { s.run(quit) })
		}
	}
	return list, func() { quit.Store(true); wg.Wait() }
}

// allThere checks that every acknowledged row is read through w.
func allThere(t *testing.T, w *wire, level protocol.Consistency, list []*stream) {
	t.Helper()
	total := 0
	for _, s := range list {
		rows, err := w.query(level, "SELECT i FROM d.t WHERE part = %d", s.part)
		if err != nil {
			t.Fatal(err)
		}
		there := map[int]bool{}
		for _, r := range rows {
			there[int(int32(binary.BigEndian.Uint32(r[0])))] = true
		}
		lost := 0
		for _, i := range s.acked {
			if !there[i] {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%d of %d acknowledged rows of stream %d are lost", lost, len(s.acked), s.part)
		}
		total += len(s.acked)
	}
	if total < len(list)*drainDepth {
		t.Errorf("only %d writes were acknowledged: there was no load", total)
	}
	t.Logf("%d acknowledged writes are there", total)
}

// TestDrain_NothingAcknowledgedIsLost: SIGTERM under load. The node answers what is under way, clients see nothing worse
// than a closed connection, the process ends with 0, and after the next start every acknowledged row is there, in every
// mode of syncing: a stop is no power loss.
func TestDrain_NothingAcknowledgedIsLost(t *testing.T) {
	for _, mode := range []string{"group", "batch", "periodic"} {
		t.Run(mode, func(t *testing.T) {
			c := newCluster(t, 1, "--commit-sync", mode).up()
			p := c.nodes[0]
			w := mustDial(t, p.addr)
			w.must(t, "CREATE KEYSPACE d WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
			w.must(t, "CREATE TABLE d.t (part int, i int, PRIMARY KEY (part, i))")
			list, wait := streams(t, protocol.One, p)
			time.Sleep(time.Second)
			p.stop()
			wait()
			for _, s := range list {
				if s.refused != nil || !s.cutShort {
					t.Errorf("stream %d saw %v, connection closed: %v", s.part, s.refused, s.cutShort)
				}
			}
			p.start()
			p.ready()
			allThere(t, mustDial(t, p.addr), protocol.One, list)
		})
	}
}

// TestDrain_OthersNoticeNothing: SIGTERM of one of three nodes under QUORUM load on all. The clients of the two others see
// no error, those of the node a closed connection at worst, and every acknowledged row is there, also on the node itself
// once it is back and has had its hints.
func TestDrain_OthersNoticeNothing(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	w := mustDial(t, c.nodes[0].addr)
	w.must(t, "CREATE KEYSPACE d WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
	w.must(t, "CREATE TABLE d.t (part int, i int, PRIMARY KEY (part, i))")
	list, wait := streams(t, protocol.Quorum, c.nodes...)
	time.Sleep(time.Second)
	c.nodes[2].signal(syscall.SIGTERM)
	if code := c.nodes[2].exited(startWait); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	time.Sleep(time.Second)
	c.nodes[2].start()
	c.nodes[2].ready()
	time.Sleep(time.Second)
	wait()
	for i, s := range list {
		if drained := i%3 == 2; s.refused != nil || s.cutShort != drained {
			t.Errorf("stream %d to node %d saw %v, connection closed: %v", i, i%3+1, s.refused, s.cutShort)
		}
	}
	allThere(t, w, protocol.Quorum, list)
	hintsDelivered(t, c.nodes[0])
	hintsDelivered(t, c.nodes[1])
	c.nodes[0].stop()
	c.nodes[1].stop()
	allThere(t, mustDial(t, c.nodes[2].addr), protocol.One, list)
}
