package node

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/storage"
)

// ownerOf returns the only replica of a key by a node's metadata.
func ownerOf(n *Node, key string) ring.HostID {
	p := n.log.Current().Placement("shop")
	return p.Ring().Nodes()[p.Replicas(ring.Murmur3{}.Token([]byte(key)))[0]].ID
}

// has tells whether a node holds rows of a partition.
func (c *trio) has(n *Node, key string) bool {
	c.t.Helper()
	var page row.Page
	cmd := row.Command{Generation: c.table.Generation, Now: time.Now().Unix(), GCBefore: row.NoTimestamp, Token: ring.Murmur3{}.Token([]byte(key)), Key: []byte(key), Bytes: 1 << 20}
	if _, err := n.engine.Read(&cmd, &page); err != nil {
		c.t.Fatal(err)
	}
	return page.Rows > 0
}

// TestForcedMovementKeepsWhatADeadNodeHad: a node joins while one is down that is the only replica of some of what it gets, and is forced. The dead node comes back: what it
// lost it keeps, since nobody else has it, until it is told to clean up; then it is like any other.
func TestForcedMovementKeepsWhatADeadNodeHad(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for failure detection")
	}
	var disks [3]storage.FS
	c := newTrioWith(t, 190, func(i int, o *Options) {
		disks[i] = storage.Memory()
		o.FS = disks[i]
		filled(o, nil)
	})
	c.replicate("1")
	two := c.nodes[2]
	var keys []string
	for i := range 200 {
		key := fmt.Sprintf("only%05d", i)
		m := c.mutation(key, func(f *row.FragmentBuilder) { f.Row(ckey(0), cellRow(c.column("v"), 1000, "value")) })
		owner := slices.IndexFunc(c.nodes, func(n *Node) bool { return n.home.HostID == ownerOf(n, key) })
		if keys = append(keys, key); owner >= 0 {
			c.put([]row.Mutation{m}, owner)
		}
	}
	if err := c.stops[2](); err != nil {
		t.Fatal(err)
	}
	c.stops[2] = func() error { return nil }
	c.await("it is known to be down", func() bool { return !c.nodes[0].alive(two.home.HostID) && !c.nodes[1].alive(two.home.HostID) })

	four := testNode(t, 193, host(190)+","+host(191), func(o *Options) { o.Config.HintedHandoff = false; filled(o, nil) })
	ended, stop := run(four)
	c.stops = append(c.stops, stop)
	c.await("it joins", func() bool { return len(c.nodes[0].log.Current().Operations) == 1 })
	if err := c.nodes[0].ForceOperation(t.Context(), c.nodes[0].log.Current().Operations[0].ID); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, four, ended)
	c.await("the join ends", func() bool {
		return c.nodes[0].log.Current().Phase() == meta.None && c.nodes[0].log.Current().Owns(four.home.HostID)
	})

	back := testNode(t, 192, host(190)+","+host(191), func(o *Options) { o.FS = disks[2]; o.Config.HintedHandoff = false; filled(o, nil) })
	ended, c.stops[2] = run(back)
	awaitReady(t, back, ended)
	c.await("it has looked what it has lost", func() bool { return back.keptSince.Load() == back.log.Current().RingEpoch })
	lost := 0
	for _, key := range keys {
		if owner := ownerOf(back, key); owner == four.home.HostID && c.has(back, key) {
			if lost++; c.has(four, key) {
				t.Errorf("%s has come to the node that joined while its only replica was down", key)
			}
		}
	}
	if lost == 0 {
		t.Error("it has nothing of what it lost, and nobody else has it")
	}
	var ops Operations
	if status, text := request(t, http.MethodGet, 190, "/api/v1/operations", &ops); status != 200 || !slices.Contains(ops.Keeps, host(192)) {
		t.Errorf("operations: %d %s", status, text)
	}

	var done CleanupStatus
	if status, text := request(t, http.MethodPost, 192, "/api/v1/cleanup?keyspace=shop&table=nosuch", &done); status == 200 {
		t.Errorf("cleanup of a table that does not exist: %s", text)
	}
	if status, text := request(t, http.MethodPost, 192, "/api/v1/cleanup?keyspace=shop&table=orders", &done); status != 200 || done.Tables != 1 || !done.Kept {
		t.Errorf("cleanup of one table: %d %s", status, text)
	}
	for _, key := range keys {
		if ownerOf(back, key) != back.home.HostID && c.has(back, key) {
			t.Errorf("%s is left after the cleanup", key)
		}
	}
	if status, text := request(t, http.MethodPost, 192, "/api/v1/cleanup", &done); status != 200 {
		t.Errorf("cleanup: %d %s", status, text)
	}
	c.await("it keeps nothing any more", func() bool { return !c.nodes[0].log.Current().Node(back.home.HostID).Keeps })
	for _, key := range keys {
		if ownerOf(back, key) == back.home.HostID && !c.has(back, key) {
			t.Errorf("%s, which it owns, is gone", key)
		}
	}
}

// TestCleanupIsNotBesideAMovement: while ranges move a cleanup is refused, and says why.
func TestCleanupIsNotBesideAMovement(t *testing.T) {
	if testing.Short() {
		t.Skip("three nodes")
	}
	hold := make(chan struct{})
	c := newTrioWith(t, 194, func(_ int, o *Options) {
		filled(o, func(ctx context.Context, _ string) error {
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return ctx.Err()
		})
	})
	if _, err := c.nodes[1].Cleanup(t.Context(), "", nil); err != nil {
		t.Errorf("while nothing moves: %v", err)
	}
	c.load(10)
	tokens := slices.Clone(c.nodes[0].log.Current().Node(c.nodes[0].home.HostID).Tokens)
	for i := range tokens {
		tokens[i]++
	}
	if _, err := c.nodes[0].StartOperations(t.Context(), []OperationRequest{{Kind: meta.Move.String(), Tokens: tokens}}); err != nil {
		t.Fatal(err)
	}
	for i, n := range c.nodes {
		c.await("it knows", func() bool { return n.log.Current().Phase() != meta.None })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := n.Cleanup(ctx, "", nil); err == nil || err.Error() != errMoving.Error() {
			t.Errorf("node %d: %v", i, err)
		}
		cancel()
	}
	close(hold)
	c.await("it is over", func() bool { return c.nodes[0].log.Current().Phase() == meta.None })
}
