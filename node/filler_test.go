package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// filled makes a node one that can be sent rows, by streams and comparisons, with short timeouts; at may be nil.
func filled(o *Options, at func(ctx context.Context, step string) error) {
	c := o.Config
	c.ReadTimeout, c.RangeTimeout, c.WriteTimeout, c.CASTimeout, c.CounterTimeout = 5*time.Second, 5*time.Second, 5*time.Second, time.Second, 5*time.Second
	c.StreamThroughput = 0
	o.Filler = func(n *Node) movement.Filler { return newFiller(n, at) }
}

// growing is a trio whose nodes can be sent rows.
func growing(t *testing.T, first int) *trio {
	return newTrioWith(t, first, func(_ int, o *Options) { filled(o, nil) })
}

// spreadRows writes rows so that each is on two of the three replicas only, as after writes at QUORUM whose third replica missed them, and returns
// their keys with how often each was written.
func (c *trio) spreadRows(partitions int) (keys []string) {
	c.t.Helper()
	each := make([][]row.Mutation, 3)
	for i := range partitions {
		key := fmt.Sprintf("spread%05d", i)
		keys = append(keys, key)
		m := c.mutation(key, func(f *row.FragmentBuilder) {
			for j := range 3 {
				f.Row(ckey(j), cellRow(c.column("v"), int64(1000+i), fmt.Sprint("value ", i, j)))
			}
		})
		for r := range 3 {
			if r != i%3 {
				each[r] = append(each[r], m)
			}
		}
	}
	for r, ms := range each {
		c.put(ms, r)
	}
	return keys
}

// readAll reads every partition at QUORUM through a node and returns how many rows there are.
func readAll(t *testing.T, c *trio, n *Node, keys []string) (rows int) {
	t.Helper()
	for _, key := range keys {
		cmd := row.Command{Generation: c.table.Generation, Now: time.Now().Unix(), GCBefore: row.NoTimestamp, Token: ring.Murmur3{}.Token([]byte(key)), Key: []byte(key), Bytes: 1 << 20}
		r := coordinator.Read{Command: cmd, Level: coordinator.Quorum}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		err := n.coord.ReadPage(ctx, &r)
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		var pr row.PageReader
		for pr.Init(r.Page.Data); pr.Next(); {
			var f row.FragmentReader
			if err := f.Init(pr.Fragment); err != nil {
				t.Fatal(err)
			}
			for f.NextRow() {
				rows++
			}
		}
	}
	return rows
}

// holdsExactly returns nil when a node holds something of every partition that it replicates, but for those that it may lack, and nothing of the others.
func holdsExactly(c *trio, n *Node, keys []string, lacks func(i int) bool) error {
	p := n.log.Current().Placement("shop")
	self, member := p.Ring().Node(n.home.HostID)
	for i, key := range keys {
		tok := ring.Murmur3{}.Token([]byte(key))
		var page row.Page
		cmd := row.Command{Generation: c.table.Generation, Now: time.Now().Unix(), GCBefore: row.NoTimestamp, Token: tok, Key: []byte(key), Bytes: 1 << 20}
		if _, err := n.engine.Read(&cmd, &page); err != nil {
			return err
		}
		owns := member && slices.Contains(p.Replicas(tok), self)
		if has := len(page.Data) > 0; has != owns && !(owns && lacks(i)) {
			return fmt.Errorf("node %s, partition %s: holds it %v, replicates it %v", n.home.HostID, key, has, owns)
		}
	}
	return nil
}

// awaitExact waits until holdsExactly. A node of the first three may lack what the writes had left out, and nobody has repaired.
func (c *trio) awaitExact(n *Node, keys []string) {
	c.t.Helper()
	index := slices.Index(c.nodes, n)
	var last error
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if last = holdsExactly(c, n, keys, func(i int) bool { return i%3 == index }); last == nil {
			return
		}
		if time.Now().After(end) {
			c.t.Fatal(last)
		}
	}
}

// TestForcedBesideDoubt: conditional writes that nobody can end any more hold a movement up until it is forced, and nothing else that fails is passed over.
func TestForcedBesideDoubt(t *testing.T) {
	few := fmt.Errorf("finish: %w", &coordinator.Unavailable{Level: coordinator.Serial, Required: 2, Alive: 1})
	for _, c := range []struct {
		err    error
		forced bool
		want   bool
	}{{few, true, true}, {few, false, false}, {context.DeadlineExceeded, true, false}, {nil, true, false}} {
		s := &meta.State{Operations: []meta.Operation{{ID: 7, Kind: meta.Replace, Forced: c.forced}}}
		if got := givesUp(c.err, s); got != c.want {
			t.Errorf("%v, forced %v: %v", c.err, c.forced, got)
		}
	}
}

// plug is TCP that can be pulled: from then on nothing leaves and nothing comes in.
type plug struct {
	tcp
	mu     sync.Mutex // held for a few instructions
	pulled bool
	open   []net.Conn
}

func (p *plug) add(c net.Conn) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pulled {
		_ = c.Close()
		return nil, errors.New("the plug is pulled")
	}
	p.open = append(p.open, c)
	return c, nil
}

func (p *plug) pull() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulled = true
	for _, c := range p.open {
		_ = c.Close()
	}
}

func (p *plug) Dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := p.tcp.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return p.add(c)
}

func (p *plug) Listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := p.tcp.Listen(ctx, addr)
	return pluggable{l, p}, err
}

type pluggable struct {
	net.Listener
	p *plug
}

func (l pluggable) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c, err := l.p.add(c); err == nil {
			return c, nil
		}
	}
}

// TestJoinAndDecommissionMoveRows: a fourth node joins three that hold rows, the whole way, and one of the first leaves. Each row is on two of its three
// replicas, so a node that took one replica's word would lack some. Afterwards every row is read at QUORUM, and each node holds its ranges and nothing else.
func TestJoinAndDecommissionMoveRows(t *testing.T) {
	c := growing(t, 60)
	keys := c.spreadRows(150)
	promised := map[string]int64{}
	for _, key := range keys[:30] {
		promised[key] = c.promise(key)
	}
	four := testNode(t, 63, host(60), func(o *Options) { o.Config.HintedHandoff = false; filled(o, nil) })
	ended, stop := run(four)
	c.stops = append(c.stops, stop)
	awaitReady(t, four, ended)
	c.await("the join ends", func() bool {
		s := c.nodes[0].log.Current()
		return s.Phase() == meta.None && s.Node(four.home.HostID).State == meta.Normal
	})
	all := append(slices.Clone(c.nodes), four)
	for _, n := range all {
		c.await("all know", func() bool { return n.log.Current().Phase() == meta.None && n.log.Current().Owns(four.home.HostID) })
		c.awaitExact(n, keys)
	}
	if rows := readAll(t, c, four, keys); rows != 3*len(keys) {
		t.Errorf("%d rows after the join, want %d", rows, 3*len(keys))
	}
	if st := four.streamStats(); len(st.Peers) == 0 || st.Peers[0].RangesIn == 0 {
		t.Errorf("nothing was streamed: %+v", st)
	}
	p := four.log.Current().Placement("shop")
	self, _ := p.Ring().Node(four.home.HostID)
	for key, ballot := range promised {
		low, err := four.coord.LatestPromise(c.table.Generation+1, ring.Interval{}) // of no register: the low bound alone
		tok := ring.Murmur3{}.Token([]byte(key))
		if err != nil || slices.Contains(p.Replicas(tok), self) && low < ballot {
			t.Errorf("partition %s: a ballot of %d was promised, and the new replica takes those from %d on (%v)", key, ballot, low, err)
		}
	}
	if found, err := four.streams.store.marked(nil); found || err != nil {
		t.Errorf("marks are left: %v %v", found, err)
	}

	gone := c.nodes[1]
	if status, text := request(t, http.MethodPost, 61, "/api/v1/operations?kind=decommission", nil); status != 200 {
		t.Fatalf("decommission: %d %s", status, text)
	}
	c.await("it has left", func() bool { return c.nodes[0].log.Current().Node(gone.home.HostID).State == meta.Left })
	for _, n := range []*Node{c.nodes[0], c.nodes[2], four} {
		c.await("all know", func() bool { return n.log.Current().Phase() == meta.None && !n.log.Current().Owns(gone.home.HostID) })
		c.awaitExact(n, keys)
	}
	if rows := readAll(t, c, c.nodes[2], keys); rows != 3*len(keys) {
		t.Errorf("%d rows after the decommission, want %d", rows, 3*len(keys))
	}
}

// promise has the replicas of a partition promise a ballot, and returns its time.
func (c *trio) promise(key string) (micros int64) {
	c.t.Helper()
	tok := ring.Murmur3{}.Token([]byte(key))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	op := &coordinator.CAS{Command: row.Command{Generation: c.table.Generation, Now: time.Now().Unix(), GCBefore: row.NoTimestamp, Token: tok, Key: []byte(key), Bytes: 1 << 20},
		Serial: coordinator.Serial, Commit: coordinator.Quorum, Decide: func(*row.Page, int64, int64) ([]row.Mutation, bool, error) { return nil, false, nil }}
	if _, err := c.nodes[0].coord.CAS(ctx, op); err != nil {
		c.t.Fatal(err)
	}
	for _, n := range c.nodes {
		at, err := n.coord.LatestPromise(c.table.Generation, ring.Interval{First: tok, Last: tok})
		if err != nil {
			c.t.Fatal(err)
		}
		micros = max(micros, at)
	}
	if micros == 0 {
		c.t.Fatal("nobody has promised anything")
	}
	return micros
}

// TestPullChangesOnlyTheOneThatPulls: a node gets what two others have, deletions included, and they get nothing; a second time nothing is moved.
func TestPullChangesOnlyTheOneThatPulls(t *testing.T) {
	c := newTrio(t, 80)
	c.load(100)
	c.plant(80)
	d := row.Deletion{Timestamp: time.Now().UnixMicro() + 1e6, LocalTime: time.Now().Unix()}
	c.put([]row.Mutation{c.mutation("dead", func(f *row.FragmentBuilder) { f.Row(ckey(1), cellRow(c.column("v"), 5, "x")) })}, 0)
	c.put([]row.Mutation{c.mutation("dead", func(f *row.FragmentBuilder) { f.PartitionDeletion(d) })}, 1)
	c.put([]row.Mutation{c.mutation("only there", func(f *row.FragmentBuilder) { f.Row(ckey(1), cellRow(c.column("v"), 5, "x")) })}, 2)
	others := []ring.HostID{c.nodes[1].home.HostID, c.nodes[2].home.HostID}
	before := [2]map[string]string{records(c.t, c.nodes[1], c.table, ring.FullRange()), records(c.t, c.nodes[2], c.table, ring.FullRange())}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	full := ring.Interval{First: ring.MinToken, Last: ring.MaxToken}
	for try, want := range []bool{true, false} {
		moved := int64(0)
		if err := c.nodes[0].repair.Pull(ctx, c.table.Generation, full, others, func(n int64) { moved += n }); err != nil {
			t.Fatal(err)
		}
		if moved > 0 != want {
			t.Errorf("pull %d moved %d bytes", try+1, moved)
		}
	}
	for i, was := range before {
		if !sameRecords(was, records(c.t, c.nodes[1+i], c.table, ring.FullRange())) {
			t.Errorf("replica %d was changed", 1+i)
		}
	}
	tok := ring.Murmur3{}.Token([]byte("only there"))
	if got := records(t, c.nodes[0], c.table, ring.Range{Start: tok - 1, End: tok}); len(got) != 1 {
		t.Errorf("%d records came of a partition that one of the others has", len(got))
	}
	tok = ring.Murmur3{}.Token([]byte("dead"))
	if got := records(t, c.nodes[0], c.table, ring.Range{Start: tok - 1, End: tok}); len(got) != 1 {
		t.Errorf("%d records of a partition that is deleted elsewhere, want its deletion", len(got))
	}
}

// TestJoinSurvivesAKillAtEachStep: the joining node is killed and loses what was not synced at each step of its filling, once at each; started again it
// goes on, and has all in the end.
func TestJoinSurvivesAKillAtEachStep(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node again and again")
	}
	c := growing(t, 70)
	keys := c.spreadRows(60)
	var mu sync.Mutex
	left := map[string]bool{"clear": true, "cleared": true, "settle": true, "stream": true, "compare": true, "compared": true}
	fs, wire := vfs.NewCrashableMem(), &plug{}
	killed := make(chan *vfs.MemFS, 1)
	at := func(ctx context.Context, step string) error {
		mu.Lock()
		kill := left[step] && len(killed) == 0
		if kill {
			delete(left, step)
			wire.pull() // first: nobody is told of what is lost
			killed <- fs.CrashClone(vfs.CrashCloneCfg{})
		}
		mu.Unlock()
		if kill {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	start := func() (*Node, chan error, func() error) {
		n := testNode(t, 73, host(70), func(o *Options) { o.FS, o.Net, o.Config.HintedHandoff = fs, wire, false; filled(o, at) })
		ended, stop := run(n)
		return n, ended, stop
	}
	n, ended, stop := start()
	kills := 0
	for ready := false; !ready; {
		select {
		case <-n.Ready():
			ready = true
		case err := <-ended:
			t.Fatalf("after %d kills the node ended: %v", kills, err)
		case crashed := <-killed:
			kills++
			_ = stop() // what it says of its lost network does not matter
			mu.Lock()
			fs, wire = crashed, &plug{}
			mu.Unlock()
			n, ended, stop = start()
		case <-time.After(2 * time.Minute):
			t.Fatalf("after %d kills it does not get on: %+v", kills, n.mover.Progress())
		}
	}
	c.stops = append(c.stops, stop)
	if len(left) > 0 || kills != 6 {
		t.Errorf("%d kills; not at %v", kills, left)
	}
	c.await("the join ends", func() bool { return n.log.Current().Phase() == meta.None })
	for _, n := range append(slices.Clone(c.nodes), n) {
		c.await("all know", func() bool { return n.log.Current().Phase() == meta.None && n.log.Current().Owns(n.home.HostID) })
		c.awaitExact(n, keys)
	}
	if rows := readAll(t, c, n, keys); rows != 3*len(keys) {
		t.Errorf("%d rows, want %d", rows, 3*len(keys))
	}
}
