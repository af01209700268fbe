package movement_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

func host(i int) ring.HostID { return ring.HostID{0: byte(i), 15: byte(i)} }

func addr(i, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), uint16(port))
}

func member(i int, dc string) meta.Node {
	return meta.Node{ID: host(i), Generation: 100, Internode: addr(i, 7000), Native: addr(i, 9042), DC: dc, Rack: fmt.Sprintf("r%d", i),
		Tokens: []ring.Token{ring.Token(i) << 40, ring.Token(-i) << 50}, Version: meta.Version}
}

func must(t testing.TB, s *meta.State, commands ...*meta.Command) *meta.State {
	t.Helper()
	for _, c := range commands {
		next, err := s.Apply(c)
		if err != nil {
			t.Fatalf("command %d: %v", c.Kind, err)
		}
		s = next
	}
	return s
}

// cluster returns a state with one member per data centre named, and table ks.t replicated as said.
func cluster(t testing.TB, dcs []string, replication ...schema.Pair) *meta.State {
	t.Helper()
	s := must(t, meta.Empty(), &meta.Command{Kind: meta.Found, Node: member(1, dcs[0]), ClusterID: [16]byte{1}, ClusterName: "test", Partitioner: ring.Murmur3{}.Name()})
	for i := 2; i <= len(dcs); i++ {
		n := member(i, dcs[i-1])
		n.Quiet = true
		s = must(t, s, &meta.Command{Kind: meta.AddPending, Node: n})
		s = must(t, s, &meta.Command{Kind: meta.CommitJoin, Node: *s.Node(n.ID)})
	}
	env := schema.Env{NewID: func() schema.ID { return schema.ID{1} }, Now: func() time.Time { return time.Unix(1, 0) }}
	plan, err := s.Catalog.CreateKeyspace(schema.CreateKeyspace{Name: "ks", Properties: []schema.Property{{Name: "replication", IsMap: true, Map: replication}}}, env)
	if err != nil {
		t.Fatal(err)
	}
	s = must(t, s, &meta.Command{Kind: meta.Schema, BaseEpoch: s.Epoch, Changes: plan.Changes})
	blob := schema.TypeSpec{Name: "blob"}
	plan, err = s.Catalog.CreateTable(schema.CreateTable{Keyspace: "ks", Name: "t", PartitionKey: []string{"pk"}, Columns: []schema.ColumnSpec{{Name: "pk", Type: blob}}}, env)
	if err != nil {
		t.Fatal(err)
	}
	return must(t, s, &meta.Command{Kind: meta.Schema, BaseEpoch: s.Epoch, Changes: plan.Changes})
}

func simple(rf string) []schema.Pair {
	return []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: rf}}
}

func oneDC(n int) []string { return slices.Repeat([]string{"dc1"}, n) }

func join(i int) *meta.Command {
	return &meta.Command{Kind: meta.AddPending, Node: member(i, "dc1")}
}

func dead(which ...int) func(ring.HostID) bool {
	return func(id ring.HostID) bool { return !slices.Contains(which, int(id[0])) }
}

// user leaves out what is filled of the system's keyspaces.
func user(fs []movement.Fill) []movement.Fill {
	return slices.DeleteFunc(fs, func(f movement.Fill) bool { return f.Keyspace != "ks" })
}

// TestPending: a gaining node fills exactly what it gains, each range once, from enough live replicas that hold it.
func TestPending(t *testing.T) {
	s := must(t, cluster(t, oneDC(5), simple("3")...), join(6))
	todo, waits := movement.Pending(movement.Follow(movement.Records{}, s, host(6)), s, host(6), dead(2))
	if len(waits) > 0 {
		t.Fatalf("waits %v", waits)
	}
	var got, want []ring.Range
	for _, m := range s.Fills("ks", host(6)) {
		want = append(want, m.Range)
	}
	for _, f := range user(todo) {
		got = append(got, f.Ranges...)
		if f.Plan != s.Plan || !f.Fresh || len(f.Tables) != 1 || len(f.Compare) != 1 || f.Source == f.Compare[0] {
			t.Errorf("%+v", f)
		}
		for _, rg := range f.Ranges {
			for _, m := range s.Fills("ks", host(6)) {
				for _, id := range m.Losses {
					if m.Range.Intersects(rg) && id != host(2) && !slices.Contains(append(f.Compare, f.Source), id) {
						t.Errorf("%s loses %s and is not compared with", id, rg)
					}
				}
			}
			for _, id := range append(f.Compare, f.Source) {
				p := s.Before("ks")
				at, _ := p.Ring().Node(id)
				if id == host(2) || !p.IsReplica(rg.End, at) {
					t.Errorf("%s is a source of %s", id, rg)
				}
			}
		}
	}
	slices.SortFunc(got, func(a, b ring.Range) int { return int(a.End>>32) - int(b.End>>32) })
	slices.SortFunc(want, func(a, b ring.Range) int { return int(a.End>>32) - int(b.End>>32) })
	if !slices.Equal(got, want) || len(got) == 0 {
		t.Errorf("fills %v, want %v", got, want)
	}
	for i := 1; i <= 5; i++ { // the others gain nothing
		if todo, waits := movement.Pending(movement.Records{}, s, host(i), dead()); len(user(todo))+len(waits) > 0 {
			t.Errorf("%d fills %v", i, todo)
		}
	}
}

// TestPendingWaitsForReplicas: with two of three replicas dead it waits and says for what; a forced one goes on.
func TestPendingWaitsForReplicas(t *testing.T) {
	base := cluster(t, oneDC(3), simple("3")...)
	c := &meta.Command{Kind: meta.AddPending, Node: member(6, "dc1")}
	c.Node.Replaces, c.Node.Rack = host(3), "r3"
	s := must(t, base, c)
	todo, waits := movement.Pending(movement.Records{Plan: s.Plan}, s, host(6), dead(2, 3))
	if len(user(todo)) != 0 || len(waits) == 0 || waits[0].Need != 2 || waits[0].Alive != 1 || !strings.Contains(waits[0].Error(), "needs 2 of its replicas in dc1, 1 are alive") {
		t.Errorf("fills %v, waits %v", todo, waits)
	}
	c.Force = true
	s = must(t, base, c)
	todo, waits = movement.Pending(movement.Records{Plan: s.Plan}, s, host(6), dead(2, 3))
	if len(waits) > 0 || len(user(todo)) == 0 || user(todo)[0].Source != host(1) || len(user(todo)[0].Compare) != 0 {
		t.Errorf("forced: fills %v, waits %v", todo, waits)
	}
}

// TestPendingInDataCentres: of its own data centre so many that a LOCAL_QUORUM there is known, of all so many that a QUORUM is.
func TestPendingInDataCentres(t *testing.T) {
	network := []schema.Pair{{Key: "class", Value: "NetworkTopologyStrategy"}, {Key: "dc1", Value: "3"}, {Key: "dc2", Value: "3"}}
	base := cluster(t, []string{"dc1", "dc1", "dc1", "dc1", "dc2", "dc2", "dc2"}, network...)
	s := must(t, base, join(8))
	todo, waits := movement.Pending(movement.Records{Plan: s.Plan}, s, host(8), dead())
	if len(waits) > 0 || len(user(todo)) == 0 {
		t.Fatalf("waits %v", waits)
	}
	for _, f := range user(todo) {
		here := 0
		for _, id := range append(f.Compare, f.Source) {
			if s.Node(id).DC == "dc1" {
				here++
			}
		}
		if here < 2 || len(f.Compare) != 2 { // 2 of 3, and 3 of 6
			t.Errorf("%d of %d sources are local", here, len(f.Compare)+1)
		}
	}
	if _, waits := movement.Pending(movement.Records{Plan: s.Plan}, s, host(8), dead(1, 2, 3)); len(waits) == 0 || waits[0].DC != "dc1" {
		t.Errorf("waits %v", waits)
	}
	// A data centre that gets its first replicas has none of its own to ask.
	alter, err := base.Catalog.AlterKeyspace(schema.AlterKeyspace{Name: "ks", Properties: []schema.Property{{Name: "replication", IsMap: true, Map: network[:2]}}}, schema.Env{})
	if err != nil {
		t.Fatal(err)
	}
	only := must(t, base, &meta.Command{Kind: meta.Schema, BaseEpoch: base.Epoch, Changes: alter.Changes})
	alter, err = only.Catalog.AlterKeyspace(schema.AlterKeyspace{Name: "ks", Properties: []schema.Property{{Name: "replication", IsMap: true, Map: network}}}, schema.Env{})
	if err != nil {
		t.Fatal(err)
	}
	s = must(t, only, &meta.Command{Kind: meta.Schema, BaseEpoch: only.Epoch, Changes: alter.Changes, Moves: true})
	todo, waits = movement.Pending(movement.Records{Plan: s.Plan}, s, host(5), dead())
	if len(waits) > 0 || len(user(todo)) == 0 || len(user(todo)[0].Compare) != 1 {
		t.Errorf("rebuild: fills %v, waits %v", todo, waits)
	}
}

// TestPendingOfThoseThatStay: where three replicas become one, that one is compared with both others, which leave, and nothing of it is deleted.
func TestPendingOfThoseThatStay(t *testing.T) {
	base := cluster(t, oneDC(3), simple("3")...)
	alter, err := base.Catalog.AlterKeyspace(schema.AlterKeyspace{Name: "ks", Properties: []schema.Property{{Name: "replication", IsMap: true, Map: simple("1")}}}, schema.Env{})
	if err != nil {
		t.Fatal(err)
	}
	s := must(t, base, &meta.Command{Kind: meta.Schema, BaseEpoch: base.Epoch, Changes: alter.Changes, Moves: true})
	for i := 1; i <= 3; i++ {
		todo, waits := movement.Pending(movement.Records{Plan: s.Plan}, s, host(i), dead())
		if len(waits) > 0 || len(user(todo)) == 0 {
			t.Errorf("%d: waits %v, fills %v", i, waits, todo)
		}
		for _, f := range user(todo) {
			if f.Fresh || !f.Source.IsZero() || len(f.Compare) != 2 || slices.Contains(f.Compare, host(i)) {
				t.Errorf("%d: %+v", i, f)
			}
		}
	}
}

// TestFollow: what is filled stays filled under the next plan where the node still gains it, and is forgotten when a plan was missed or
// the movement is another.
func TestFollow(t *testing.T) {
	s := must(t, cluster(t, oneDC(5), simple("3")...), join(6))
	r := movement.Follow(movement.Records{}, s, host(6))
	if r.Plan != s.Plan || len(r.Filled) != 0 {
		t.Errorf("%+v", r)
	}
	var all []ring.Range
	for _, m := range s.Fills("ks", host(6)) {
		all = append(all, m.Range)
	}
	all = ring.Normalize(all)
	r.Filled, r.Begun = map[string][]ring.Range{"ks": all}, map[string][]ring.Range{"ks": all}
	two := must(t, s, join(7))
	kept := movement.Follow(r, two, host(6))
	var gains []ring.Range
	for _, m := range two.Fills("ks", host(6)) {
		gains = append(gains, m.Range)
	}
	if want := ring.Intersect(gains, all); kept.Plan != two.Plan || !slices.Equal(kept.Filled["ks"], want) || !slices.Equal(kept.Begun["ks"], want) || len(want) == 0 {
		t.Errorf("kept %v, want %v", kept, want)
	}
	three := must(t, two, &meta.Command{Kind: meta.AbortOperation, Operation: two.OperationOn(host(7)).ID})
	if missed := movement.Follow(r, three, host(6)); missed.Plan != three.Plan || len(missed.Filled)+len(missed.Begun) != 0 {
		t.Errorf("a plan was missed: %v", missed)
	}
	if again := movement.Follow(kept, three, host(6)); !slices.Equal(again.Filled["ks"], ring.Intersect(all, again.Filled["ks"])) || len(again.Filled["ks"]) == 0 {
		t.Errorf("%v", again)
	}
	none := must(t, three, &meta.Command{Kind: meta.AbortOperation, Operation: three.OperationOn(host(6)).ID})
	if r := movement.Follow(kept, none, host(6)); !reflect.DeepEqual(r, movement.Records{}) {
		t.Errorf("after the movement: %v", r)
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	r := movement.Records{Plan: 300, Filled: map[string][]ring.Range{"a": {{Start: 1, End: 2}}, "ks": {{Start: -5, End: 7}, {Start: 9, End: -9}}}, Begun: map[string][]ring.Range{"ks": {{Start: -5, End: 7}}}}
	raw := r.Append(nil)
	const golden = "01ac02020161010000000000000001000000000000000202" + "6b7302fffffffffffffffb00000000000000070000000000000009fffffffffffffff7" + "01026b7301fffffffffffffffb0000000000000007"
	if got := hex.EncodeToString(raw); got != golden {
		t.Errorf("encoded as %s", got)
	}
	got, err := movement.DecodeRecords(raw)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v became %+v, %v", r, got, err)
	}
	for n := range raw {
		if _, err := movement.DecodeRecords(raw[:n]); err == nil {
			t.Errorf("its first %d bytes decode", n)
		}
	}
}

func FuzzDecodeRecords(f *testing.F) {
	f.Add(movement.Records{Plan: 1, Filled: map[string][]ring.Range{"ks": {{Start: 1, End: 2}}}}.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := movement.DecodeRecords(raw)
		if err != nil {
			return
		}
		if again, err := movement.DecodeRecords(r.Append(nil)); err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%v became %v: %v", r, again, err)
		}
	})
}

// world is a cluster of movers whose log is a state behind a mutex.
type world struct {
	t    *testing.T
	mu   sync.Mutex // guards all below; not held for long
	r    *rand.Rand
	luck *rand.Rand // of faults; under mu
	s    *meta.State
	// holds is, by node, which ranges of ks it has the rows of, cleared and filled; lost when it is removed.
	holds  map[ring.HostID][]ring.Range
	runs   map[ring.HostID]*process
	fails  bool // fills and proposals fail now and then
	copied int  // ranges
	byNode map[ring.HostID]int
	lags   map[ring.HostID]bool                            // have not heard of any plan
	strict bool                                            // nobody dies: ranges are compared again only when all have heard of the switch
	saving func(ctx context.Context, id ring.HostID) error // nil: nothing happens before records are saved. Set before the movers that it is about run
	again  map[ring.HostID]int                             // ranges that were compared after every member alive had heard of the switch
}

type process struct {
	m      *movement.Mover
	cancel context.CancelFunc
	done   chan error
	disk   []byte
	up     bool
}

func (w *world) Current() *meta.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.s
}

// AwaitAll implements movement.Log: there is one state for all but those that lag.
func (w *world) AwaitAll(_ context.Context, _ uint64, members []ring.HostID) []ring.HostID {
	time.Sleep(time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(members), func(id ring.HostID) bool { return !w.lags[id] })
}

func (w *world) Propose(_ context.Context, build func(*meta.State) (*meta.Command, bool, error)) (*meta.State, error) {
	time.Sleep(time.Millisecond)
	if w.fault(5) {
		return nil, errors.New("no quorum")
	}
	for {
		s := w.Current()
		c, ok, err := build(s)
		if err != nil || !ok {
			return s, err
		}
		if done, err := w.apply(s, c); done || err != nil {
			return w.Current(), err
		}
	}
}

func (w *world) fault(oneIn int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fails && w.luck.IntN(oneIn) == 0
}

// apply puts a command made from s into the log; done false when the log has moved on.
func (w *world) apply(s *meta.State, c *meta.Command) (done bool, err error) {
	w.mu.Lock()
	if w.s != s {
		w.mu.Unlock()
		return false, nil
	}
	next, err := s.Apply(c)
	if err != nil {
		w.mu.Unlock()
		return false, err
	}
	if c.Kind == meta.Switch {
		w.check(s)
	}
	w.s = next
	var tell []*movement.Mover
	for _, p := range w.runs {
		if p.up {
			tell = append(tell, p.m)
		}
	}
	w.mu.Unlock()
	for _, m := range tell {
		m.Observe(s, next)
	}
	return true, nil
}

// check: every replica that is about to be read has the rows.
func (w *world) check(s *meta.State) {
	after := s.After("ks")
	for i := range after.Ring().Segments() {
		seg := after.Ring().Segment(i)
		for _, at := range after.SegmentReplicas(i) {
			id := after.Ring().Nodes()[at].ID
			if left := ring.Subtract([]ring.Range{seg}, w.holds[id]); len(left) > 0 {
				w.t.Errorf("plan %d: %s is about to be read for %v, which it was not sent", s.Plan, id, left)
			}
		}
	}
}

type filler struct {
	w  *world
	id ring.HostID
}

func (f filler) Clear(_ context.Context, fill movement.Fill) error {
	if f.w.fault(10) {
		return errors.New("the disk is busy")
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if fill.Keyspace == "ks" {
		f.w.holds[f.id] = ring.Subtract(f.w.holds[f.id], fill.Ranges)
	}
	return nil
}

func (f filler) Fill(ctx context.Context, fill movement.Fill, moved func(int64)) error {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	}
	if f.w.fault(5) {
		return errors.New("the connection broke")
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if fill.Keyspace != "ks" {
		return nil
	}
	if s := f.w.s; s.Phase() == meta.Switched {
		if heard := s.Unheard(); !fill.Source.IsZero() || fill.Fresh || f.w.strict && len(heard) > 0 {
			f.w.t.Errorf("%s fills once switched: %v, unheard %v", f.id, fill, heard)
		}
		f.w.again[f.id] += len(fill.Ranges)
		return nil
	}
	for _, id := range append(fill.Compare, fill.Source) {
		if !id.IsZero() && len(ring.Subtract(fill.Ranges, f.w.holds[id])) > 0 {
			f.w.t.Errorf("%s fills %v from %s, which does not have it", f.id, fill.Ranges, id)
		}
	}
	f.w.holds[f.id] = ring.Normalize(append(slices.Clone(f.w.holds[f.id]), fill.Ranges...))
	f.w.copied += len(fill.Ranges)
	f.w.byNode[f.id] += len(fill.Ranges)
	moved(int64(len(fill.Ranges)))
	return nil
}

type disk struct {
	w  *world
	id ring.HostID
}

func (d disk) Load() ([]byte, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	return d.w.runs[d.id].disk, nil
}

func (d disk) Save(ctx context.Context, b []byte) error {
	if d.w.saving != nil {
		if err := d.w.saving(ctx, d.id); err != nil {
			return err
		}
	}
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.runs[d.id].disk = b
	return nil
}

func newWorld(t *testing.T, seed uint64, s *meta.State) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 3)), luck: rand.New(rand.NewPCG(seed, 4)), s: s, holds: map[ring.HostID][]ring.Range{}, runs: map[ring.HostID]*process{}, byNode: map[ring.HostID]int{}, again: map[ring.HostID]int{}}
	p := s.Placement("ks")
	for i, n := range p.Ring().Nodes() {
		w.holds[n.ID] = ring.Normalize(p.Ranges(int32(i)))
		w.start(n.ID)
	}
	return w
}

func (w *world) start(id ring.HostID) {
	w.mu.Lock()
	p := w.runs[id]
	if p == nil {
		p = &process{}
		w.runs[id] = p
	}
	w.mu.Unlock()
	m, err := movement.New(movement.Options{Self: id, Log: w, Alive: w.alive, Filler: filler{w, id}, Store: disk{w, id},
		Handover: func(context.Context) error { return nil },
		Settled:  func(context.Context, uint64) error { time.Sleep(5 * time.Millisecond); return nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	w.mu.Lock()
	p.m, p.cancel, p.done, p.up = m, cancel, done, true
	w.mu.Unlock()
	go func() { done <- m.Run(ctx) }()
}

func (w *world) stop(id ring.HostID) {
	w.mu.Lock()
	p := w.runs[id]
	p.up = false
	w.mu.Unlock()
	p.cancel()
	if err := <-p.done; err != nil {
		w.t.Errorf("%s ended with %v", id, err)
	}
}

func (w *world) alive(id ring.HostID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.runs[id]
	return p != nil && p.up
}

// until lets time pass, with a leader that does its chore, until the condition holds.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	for range 20000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
		s := w.Current()
		if c := s.Advance(func(id ring.HostID) bool { return !w.alive(id) }); c != nil {
			if _, err := w.apply(s, c); err != nil {
				w.t.Errorf("the leader's chore: %v", err)
			}
		}
	}
	s := w.Current()
	w.t.Fatalf("never: %s; phase %s, unfilled %v, unheard %v", what, s.Phase(), s.Unfilled(), s.Unheard())
}

func (w *world) do(c *meta.Command) error {
	for {
		done, err := w.apply(w.Current(), c)
		if done || err != nil {
			return err
		}
	}
}

func (w *world) halt() {
	for id, p := range w.runs {
		if p.up {
			w.stop(id)
		}
	}
}

// TestMoverJoins: two nodes join at once and another leaves, each range is copied once.
func TestMoverJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, cluster(t, oneDC(5), simple("3")...))
		defer w.halt()
		for _, c := range []*meta.Command{join(6), join(7), {Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: host(2)}}} {
			if err := w.do(c); err != nil {
				t.Fatal(err)
			}
		}
		w.start(host(6))
		w.start(host(7))
		total := 0
		for _, n := range w.s.Nodes {
			total += len(w.s.Fills("ks", n.ID))
		}
		w.until("the movement ends", func() bool { return w.Current().Phase() == meta.None })
		if s := w.Current(); s.Node(host(6)).State != meta.Normal || s.Node(host(2)).State != meta.Left || w.copied < total/2 || w.copied > total*2 {
			t.Errorf("%d ranges copied of %d; %v", w.copied, total, s.Nodes)
		}
		if p := w.runs[host(6)].m.Progress(); p.Plan != 0 {
			t.Errorf("progress %+v", p)
		}
	})
}

// TestMoverResumes: a node that stops in the middle goes on with what is left.
func TestMoverResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, cluster(t, oneDC(5), simple("3")...))
		defer w.halt()
		if err := w.do(join(6)); err != nil {
			t.Fatal(err)
		}
		total := len(w.s.Fills("ks", host(6)))
		for stops := 0; w.Current().Phase() == meta.Filling && stops < 100; stops++ {
			w.start(host(6))
			time.Sleep(25 * time.Millisecond)
			w.stop(host(6))
		}
		if w.byNode[host(6)] != total || len(w.Current().Unfilled()) != 0 {
			t.Errorf("%d ranges copied of %d, unfilled %v", w.byNode[host(6)], total, w.Current().Unfilled())
		}
		w.start(host(6))
		w.until("the movement ends", func() bool { return w.Current().Phase() == meta.None })
	})
}

// TestMoverSavesWhileThePlanChanges: a plan that comes while it is remembered that a range was emptied is nothing that ends a node.
func TestMoverSavesWhileThePlanChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, cluster(t, oneDC(5), simple("3")...))
		defer w.halt()
		saves := 0
		w.saving = func(ctx context.Context, id ring.HostID) error {
			if id != host(6) {
				return nil
			}
			if saves++; saves == 2 { // the first one is of the plan
				if err := w.do(join(7)); err != nil {
					t.Error(err)
				}
			}
			return ctx.Err()
		}
		if err := w.do(join(6)); err != nil {
			t.Fatal(err)
		}
		w.start(host(6))
		time.Sleep(100 * time.Millisecond)
		w.start(host(7))
		w.until("the movement ends", func() bool { return w.Current().Phase() == meta.None })
		if saves < 3 {
			t.Errorf("%d saves: this test shows nothing", saves)
		}
	})
}

// TestMoverWaits: with too few replicas alive nothing moves and the reason shows; when they are back it goes on.
func TestMoverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, cluster(t, oneDC(3), simple("3")...))
		defer w.halt()
		w.stop(host(2))
		w.stop(host(3))
		c := join(6)
		c.Node.Replaces, c.Node.Rack = host(3), "r3"
		if err := w.do(c); err != nil {
			t.Fatal(err)
		}
		w.start(host(6))
		time.Sleep(10 * time.Second)
		if p := w.runs[host(6)].m.Progress(); w.Current().Phase() != meta.Filling || !strings.Contains(p.Waits, "needs 2 of its replicas") || p.Total == 0 {
			t.Errorf("progress %+v", p)
		}
		w.start(host(2))
		w.until("the movement ends", func() bool { return w.Current().Phase() == meta.None })
	})
}

// TestMoversUnderAnything: operations begin and are aborted while nodes stop and start and fills fail; whoever is about to be read has
// been sent its rows (world.check), and when the faults end so do the movements.
func TestMoversUnderAnything(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, cluster(t, oneDC(5), simple("3")...))
			defer w.halt()
			w.fails = true
			next := 6
			for range 60 {
				w.anything(&next)
				end := time.Now().Add(time.Duration(w.r.IntN(200)) * time.Millisecond)
				w.until("time", func() bool { return time.Now().After(end) })
			}
			w.mu.Lock()
			w.fails = false
			w.mu.Unlock()
			for i := 1; i < next; i++ {
				if n := w.Current().Node(host(i)); n != nil && n.State != meta.Left && !w.alive(host(i)) {
					w.start(host(i))
				}
			}
			w.until("everything rests", func() bool { return w.Current().Phase() == meta.None })
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
	}
}

func (w *world) anything(next *int) {
	s := w.Current()
	i := 1 + w.r.IntN(*next-1)
	n := s.Node(host(i))
	switch w.r.IntN(8) {
	case 0, 1:
		if *next < 14 && w.do(join(*next)) == nil {
			w.start(host(*next))
			*next++
		}
	case 2:
		_ = w.do(&meta.Command{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: host(i)}})
	case 3:
		_ = w.do(&meta.Command{Kind: meta.StartOperation, OperationKind: meta.Move, Node: meta.Node{ID: host(i), Next: []ring.Token{ring.Token(w.r.Int64()), ring.Token(w.r.Int64())}}})
	case 4:
		if k := len(s.Operations); k > 0 {
			_ = w.do(&meta.Command{Kind: meta.AbortOperation, Operation: s.Operations[w.r.IntN(k)].ID})
		}
	case 5, 6:
		if n != nil && w.alive(host(i)) {
			w.stop(host(i))
		}
	case 7:
		if n != nil && !w.alive(host(i)) {
			w.start(host(i))
		}
	}
}

// TestMoverReadsNobodyWhoHasNotHeard: nothing is read, nor cleared, before all that are going to be read have the plan: they might still let go of
// tombstones.
func TestMoverReadsNobodyWhoHasNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, cluster(t, oneDC(3), simple("3")...))
		defer w.halt()
		w.mu.Lock()
		w.lags = map[ring.HostID]bool{host(2): true}
		w.mu.Unlock()
		if err := w.do(join(4)); err != nil {
			t.Fatal(err)
		}
		w.start(host(4))
		time.Sleep(20 * time.Second)
		w.mu.Lock()
		copied, p := w.copied, w.runs[host(4)].m.Progress()
		w.lags = nil
		w.mu.Unlock()
		if copied != 0 || !strings.Contains(p.Waits, "not heard") {
			t.Errorf("%d ranges were filled, it says %q", copied, p.Waits)
		}
		time.Sleep(20 * time.Second)
		if s := w.Current(); s.Phase() == meta.Filling && len(s.Unfilled()) > 0 {
			t.Errorf("afterwards: %v", s.Unfilled())
		}
	})
}

// TestMoversCompareOnceMore: before a movement ends, every node that filled ranges has compared all of them once more after all had heard of the switch:
// with what loses them too, and brings nothing as a whole.
func TestMoversCompareOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, cluster(t, oneDC(4), simple("3")...))
		defer w.halt()
		w.mu.Lock()
		w.strict = true
		w.mu.Unlock()
		if err := w.do(join(5)); err != nil {
			t.Fatal(err)
		}
		s := w.Current()
		want := map[ring.HostID]int{}
		for i := 1; i <= 5; i++ {
			if n := len(s.Fills("ks", host(i))); n > 0 {
				want[host(i)] = n
			}
		}
		w.start(host(5))
		w.until("the movement ends", func() bool { return w.Current().Phase() == meta.None })
		w.mu.Lock()
		defer w.mu.Unlock()
		if !reflect.DeepEqual(w.again, want) || len(want) == 0 {
			t.Errorf("compared %v, want %v", w.again, want)
		}
	})
}
