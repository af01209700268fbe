package coordinator_test

import (
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// waiter is a WriteDone and ReadDone that counts down.
type waiter struct {
	wg  sync.WaitGroup
	mu  sync.Mutex
	err error // to be read after wg.Wait
}

func (w *waiter) WriteDone(_ *coordinator.Write, err error) { w.done(err) }
func (w *waiter) ReadDone(_ *coordinator.Read, err error)   { w.done(err) }

func (w *waiter) done(err error) {
	if err != nil {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
	}
	w.wg.Done()
}

func single(t testing.TB) *cluster {
	return newCluster(t, layout{dcs: nodesIn("dc1", 1)})
}

func (c *cluster) pointRead(t *schema.Table, pk []byte) row.Command {
	return row.Command{Generation: t.Generation, Now: time.Now().Unix(), Token: tokenOf(pk), Key: pk, Slices: []row.Slice{{Start: []byte("a"), End: []byte("a\xff"), Point: true}}}
}

// TestNoAllocationsOnOneNode: a write and a read at ONE on the only replica allocate nothing in this package. Storage is
// a fake, so that nothing else is counted.
func TestNoAllocationsOnOneNode(t *testing.T) {
	c := single(t)
	c.mustWrite(0, coordinator.One, c.put(c.wide, key(1), "a", 1, "x"))
	n := c.nodes[0]
	o := coordinator.Options{Self: n.id, Cluster: n, Transport: n, Storage: &nullStorage{}, Hints: engine{n.engine, n}, Batchlog: engine{n.engine, n}, Alive: c.alive, DownSince: c.downSince,
		IsUnknownTable: func(error) bool { return false }, IsBatchFull: func(error) bool { return false }, IsInvalid: func(error) bool { return false }}
	coord, err := coordinator.New(o)
	if err != nil {
		t.Fatal(err)
	}
	b := coord.NewBurst()
	w := &waiter{}
	write := &coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, key(1), "a", 2, "y")}, Level: coordinator.One, Done: w}
	read := &coordinator.Read{Command: c.pointRead(c.wide, key(1)), Level: coordinator.One, Done: w}
	for _, x := range []struct {
		name string
		f    func()
	}{
		{"write", func() { w.wg.Add(1); b.Write(write); b.Flush(); w.wg.Wait() }},
		{"read", func() { w.wg.Add(1); b.Read(read); w.wg.Wait() }},
	} {
		x.f()
		if got := testing.AllocsPerRun(200, x.f); got != 0 || w.err != nil {
			t.Errorf("%s: %v allocations, %v", x.name, got, w.err)
		}
	}
}

// nullStorage accepts and forgets.
type nullStorage struct{ b nullBatch }

func (s *nullStorage) NewBatch() coordinator.Batch                  { return &s.b }
func (s *nullStorage) Read(*row.Command, *row.Page) (uint64, error) { return 0, nil }
func (s *nullStorage) WhenSynced(_ uint64, c coordinator.Committed) { c.Committed(nil) }

type nullBatch struct{ n int }

func (b *nullBatch) Planned(uint64)                 {}
func (b *nullBatch) Apply(*row.Mutation) error      { b.n++; return nil }
func (b *nullBatch) ApplyAll([]row.Mutation) error  { b.n++; return nil }
func (b *nullBatch) PutHint(_, _ []byte) error      { b.n++; return nil }
func (b *nullBatch) DeleteHint([]byte) error        { return nil }
func (b *nullBatch) PutBatchlog(_, _ []byte) error  { b.n++; return nil }
func (b *nullBatch) DeleteBatchlog([]byte) error    { return nil }
func (b *nullBatch) Len() int                       { return b.n }
func (b *nullBatch) Commit(c coordinator.Committed) { b.n = 0; c.Committed(nil) }
func (b *nullBatch) Discard()                       { b.n = 0 }

// burst is how many requests a benchmark dispatches in one go.
const burst = 32

func benchWrites(b *testing.B, c *cluster, level coordinator.Level) {
	n := c.nodes[0]
	bu := n.coord.NewBurst()
	defer bu.Close()
	var ws [burst]coordinator.Write
	w := &waiter{}
	for i := range ws {
		ws[i] = coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, key(i), "a", 2, "0123456789abcdef0123456789abcdef")}, Level: level, Type: coordinator.Simple, Done: w}
	}
	writeBursts(b, bu, &ws, w)
}

// writeBursts makes the same writes over and over, a burst at a time.
func writeBursts(b *testing.B, bu *coordinator.Burst, ws *[burst]coordinator.Write, w *waiter) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += burst {
		w.wg.Add(burst)
		for i := range ws {
			bu.Write(&ws[i])
		}
		bu.Flush()
		w.wg.Wait()
	}
	if w.err != nil {
		b.Fatal(w.err)
	}
}

func benchReads(b *testing.B, c *cluster, level coordinator.Level) {
	for i := range burst {
		c.mustWrite(0, coordinator.All, c.put(c.wide, key(i), "a", 2, "0123456789abcdef0123456789abcdef"))
	}
	bu := c.nodes[0].coord.NewBurst()
	defer bu.Close()
	var rs [burst]coordinator.Read
	w := &waiter{}
	for i := range rs {
		rs[i] = coordinator.Read{Command: c.pointRead(c.wide, key(i)), Level: level, Done: w}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += burst {
		w.wg.Add(burst)
		for i := range rs {
			bu.Read(&rs[i])
		}
		bu.Flush()
		w.wg.Wait()
	}
	if w.err != nil {
		b.Fatal(w.err)
	}
}

func BenchmarkOneNodeWrite(b *testing.B)    { benchWrites(b, single(b), coordinator.One) }
func BenchmarkOneNodeRead(b *testing.B)     { benchReads(b, single(b), coordinator.One) }
func BenchmarkThreeNodesWrite(b *testing.B) { benchWrites(b, three(b), coordinator.Quorum) }
func BenchmarkThreeNodesRead(b *testing.B)  { benchReads(b, three(b), coordinator.Quorum) }

// benchBatches writes batches of ten partitions each, so many at a time as a burst holds.
func benchBatches(b *testing.B, kind coordinator.WriteType) {
	c := three(b)
	bu := c.nodes[0].coord.NewBurst()
	defer bu.Close()
	const partitions = 10
	var ws [burst]coordinator.Write
	w := &waiter{}
	for i := range ws {
		ms := make([]row.Mutation, partitions)
		for j := range ms {
			ms[j] = c.put(c.wide, key(i*partitions+j), "a", 2, "0123456789abcdef0123456789abcdef")
		}
		ws[i] = coordinator.Write{Mutations: ms, Level: coordinator.Quorum, Type: kind, Done: w}
	}
	writeBursts(b, bu, &ws, w)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "batches/s")
}

func BenchmarkLoggedBatch(b *testing.B)   { benchBatches(b, coordinator.LoggedBatch) }
func BenchmarkUnloggedBatch(b *testing.B) { benchBatches(b, coordinator.UnloggedBatch) }
