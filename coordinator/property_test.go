package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// ledger knows what clients were told.
type ledger struct {
	mu      sync.Mutex
	next    int64
	written map[int]map[int64]bool // by key: the timestamps that anybody tried to write
	floor   map[int]int64          // by key: what every later quorum read must show at least
}

func newLedger() *ledger {
	return &ledger{written: map[int]map[int64]bool{}, floor: map[int]int64{}}
}

func (l *ledger) begin(k int) (ts int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	if l.written[k] == nil {
		l.written[k] = map[int64]bool{}
	}
	l.written[k][l.next] = true
	return l.next
}

// seen raises the floor of a key.
func (l *ledger) seen(k int, ts int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.floor[k] = max(l.floor[k], ts)
}

func (l *ledger) floorOf(k int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.floor[k]
}

func (l *ledger) wrote(k int, ts int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ts == 0 || l.written[k][ts]
}

const (
	propertyKeys    = 16
	propertyClients = 5
)

// shown returns the timestamp in the answer to a read; 0: nothing.
func shown(t testing.TB, text string) int64 {
	_, value, ok := strings.Cut(strings.TrimSpace(text), "=")
	if !ok {
		return 0
	}
	ts, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

// client makes random requests and checks the answers against the ledger.
func (l *ledger) client(c *cluster, r *rand.Rand, ops int) {
	t := c.t
	levels := []coordinator.Level{coordinator.Any, coordinator.One, coordinator.Quorum, coordinator.Quorum, coordinator.Quorum, coordinator.All, coordinator.LocalQuorum}
	for range ops {
		n, k, level := c.nodes[r.IntN(len(c.nodes))], r.IntN(propertyKeys), levels[r.IntN(len(levels))]
		strong := level == coordinator.Quorum || level == coordinator.LocalQuorum || level == coordinator.All
		if r.IntN(4) == 0 {
			ts := l.begin(k)
			err := n.write(level, c.put(c.wide, key(k), "a", ts, fmt.Sprint(ts)))
			if err == nil && strong {
				l.seen(k, ts)
			}
			l.checkError(t, err)
		} else if level != coordinator.Any {
			floor := l.floorOf(k)
			p, err := n.read(level, c.whole(c.wide, key(k)))
			l.checkError(t, err)
			if err == nil {
				ts := shown(t, pageText(t, p, time.Now().Unix()))
				if !l.wrote(k, ts) {
					t.Errorf("key %d: %d was never written", k, ts)
				}
				if strong && ts < floor {
					t.Errorf("key %d: a read at %s shows %d after %d was acknowledged or shown", k, level, ts, floor)
				}
				if strong {
					l.seen(k, ts)
				}
			}
		}
		time.Sleep(time.Duration(r.IntN(60000)) * time.Microsecond)
	}
}

func (l *ledger) checkError(t testing.TB, err error) {
	var u *coordinator.Unavailable
	var wt *coordinator.WriteTimeout
	var wf *coordinator.WriteFailure
	var rt *coordinator.ReadTimeout
	var rf *coordinator.ReadFailure
	switch {
	case err == nil, errors.As(err, &u), errors.As(err, &wt), errors.As(err, &wf), errors.As(err, &rt), errors.As(err, &rf):
	default:
		t.Errorf("unexpected error: %v", err)
	}
}

// trouble is one fault: messages from and to a node.
type trouble struct {
	node int
	odds int // one message in so many
	what action
}

// storm changes faults until ctx ends, then heals all: at any time one node may be down and another in trouble.
func (c *cluster) storm(ctx context.Context, r *rand.Rand) {
	var mu sync.Mutex // requests roll too
	roll := func(n int) int { mu.Lock(); defer mu.Unlock(); return r.IntN(n) }
	for ctx.Err() == nil {
		down := roll(2 * len(c.nodes))
		x := trouble{node: roll(len(c.nodes)), odds: max(1, roll(4))}
		switch roll(8) {
		case 0, 1, 2:
			x.what.drop = true
		case 3:
			x.what.dropReply = true
		case 4:
			x.what.delay = time.Duration(roll(3000)) * time.Millisecond
		case 5:
			x.what.twice = true
		case 6:
			x.what.refuse = rpc.StatusFailed
		}
		c.setFault(func(m message) action {
			if m.to != x.node && m.from != x.node || roll(x.odds) != 0 {
				return action{}
			}
			return x.what
		})
		if down < len(c.nodes) {
			c.setDown(down, true)
		}
		time.Sleep(time.Duration(100+roll(1500)) * time.Millisecond)
		if down < len(c.nodes) {
			c.setDown(down, false)
		}
	}
	c.setFault(nil)
}

// TestQuorumReadsSeeQuorumWrites: random requests at random levels with replicas down, slow, lossy and refusing. Every
// write that was acknowledged at a quorum is found by every later quorum read, quorum reads never go back, and in the
// end, by hints alone, all replicas are equal.
func TestQuorumReadsSeeQuorumWrites(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			simulated(t, func(t *testing.T) { propertyRun(t, seed) })
		})
	}
}

func propertyRun(t *testing.T, seed uint64) {
	c := three(t)
	l := newLedger()
	ctx, cancel := context.WithCancel(context.Background())
	var storm, clients sync.WaitGroup
	storm.Go(func() { c.storm(ctx, rand.New(rand.NewPCG(seed, 1000))) })
	for i := range propertyClients {
		clients.Go(func() { l.client(c, rand.New(rand.NewPCG(seed, uint64(i))), 400) })
	}
	clients.Wait()
	cancel()
	storm.Wait()
	time.Sleep(5 * time.Second) // what was sent last has timed out
	eventually(t, "hints delivered", func() bool { return hintsOf(c.nodes[0])+hintsOf(c.nodes[1])+hintsOf(c.nodes[2]) == 0 })
	for k := range propertyKeys {
		pages := [3]row.Page{}
		for n := range 3 {
			cmd := c.whole(c.wide, key(k))
			cmd.GCBefore = row.NoTimestamp
			if _, err := c.nodes[n].engine.Read(&cmd, &pages[n]); err != nil {
				t.Fatal(err)
			}
			if pages[n].Digest != pages[0].Digest {
				t.Errorf("key %d: node %d has %q, node 0 has %q", k, n, c.has(n, c.wide, key(k)), c.has(0, c.wide, key(k)))
			}
		}
		if got := shown(t, c.has(0, c.wide, key(k))); got < l.floorOf(k) {
			t.Errorf("key %d: %d at the end, %d was promised", k, got, l.floorOf(k))
		}
	}
	for i, n := range c.nodes {
		if n.coord.InFlight() != 0 {
			t.Errorf("node %d: %d requests in flight at the end", i, n.coord.InFlight())
		}
		if d := n.coord.Hints().Metrics().Dropped.Load(); d != 0 {
			t.Errorf("node %d: %d hints dropped", i, d)
		}
	}
}
