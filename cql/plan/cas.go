package plan

import (
	"bytes"
	"slices"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// CAS is a conditional write of one partition in the making: one statement with an IF clause, or the statements of a batch
// of which one at least has one.
//
//	cas := plan.NewCAS(batch)
//	err := cas.Add(st.Modify, &args)                    // each statement
//	cmd, err := cas.Command()                           // what the conditions need of the partition
//	ms, applied, err := cas.Decide(page, ts, now)       // any number of times
//	columns, rows, err := cas.Result(page)              // when it was not applied
//
// It belongs to one request. Decide is pure: what it returns follows from its arguments, also uuid() and now(), and shares
// no memory with later calls. Args given to Add must stay as they are until the last call.
type CAS struct {
	table *schema.Table
	batch bool
	mem   Buffer // keys and bound values

	token ring.Token
	key   []byte
	parts []*casPart

	static *rowConditions
	rows   []rowConditions // ascending by clustering key
	needed [][]byte        // clustering keys of other rows, whose lists are changed by index or value; any order

	exists     bool // IF [NOT] EXISTS is among the conditions: the answer has all columns
	columns    []*schema.Column
	allStatic  bool // static columns are written under conditions: all of them were read
	writesRows bool

	decoder *rowDecoder // of the columns in conditions
}

// casPart is one statement. What now() and uuid() give to its key and its values is the same each time it is evaluated.
type casPart struct {
	m            *Modify
	args         Args
	times, uuids replay
}

func newCASPart(m *Modify, a *Args) *casPart {
	p := &casPart{m: m, args: *a}
	p.times.next, p.uuids.next = a.NewTimeUUID, a.NewUUID
	p.args.NewTimeUUID, p.args.NewUUID = p.times.value, p.uuids.value
	return p
}

// rowConditions are the conditions on one row, or on the static row.
type rowConditions struct {
	ckey  []byte
	kind  ifKind
	conds []boundCondition
}

// replay gives the values of a generator, the same ones again after each rewind.
type replay struct {
	next func() [16]byte
	vals [][16]byte
	at   int
}

func (r *replay) value() [16]byte {
	if r.at == len(r.vals) {
		r.vals = append(r.vals, r.next())
	}
	r.at++
	return r.vals[r.at-1]
}

// casKeys makes the keys of list elements from the timestamp of the write that is decided, µs since the epoch: no other
// write of the partition is decided with it, so they are unique whichever node coordinates, and they go on in order from
// statement to statement of a batch.
type casKeys struct {
	ts int64
	n  uint64
}

// casKeysMax bounds the elements of one write, far above what fits into it.
const casKeysMax = 1 << 48

// uuid returns a version 1 UUID of the timestamp; those with larger n are greater.
func (k *casKeys) uuid(n uint64) (u [16]byte) {
	t := uint64(k.ts)*10 + gregorianMillis*10000
	put := func(at int, v uint64) {
		for i := range 8 {
			u[at+i] = byte(v >> (56 - 8*i))
		}
	}
	put(0, t<<32|t>>32&0xFFFF<<16|t>>48&0x0FFF|0x1000)
	put(8, n^0x8080808080808080) // compared by signed bytes
	return u
}

// after returns the key of an element that is appended.
func (k *casKeys) after() [16]byte {
	k.n++
	return k.uuid(k.n)
}

// before returns the key of an element that is prepended.
func (k *casKeys) before() [16]byte {
	k.n++
	return mirrored(k.uuid(casKeysMax - k.n))
}

// Conditional reports whether the statement has an IF clause: it is run by a CAS.
func (m *Modify) Conditional() bool { return m.ifs.kind != ifNone }

// Conditional reports whether one of the statements has conditions.
func Conditional(list []*Modify) bool { return slices.ContainsFunc(list, (*Modify).Conditional) }

// CheckBatch refuses statements that cannot be in one batch because some have conditions. stamped says that the batch has
// USING TIMESTAMP.
func CheckBatch(list []*Modify, stamped bool) error {
	if !Conditional(list) {
		return nil
	}
	if stamped {
		return invalid("Cannot provide custom timestamp for conditional BATCH")
	}
	for _, m := range list {
		if m.table != list[0].table {
			return invalid("Batch with conditions cannot span multiple tables")
		}
	}
	return nil
}

// NewCAS returns a conditional write without statements. batch says that its answer is one to a batch.
func NewCAS(batch bool) *CAS { return &CAS{batch: batch} }

// Add adds a statement with its values. Errors are *Error.
func (c *CAS) Add(m *Modify, a *Args) error {
	p := newCASPart(m, a)
	if err := m.where.partitionKeys(c.mem.begin(&p.args), &c.mem); err != nil {
		return err
	}
	if err := c.onePartition(m); err != nil {
		return err
	}
	if slices.ContainsFunc(m.where.clustering, (*restriction).among) {
		return invalid("IN on the clustering key columns is not supported with conditional %s", m.plural())
	}
	c.parts = append(c.parts, p)
	c.writesRows = c.writesRows || m.rows
	if m.typ == typeDelete && m.rows && !m.where.namesRows() {
		return nil // a range, without conditions
	}
	return c.addRow(p, a)
}

// among reports whether r is an IN.
func (r *restriction) among() bool { return r.kind == restrictIn }

// plural is the word of Cassandra's messages.
func (m *Modify) plural() string {
	if m.typ == typeDelete {
		return "deletions"
	}
	return "updates"
}

// onePartition refuses a second partition; the statement's keys are in c.mem.
func (c *CAS) onePartition(m *Modify) error {
	switch in := slices.ContainsFunc(m.where.keys, (*restriction).among); {
	case in && c.batch:
		return invalid("Batch with conditions cannot span multiple partitions (you cannot use IN on the partition key)")
	case in:
		return invalid("IN on the partition key is not supported with conditional %s", m.plural())
	case c.table == nil:
		c.table, c.key = m.table, c.mem.keys[0]
		c.token = m.part.Token(c.key)
	case !bytes.Equal(c.key, c.mem.keys[0]):
		return invalid("Batch with conditions cannot span multiple partitions")
	}
	return nil
}

// addRow adds the conditions of a statement about one row, or about static columns only.
func (c *CAS) addRow(p *casPart, a *Args) error {
	var ckey []byte
	m := p.m
	if m.rows {
		if err := m.clusteringPoints(c.mem.begin(&p.args), &c.mem); err != nil {
			return err
		}
		ckey = c.mem.points[0].key
	}
	if m.rows && m.reads {
		c.needed = append(c.needed, ckey)
	}
	if m.ifs.kind == ifNone {
		return nil
	}
	c.allStatic = c.allStatic || len(m.static) > 0
	if m.ifs.kind != ifColumns {
		c.exists = true
		return c.target(m.rows, ckey).setExists(m.ifs.kind)
	}
	sc := c.mem.begin(a)
	if err := c.addConditions(sc, m.ifs.regular, true, ckey); err != nil {
		return err
	}
	return c.addConditions(sc, m.ifs.static, false, nil)
}

// target returns the conditions on a row, or on the static row, new ones at first.
func (c *CAS) target(rows bool, ckey []byte) *rowConditions {
	if !rows {
		if c.static == nil {
			c.static = &rowConditions{}
		}
		return c.static
	}
	i, ok := slices.BinarySearchFunc(c.rows, ckey, func(r rowConditions, k []byte) int { return bytes.Compare(r.ckey, k) })
	if !ok {
		c.rows = slices.Insert(c.rows, i, rowConditions{ckey: ckey})
	}
	return &c.rows[i]
}

func (r *rowConditions) setExists(kind ifKind) error {
	switch {
	case r.kind == ifNone || r.kind == kind:
		r.kind = kind
		return nil
	case r.kind != ifColumns:
		return invalid("Cannot mix IF EXISTS and IF NOT EXISTS conditions for the same row")
	case kind == ifNotExists:
		return invalid("Cannot mix IF conditions and IF NOT EXISTS for the same row")
	}
	return invalid("Cannot mix IF conditions and IF EXISTS for the same row")
}

func (c *CAS) addConditions(sc *scope, list []*condition, rows bool, ckey []byte) error {
	if len(list) == 0 {
		return nil
	}
	r := c.target(rows, ckey)
	if r.kind == ifExists || r.kind == ifNotExists {
		return invalid("Cannot mix IF conditions and IF NOT EXISTS for the same row")
	}
	r.kind = ifColumns
	for _, x := range list {
		b, err := x.bind(sc)
		if err != nil {
			return err
		}
		r.conds = append(r.conds, b)
		if !slices.Contains(c.columns, x.col) {
			c.columns = append(c.columns, x.col)
		}
	}
	return nil
}

// Command returns the read that Decide needs the answer of; it aliases the CAS. Rows that have no conditions are not part
// of it, unless a list of theirs is changed by index or value. With conditions on static columns only it asks for the
// first row of the partition: the answer tells a partition with rows from one without. When rows are not written either, that is the first
// one that was made by INSERT, which is looked for among the first few.
func (c *CAS) Command() row.Command {
	cmd := row.Command{Generation: c.table.Generation, Now: c.parts[0].args.Now, Token: c.token, Key: c.key,
		WithStatic: c.table.HasStatic(), Bytes: row.MaxPageBytes}
	for i := range c.rows {
		cmd.Slices = append(cmd.Slices, c.point(c.rows[i].ckey))
	}
	for _, ckey := range c.needed {
		cmd.Slices = append(cmd.Slices, c.point(ckey))
	}
	slices.SortFunc(cmd.Slices, func(a, b row.Slice) int { return bytes.Compare(a.Start, b.Start) })
	cmd.Slices = slices.CompactFunc(cmd.Slices, func(a, b row.Slice) bool { return bytes.Equal(a.Start, b.Start) })
	switch {
	case len(cmd.Slices) > 0:
	case c.writesRows:
		cmd.Limit = 1
	default:
		cmd.Limit, cmd.Bytes = firstRowsMax, firstBytesMax
	}
	return cmd
}

// Where the first row that was made by INSERT is looked for.
const (
	firstRowsMax  = 100
	firstBytesMax = 64 << 10
)

func (c *CAS) point(ckey []byte) row.Slice {
	return row.Slice{Start: ckey, End: c.mem.mem.after(ckey), Point: true}
}

// Decide evaluates the conditions against page, the answer to Command, and makes the mutations: all their timestamps are
// ts, µs since the epoch, but for what overwrites a collection, which deletes at ts - 1. now is in seconds. Errors are
// *Error, or those of malformed pages.
func (c *CAS) Decide(page *row.Page, ts, now int64) (ms []row.Mutation, applied bool, err error) {
	holds, err := c.holds(page, now)
	if err != nil || !holds {
		return nil, false, err
	}
	ms, err = c.mutations(page, ts, now)
	return ms, err == nil, err
}

func (c *CAS) mutations(page *row.Page, ts, now int64) ([]row.Mutation, error) {
	keys := &casKeys{ts: ts}
	read := []*ReadPage{page}
	var buf Buffer
	for _, p := range c.parts {
		p.times.at, p.uuids.at = 0, 0
		a := p.args
		a.Timestamp, a.Now, a.Read, a.cas = ts, now, read, keys
		if err := p.m.AppendMutations(&buf, &a); err != nil {
			return nil, err
		}
	}
	return buf.muts, nil
}

// holds reports whether all conditions are satisfied.
func (c *CAS) holds(page *row.Page, now int64) (bool, error) {
	if page.More && len(c.rows)+len(c.needed) > 0 {
		return false, invalid("The rows that the conditions are about are larger than %d bytes", row.MaxPageBytes)
	}
	if c.decoder == nil {
		c.decoder = newRowDecoder(c.table, c.columns)
	}
	d := c.decoder
	if err := d.begin(page, now); err != nil {
		return false, err
	}
	if c.static != nil && !c.static.hold(d, d.static) {
		return false, nil
	}
	for i := range c.rows {
		there, err := d.seek(c.rows[i].ckey)
		if err != nil || !c.rows[i].hold(d, there) {
			return false, err
		}
	}
	return true, nil
}

// hold reports whether the conditions are satisfied by the row that d stands at; there says that it exists.
func (r *rowConditions) hold(d *rowDecoder, there bool) bool {
	switch r.kind {
	case ifExists:
		return there
	case ifNotExists:
		return !there
	}
	for i := range r.conds {
		if !r.conds[i].holds(d.value(r.conds[i].col)) {
			return false
		}
	}
	return true
}
