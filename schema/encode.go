package schema

import (
	"crypto/md5"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/helenusdb/helenus/cql/types"
)

// Versions of the encodings. A decoder refuses what it does not know.
const (
	changeVersion  = 1
	catalogVersion = 1
)

// ColumnsMax bounds the column ids a table ever uses, dropped columns included.
const ColumnsMax = 1 << 16

// vectorDimMax bounds the dimension of a vector: a value must fit into a frame.
const vectorDimMax = 1 << 24

// Append appends the encoded change.
func (ch Change) Append(dst []byte) []byte {
	dst = append(dst, changeVersion, byte(ch.Kind))
	dst = appendString(dst, ch.Keyspace)
	switch ch.Kind {
	case PutKeyspaceChange:
		dst = appendBool(dst, ch.durableWrites)
		dst = appendMap(dst, ch.replication)
	case DropTableChange, DropTypeChange:
		dst = appendString(dst, ch.Name)
	case PutGenerationChange:
		dst = appendString(dst, ch.Name)
		dst = appendUint(dst, uint64(ch.Generation))
	case PutTableChange:
		dst = appendTable(dst, ch.table)
	case PutTypeChange:
		dst = appendUserType(dst, ch.typ)
	}
	return dst
}

// DecodeChange decodes one change from the start of src and returns what follows it. Nothing in the change aliases
// src. The error matches ErrCorrupt.
func DecodeChange(src []byte) (ch Change, rest []byte, err error) {
	d := decoder{src: src}
	if v := d.byte(); v != changeVersion {
		d.fail("change version")
	}
	ch.Kind = ChangeKind(d.byte())
	ch.Keyspace = d.string()
	switch ch.Kind {
	case PutKeyspaceChange:
		ch.durableWrites = d.bool()
		ch.replication = d.pairs()
	case DropKeyspaceChange:
	case DropTableChange, DropTypeChange:
		ch.Name = d.string()
	case PutGenerationChange:
		ch.Name = d.string()
		ch.Generation = Generation(d.uint32())
	case PutTableChange:
		ch.table = d.table(ch.Keyspace)
		ch.Name = ch.table.Name
		ch.Generation = ch.table.Generation
	case PutTypeChange:
		ch.typ = d.userType(ch.Keyspace)
		ch.Name = ch.typ.Name
	default:
		d.fail("change kind")
	}
	if d.err != nil {
		return Change{}, nil, d.err
	}
	return ch, d.src, nil
}

// Encode returns the snapshot of the catalog: the user's keyspaces and the properties of the system keyspaces that
// differ from Bootstrap's. It is a function of the content: equal catalogs have equal snapshots.
func (c *Catalog) Encode() []byte {
	dst := appendUint([]byte{catalogVersion}, uint64(c.NextGeneration))
	var put []*Keyspace
	for _, k := range c.Keyspaces() {
		if !k.System() || !k.sameProperties(c.boot.keyspaces[k.Name]) {
			put = append(put, k)
		}
	}
	dst = appendUint(dst, uint64(len(put)))
	for _, k := range put {
		dst = appendKeyspace(dst, k)
	}
	return dst
}

func appendKeyspace(dst []byte, k *Keyspace) []byte {
	dst = appendString(dst, k.Name)
	dst = appendBool(dst, k.DurableWrites)
	dst = appendMap(dst, k.Replication)
	if k.System() {
		return dst
	}
	dst = appendUint(dst, uint64(len(k.types)))
	for _, t := range k.Types() {
		dst = appendUserType(dst, t)
	}
	dst = appendUint(dst, uint64(len(k.tables)))
	for _, t := range k.Tables() {
		dst = appendTable(dst, t)
	}
	return dst
}

// DecodeCatalog is the inverse of Encode. Nothing in the catalog aliases src. The error matches ErrCorrupt.
func DecodeCatalog(src []byte) (*Catalog, error) {
	d := decoder{src: src}
	if v := d.byte(); v != catalogVersion {
		d.fail("catalog version")
	}
	next := Generation(d.uint32())
	var changes []Change
	for n := d.count(); n > 0 && d.err == nil; n-- {
		changes = d.keyspace(changes)
	}
	if d.err == nil && len(d.src) > 0 {
		d.fail("bytes after the end")
	}
	if d.err != nil {
		return nil, d.err
	}
	c := Bootstrap()
	b := c.edit()
	b.loading = true
	for _, ch := range changes {
		if err := b.apply(ch); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	if next < b.next {
		return nil, fmt.Errorf("%w: next generation %d", ErrCorrupt, next)
	}
	b.next = next
	c, err := b.finish()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return c, nil
}

// keyspace reads a keyspace as the changes that make it.
func (d *decoder) keyspace(out []Change) []Change {
	ks := d.string()
	put := Change{Kind: PutKeyspaceChange, Keyspace: ks, durableWrites: d.bool(), replication: d.pairs()}
	out = append(out, put)
	if IsSystemKeyspace(ks) {
		return out
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		t := d.userType(ks)
		out = append(out, Change{Kind: PutTypeChange, Keyspace: ks, Name: t.Name, typ: t})
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		t := d.table(ks)
		out = append(out, Change{Kind: PutTableChange, Keyspace: ks, Name: t.Name, Generation: t.Generation, table: t})
	}
	return out
}

// digest returns the version of the catalog: the MD5 of its snapshot in the shape of a name-based UUID.
func (c *Catalog) digest() [16]byte {
	v := md5.Sum(c.Encode())
	v[6] = v[6]&0x0f | 0x30
	v[8] = v[8]&0x3f | 0x80
	return v
}

func appendMap(dst []byte, m Map) []byte {
	dst = appendUint(dst, uint64(len(m)))
	for _, p := range m {
		dst = appendString(appendString(dst, p.Key), p.Value)
	}
	return dst
}

func (d *decoder) pairs() Map {
	n := d.count()
	if n == 0 {
		return nil
	}
	m := make(Map, 0, min(n, 16))
	for ; n > 0 && d.err == nil; n-- {
		p := Pair{Key: d.string(), Value: d.string()}
		if len(m) > 0 && p.Key <= m[len(m)-1].Key {
			d.fail("map out of order")
		}
		m = append(m, p)
	}
	return m
}

func appendUserType(dst []byte, t *types.Type) []byte {
	dst = appendString(dst, t.Name)
	dst = appendUint(dst, uint64(len(t.Fields)))
	for i, name := range t.Fields {
		dst = appendType(appendString(dst, name), t.Elems[i])
	}
	return dst
}

func (d *decoder) userType(ks string) *types.Type {
	name := d.string()
	var fields []string
	var elems []*types.Type
	seen := map[string]bool{}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		field := d.string()
		if seen[field] {
			d.fail("field name")
		}
		seen[field] = true
		fields = append(fields, field)
		elems = append(elems, d.typ(ks, 0))
	}
	if len(fields) == 0 || len(fields) > ColumnsMax {
		d.fail("type without fields")
	}
	return types.UDTOf(ks, name, fields, elems, false)
}

func appendTable(dst []byte, t *Table) []byte {
	dst = appendString(dst, t.Name)
	dst = append(dst, t.ID[:]...)
	dst = appendUint(dst, uint64(t.Generation))
	dst = append(dst, byte(t.Flags))
	dst = appendUint(dst, uint64(t.NextColumn))
	for _, columns := range [][]*Column{t.PartitionKey, t.Clustering, t.Static, t.Regular} {
		dst = appendUint(dst, uint64(len(columns)))
		for _, c := range columns {
			dst = appendString(appendUint(dst, uint64(c.ID)), c.Name)
			if c.Kind == KindClustering {
				dst = appendBool(dst, c.Desc)
			}
			dst = appendType(dst, c.Type)
		}
	}
	dst = appendUint(dst, uint64(len(t.Dropped)))
	for _, c := range t.Dropped {
		dst = appendString(appendUint(dst, uint64(c.ID)), c.Name)
		dst = appendInt(append(dst, byte(c.Kind)), c.Time)
		dst = appendType(dst, c.Type)
	}
	return appendOptions(dst, &t.Options)
}

func (d *decoder) table(ks string) *Table {
	t := &Table{Keyspace: ks, Name: d.string()}
	d.fixed(t.ID[:])
	t.Generation = Generation(d.uint32())
	t.Flags = TableFlags(d.byte())
	t.NextColumn = ColumnID(d.uint32())
	t.PartitionKey = d.columns(ks, KindPartitionKey)
	t.Clustering = d.columns(ks, KindClustering)
	t.Static = d.columns(ks, KindStatic)
	t.Regular = d.columns(ks, KindRegular)
	for n := d.count(); n > 0 && d.err == nil; n-- {
		c := DroppedColumn{ID: ColumnID(d.uint32()), Name: d.string(), Kind: ColumnKind(d.byte()), Time: d.int()}
		c.Type = d.typ(ks, 0)
		t.Dropped = append(t.Dropped, c)
	}
	t.Options = d.options()
	if err := t.check(); d.err == nil && err != nil {
		d.fail(err.Error())
	}
	return t
}

func (d *decoder) columns(ks string, kind ColumnKind) []*Column {
	n := d.count()
	if n == 0 {
		return nil
	}
	out := make([]*Column, 0, min(n, 64))
	for ; n > 0 && d.err == nil; n-- {
		c := &Column{ID: ColumnID(d.uint32()), Name: d.string(), Kind: kind, Position: -1}
		if kind.Key() {
			c.Position = len(out)
		}
		if kind == KindClustering {
			c.Desc = d.bool()
		}
		c.Type = d.typ(ks, 0)
		out = append(out, c)
	}
	return out
}

// check returns an error unless the definition is well formed: the assertion on both sides of the log. It does not
// look into user types, which may be mere references.
func (t *Table) check() error {
	if len(t.PartitionKey) == 0 || t.NextColumn > ColumnsMax || t.Flags >= FlagCompound<<1 {
		return fmt.Errorf("table %q: partition key, flags or column count", t.Name)
	}
	names := make(map[string]bool)
	ids := make(map[ColumnID]bool)
	for _, columns := range [][]*Column{t.PartitionKey, t.Clustering, t.Static, t.Regular} {
		for i, c := range columns {
			switch {
			case c.ID == 0 || c.ID >= t.NextColumn || ids[c.ID] || names[c.Name]:
				return fmt.Errorf("table %q: column %q", t.Name, c.Name)
			case c.Kind.Key() && (c.Type.MultiCell() || !orderable(c.Type)):
				return fmt.Errorf("table %q: key column %q", t.Name, c.Name)
			case !c.Kind.Key() && i > 0 && compareNames(c.Name, columns[i-1].Name) < 0:
				return fmt.Errorf("table %q: column %q out of order", t.Name, c.Name)
			}
			names[c.Name], ids[c.ID] = true, true
		}
	}
	for i, c := range t.Dropped {
		if c.ID == 0 || c.ID >= t.NextColumn || ids[c.ID] || c.Kind.Key() || c.Kind > KindRegular ||
			i > 0 && c.Name <= t.Dropped[i-1].Name {
			return fmt.Errorf("table %q: dropped column %q", t.Name, c.Name)
		}
		ids[c.ID] = true
	}
	return nil
}

// orderable reports whether values of t can be keys: no duration anywhere in it.
func orderable(t *types.Type) bool {
	return t.Kind != types.KindDuration && t.Kind != types.KindCounter && !slices.ContainsFunc(t.Elems, func(e *types.Type) bool { return !orderable(e) })
}

func appendOptions(dst []byte, o *TableOptions) []byte {
	dst = appendPolicy(dst, o.AdditionalWritePolicy)
	dst = appendBool(dst, o.AllowAutoSnapshot)
	dst = appendFloat(dst, o.BloomFilterFPChance)
	dst = appendMap(dst, o.Caching)
	dst = appendBool(dst, o.CDC)
	dst = appendString(dst, o.Comment)
	dst = appendMap(dst, o.Compaction)
	dst = appendMap(dst, o.Compression)
	dst = appendFloat(dst, o.CRCCheckChance)
	dst = appendInt(dst, int64(o.DefaultTTL))
	dst = appendUint(dst, uint64(len(o.Extensions)))
	for _, e := range o.Extensions {
		dst = appendBytes(appendString(dst, e.Name), e.Value)
	}
	dst = appendInt(dst, int64(o.GCGraceSeconds))
	dst = appendBool(dst, o.IncrementalBackups)
	dst = appendInt(dst, int64(o.MaxIndexInterval))
	dst = appendString(dst, o.Memtable)
	dst = appendInt(dst, int64(o.MemtableFlushPeriodInMs))
	dst = appendInt(dst, int64(o.MinIndexInterval))
	dst = append(dst, byte(o.ReadRepair))
	return appendPolicy(dst, o.SpeculativeRetry)
}

func (d *decoder) options() TableOptions {
	o := TableOptions{
		AdditionalWritePolicy: d.policy(),
		AllowAutoSnapshot:     d.bool(),
		BloomFilterFPChance:   d.float(),
		Caching:               d.pairs(),
		CDC:                   d.bool(),
		Comment:               d.string(),
		Compaction:            d.pairs(),
		Compression:           d.pairs(),
		CRCCheckChance:        d.float(),
		DefaultTTL:            d.int32(),
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		e := Extension{Name: d.string(), Value: slices.Clone(d.bytes())}
		if k := len(o.Extensions); k > 0 && e.Name <= o.Extensions[k-1].Name {
			d.fail("extensions out of order")
		}
		o.Extensions = append(o.Extensions, e)
	}
	o.GCGraceSeconds = d.int32()
	o.IncrementalBackups = d.bool()
	o.MaxIndexInterval = d.int32()
	o.Memtable = d.string()
	o.MemtableFlushPeriodInMs = d.int32()
	o.MinIndexInterval = d.int32()
	o.ReadRepair = ReadRepair(d.byte())
	o.SpeculativeRetry = d.policy()
	if o.ReadRepair > ReadRepairNone {
		d.fail("read repair")
	}
	return o
}

func appendPolicy(dst []byte, p RetryPolicy) []byte {
	dst = append(dst, byte(p.Kind))
	dst = appendFloat(dst, p.Percentile)
	return appendUint(dst, uint64(p.Delay/time.Millisecond))
}

func (d *decoder) policy() RetryPolicy {
	p := RetryPolicy{Kind: RetryKind(d.byte()), Percentile: d.float(), Delay: time.Duration(d.uint32()) * time.Millisecond}
	if p.Kind > RetryMax {
		d.fail("retry policy")
	}
	return p
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
