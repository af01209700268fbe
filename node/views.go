package node

import (
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/system"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// This file is what system tables show of the state of this node.

// sizesAge is how old the sizes of tables may be when they are shown; Cassandra computes them every five minutes.
const sizesAge = 30 * time.Second

// sizes computes what the tables hold, for those who read it, at most once per sizesAge and metadata epoch.
type sizes struct {
	n     *Node
	token chan struct{} // one computes, the others wait for it
	last  atomic.Pointer[sizesAt]
}

type sizesAt struct {
	epoch uint64
	at    time.Time
	list  []system.Size
}

func (s *sizes) get() []system.Size {
	s.token <- struct{}{}
	defer func() { <-s.token }()
	state := s.n.log.Current()
	if l := s.last.Load(); l != nil && l.epoch == state.Epoch && time.Since(l.at) < sizesAge {
		return l.list
	}
	l := &sizesAt{epoch: state.Epoch, at: time.Now(), list: s.n.sizesOf(state)}
	s.last.Store(l)
	return l.list
}

// sizesOf has all tables that are replicated; one that cannot be read is left out and logged.
func (n *Node) sizesOf(state *meta.State) []system.Size {
	var out []system.Size
	for _, ks := range state.Catalog.Keyspaces() {
		placement := state.Placement(ks.Name)
		self, member := state.Ring.Node(n.home.HostID)
		if placement == nil || !member {
			continue
		}
		primary, local := placement.PrimaryRanges(self), placement.PrimaryRangesWithinDC(self)
		for _, t := range ks.Tables() {
			size, err := n.sizeOf(t, primary, local)
			if err != nil {
				n.o.Logger.Warn("the size of a table is not known", "keyspace", t.Keyspace, "table", t.Name, "err", err)
				continue
			}
			out = append(out, size)
		}
	}
	return out
}

func (n *Node) sizeOf(t *schema.Table, primary, local []ring.Range) (system.Size, error) {
	s := system.Size{Keyspace: t.Keyspace, Table: t.Name}
	var err error
	if s.Bytes, err = n.engine.DiskUsage(t.Generation); err != nil {
		return s, err
	}
	if s.Primary, err = n.rangeSizes(t, primary); err != nil {
		return s, err
	}
	s.LocalPrimary, err = n.rangeSizes(t, local)
	return s, err
}

func (n *Node) rangeSizes(t *schema.Table, ranges []ring.Range) ([]system.RangeSize, error) {
	var out []system.RangeSize
	for _, wide := range ranges {
		for _, r := range wide.Unwrap() {
			partitions, bytes, err := n.engine.Estimate(t.Generation, r)
			if err != nil {
				return nil, err
			}
			out = append(out, system.RangeSize{Range: r, Partitions: partitions, Bytes: bytes})
		}
	}
	return out, nil
}

// caches are the two that this node has, under the names of those of Cassandra that do their work.
func (n *Node) caches() []system.CacheState {
	c, m, s := n.o.Config, n.engineMetrics, n.engine.Stats()
	hits, misses := m.CacheHits.Load(), m.CacheMisses.Load()
	return []system.CacheState{
		{Name: "chunks", Capacity: int64(c.BlockCache), Size: s.BlockCacheBytes, Entries: s.BlockCacheEntries, Requests: s.BlockCacheHits + s.BlockCacheMisses, Hits: s.BlockCacheHits},
		{Name: "rows", Capacity: int64(c.RowCache), Size: s.RowCacheBytes, Entries: int64(s.RowCacheEntries), Requests: hits + misses, Hits: hits},
	}
}

// pools are the stages of Cassandra whose work is counted here; there are no pools of threads behind them.
func (s *cqlService) pools() []system.Pool {
	n := s.n
	e, st, m := n.engineMetrics, n.engine.Stats(), s.server.Metrics()
	requests := int64(0)
	for _, op := range []protocol.Opcode{protocol.OpQuery, protocol.OpPrepare, protocol.OpExecute, protocol.OpBatch} {
		requests += m.Requests[op].Load()
	}
	active := int64(0)
	for _, c := range s.server.Connections() {
		active += c.InFlight
	}
	return []system.Pool{
		{Name: "CompactionExecutor", Active: st.Compacting, Completed: st.Compactions},
		{Name: "MemtableFlushWriter", Active: st.Flushing, Completed: st.Flushes},
		{Name: "MutationStage", Active: int64(st.InFlight), Completed: e.Writes.Load()},
		{Name: "Native-Transport-Requests", Active: active, Completed: requests - active, Blocked: m.Overloaded.Load()},
		{Name: "ReadStage", Completed: e.Reads.Load()},
	}
}
