package exec

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/internal/cqlident"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// This file says what Cassandra says of batches: how many partitions they touch, how large they are, and what clients are
// warned of or refused, in its words and with its numbers.

// gather puts the mutations of one partition of a keyspace next to one another, in the order in which they were first
// written to, and returns how many such there are: Cassandra makes one mutation of each.
func gather(muts []row.Mutation, keyspaceOf func(schema.Generation) string) int {
	if len(muts) == 0 || !slices.ContainsFunc(muts[1:], func(m row.Mutation) bool { return !samePartition(&m, &muts[0]) }) {
		return min(len(muts), 1)
	}
	type partition struct{ keyspace, key string }
	of := func(m *row.Mutation) partition { return partition{keyspaceOf(m.Generation), string(m.Key)} }
	order := make(map[partition]int, len(muts))
	for i := range muts {
		if p := of(&muts[i]); order[p] == 0 {
			order[p] = len(order) + 1
		}
	}
	slices.SortStableFunc(muts, func(a, b row.Mutation) int { return order[of(&a)] - order[of(&b)] })
	return len(order)
}

func samePartition(a, b *row.Mutation) bool {
	return a.Generation == b.Generation && a.Token == b.Token && bytes.Equal(a.Key, b.Key)
}

// keyspaceOfTable returns the keyspace of a table; "" when it is gone, of which the coordinator tells.
func (o *op) keyspaceOfTable(g schema.Generation) string {
	if t, ok := o.x.o.Schema.Current().Catalog.TableByGeneration(g); ok {
		return t.Keyspace
	}
	return ""
}

// batchType is the write type of a batch over so many partitions.
func (o *op) batchType(partitions int, logged bool) coordinator.WriteType {
	if partitions > 1 && logged {
		return coordinator.LoggedBatch
	}
	return o.writeType(partitions)
}

// checkMutations gathers the mutations of a batch, refuses it when it is too large, and warns of what Cassandra warns of.
func (o *op) checkMutations(muts []row.Mutation, logged bool) error {
	if logged {
		o.warnOfNoGrace()
	}
	n := gather(muts, o.keyspaceOfTable)
	o.kind = o.batchType(n, logged)
	if n <= 1 {
		return nil
	}
	tables, size := o.measure(muts)
	l := &o.x.o.Limits
	if l.BatchWarn >= 0 && size > l.BatchWarn {
		if l.BatchFail >= 0 && size > l.BatchFail {
			o.x.o.Logger.Warn("batch refused: it is too large", "tables", javaSet(tables), "bytes", size, "batch_size_fail_threshold", l.BatchFail)
			return invalid("Batch too large")
		}
		o.warn(fmt.Sprintf("Batch for %s is of size %d, exceeding specified threshold of %d by %d.", javaSet(tables), size, l.BatchWarn, size-l.BatchWarn))
	}
	if keys := distinctKeys(muts); !logged && l.UnloggedWarn >= 0 && keys > l.UnloggedWarn {
		o.warn(fmt.Sprintf("Unlogged batch covering %d partitions detected against table%s %s. You should use a logged batch for atomicity, "+
			"or asynchronous writes for performance.", keys, plural(tables), javaSet(tables)))
	}
	return nil
}

// warnOfNoGrace warns of tables that cannot count on the batchlog.
func (o *op) warnOfNoGrace() {
	var names []string
	for _, t := range o.compiled.tables {
		if name := tableName(t); t.Options.GCGraceSeconds == 0 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		o.warn(fmt.Sprintf("Executing a LOGGED BATCH on table%s %s, configured with a gc_grace_seconds of 0. The gc_grace_seconds is used to TTL "+
			"batchlog entries, so setting gc_grace_seconds too low on tables involved in an atomic batch might cause batchlog entries to expire "+
			"before being replayed.", plural(names), javaSet(names)))
	}
}

func plural(list []string) string {
	if len(list) == 1 {
		return ""
	}
	return "s"
}

func tableName(t *schema.Table) string {
	return cqlident.QuoteIdent(t.Keyspace) + "." + cqlident.QuoteIdent(t.Name)
}

// distinctKeys counts partition keys, which tables and keyspaces may share.
func distinctKeys(muts []row.Mutation) int {
	keys := make(map[string]bool, len(muts))
	for i := range muts {
		keys[string(muts[i].Key)] = true
	}
	return len(keys)
}

// javaSet writes a set of strings as a Java HashSet shows them, which is where clients see their order: by hash.
func javaSet(list []string) string {
	buckets := uint32(16)
	for len(list) > int(buckets/4*3) {
		buckets *= 2
	}
	bucket := func(s string) uint32 {
		h := uint32(0)
		for _, c := range []byte(s) { // names are ASCII
			h = 31*h + uint32(c)
		}
		return (h ^ h>>16) & (buckets - 1)
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b string) int { return int(bucket(a)) - int(bucket(b)) })
	return "[" + strings.Join(list, ", ") + "]"
}

// measure returns the tables that gathered mutations change, in their order, and how many bytes Cassandra counts for them.
func (o *op) measure(muts []row.Mutation) (tables []string, size int) {
	var s sizer
	catalog := o.x.o.Schema.Current().Catalog
	for from := 0; from < len(muts); {
		to := from + 1
		for to < len(muts) && samePartition(&muts[to], &muts[from]) {
			to++
		}
		if t, ok := catalog.TableByGeneration(muts[from].Generation); ok {
			if name := tableName(t); !slices.Contains(tables, name) {
				tables = append(tables, name)
			}
			size += s.update(t, muts[from:to])
		}
		from = to
	}
	return tables, size
}

// What Cassandra counts (dataSize of PartitionUpdate, Row, Cell, RangeTombstoneList): fields at their full width whether
// they are set or not.
const (
	sizeLiveness  = 8         // timestamp
	sizeExpiring  = 4 + 8     // TTL, expiry
	sizeDeletion  = 12        // timestamp, local time
	sizeRow       = 12 + 1    // its deletion, and whether that is shadowable
	sizeCell      = 8 + 4 + 8 // timestamp, TTL, local time
	sizePartition = 8         // partition deletion
	sizeRanges    = 4         // their number
	sizeRange     = 8 + 4     // timestamp, local time
	sizeListPath  = 16
	sizeCount     = 2 + 2 + 16 + 8 + 8 // a context with one shard: its header, id, clock and count
)

// sizer counts bytes as Cassandra does.
type sizer struct {
	t     *schema.Table
	frag  row.FragmentReader
	r     row.Reader
	value []byte
}

// update is the size of what is written to one partition of a table.
func (s *sizer) update(t *schema.Table, muts []row.Mutation) int {
	s.t = t
	if len(muts) > 1 {
		return s.merged(muts)
	}
	if s.frag.Init(muts[0].Fragment) != nil {
		return 0 // the coordinator refuses it
	}
	n := sizePartition + s.row(nil, s.frag.Static()) + s.ranges() // the static row also when there is none
	for s.frag.NextRow() {
		n += s.row(s.frag.Ckey, s.frag.Row)
	}
	return n
}

// merged is the size of several writes to one partition: of rows that are merged, and not shadowed by deletions of others.
func (s *sizer) merged(muts []row.Mutation) int {
	all := make([][]byte, len(muts))
	rows := make(map[string][]byte, len(muts))
	var static []byte
	add := func(a, b []byte) []byte {
		out, err := row.Merge(nil, a, b)
		if err != nil {
			return a
		}
		return out
	}
	for i := range muts {
		all[i] = muts[i].Fragment
		if s.frag.Init(all[i]) != nil {
			return 0
		}
		static = add(static, s.frag.Static())
		for s.frag.NextRow() {
			rows[string(s.frag.Ckey)] = add(rows[string(s.frag.Ckey)], s.frag.Row)
		}
	}
	together, err := row.MergeFragments(nil, all)
	if err != nil || s.frag.Init(together) != nil {
		return 0
	}
	n := sizePartition + s.row(nil, static) + s.ranges()
	for ckey, encoded := range rows {
		n += s.row([]byte(ckey), encoded)
	}
	return n
}

// ranges is the size of the fragment's range tombstones.
func (s *sizer) ranges() (n int) {
	if s.frag.HasRanges() {
		n = sizeRanges
	}
	for rt := (row.RangeTombstone{}); s.frag.NextRange(&rt); {
		n += sizeRange + s.clustering(rt.Start) + s.clustering(rt.End)
	}
	return n
}

// row is the size of one row.
func (s *sizer) row(ckey, encoded []byte) int {
	r := &s.r
	if r.Init(encoded) != nil {
		return 0
	}
	n := sizeRow + sizeLiveness
	if orig := r.Clustering(); orig != nil {
		n += len(orig) - 4*len(s.t.Clustering) // each with its length
	} else {
		n += s.clustering(ckey)
	}
	if r.Liveness().TTL != 0 {
		n += sizeExpiring
	}
	for r.Next() {
		if !r.Complex {
			n += sizeCell + len(r.Cell.Value)
			continue
		}
		if c := s.t.ColumnByID(r.Column); c != nil && c.Type.Counter() { // one cell, of the sum or a tombstone
			if n += sizeCell; r.ComplexDeletion.Live() {
				n += sizeCount
			}
			continue
		}
		n += sizeDeletion
		for r.NextElement() {
			n += sizeCell + len(r.Cell.Value) + s.path(r.Column, r.Cell.Path)
		}
	}
	return n
}

// clustering is the size of the values in a clustering key or in a position before or after those with a common beginning.
func (s *sizer) clustering(key []byte) (n int) {
	for _, c := range s.t.Clustering {
		v, rest, err := c.Type.AppendFromKey(s.value[:0], key, c.Desc)
		if err != nil {
			return n
		}
		n, s.value, key = n+len(v), v, rest
	}
	return n
}

// path is the size of an element's key.
func (s *sizer) path(column schema.ColumnID, path []byte) int {
	c := s.t.ColumnByID(column)
	switch {
	case c == nil || c.Type.Kind == types.KindUDT: // the number of a field
		return len(path)
	case c.Type.Kind == types.KindList:
		return sizeListPath
	}
	v, _, err := c.Type.Elems[0].AppendFromKey(s.value[:0], path, false)
	if err != nil {
		return len(path)
	}
	s.value = v
	return len(v)
}
