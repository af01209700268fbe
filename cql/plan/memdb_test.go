package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// memDB is a database in memory: a catalog and, per partition, the fragments that were written. It reads by merging them
// and giving the result to a row.PageBuilder, so that what plan writes and reads meets the real row format.
type memDB struct {
	t         testing.TB
	catalog   *schema.Catalog
	keyspace  string
	parts     map[schema.Generation][]*memPartition // ascending by token and key
	now       int64
	ts        int64
	uuids     uint64
	ticks     int64 // of the last time UUID, 100 ns since the epoch
	pageSize  int   // of SELECTs; 0: all at once
	pageBytes int   // and their bytes
	between   bool  // scans are cut between partitions, at a token without a key, as between two parts of the ring
	chunk     int   // most rows a read gives, to cut pages in odd places; 0: as asked
}

type memPartition struct {
	token ring.Token
	key   []byte
	frags [][]byte
}

func newMemDB(t testing.TB) *memDB {
	return &memDB{t: t, catalog: schema.Bootstrap(), parts: map[schema.Generation][]*memPartition{}, now: 1_700_000_000, ts: 1_700_000_000_000_000}
}

// memResult is the answer to a statement.
type memResult struct {
	columns []protocol.Column
	rows    [][][]byte
}

func (db *memDB) args(values []protocol.Value) *Args {
	db.ts++
	return &Args{
		Values: values, Now: db.now, Millis: db.now * 1000, Timestamp: db.ts,
		NewTimeUUID: func() (u [16]byte) {
			db.ticks = max(db.ticks+1, db.ts*10)
			v, _ := boundUUID(types.EncodeTimestamp(db.ticks/10000), db.ticks%10000, 0x8080808080808080)
			return [16]byte(v)
		},
		NewUUID: func() (u [16]byte) {
			db.uuids++
			u[6], u[8], u[15] = 0x40, 0x80, byte(db.uuids)
			return u
		},
	}
}

// run executes a statement with values; an error is what a client would see.
func (db *memDB) run(text string, values ...protocol.Value) (*memResult, error) {
	ast, err := cql.Parse(text)
	if err != nil {
		return nil, err
	}
	if cql.IsDDL(ast) {
		return &memResult{}, db.ddl(ast)
	}
	st, err := Compile(ast, Env{Catalog: db.catalog, Keyspace: db.keyspace})
	if err != nil {
		return nil, err
	}
	a := db.args(values)
	var buf Buffer
	switch st.Kind {
	case KindUse:
		db.keyspace = st.Use
	case KindModify:
		if st.Conditional {
			return db.cas([]*Modify{st.Modify}, a, false)
		}
		if err := db.readFirst(st.Modify, a); err != nil {
			return nil, err
		}
		muts, err := st.Modify.Mutations(&buf, a)
		if err != nil {
			return nil, err
		}
		db.write(st.Modify.Counter(), muts)
	case KindBatch:
		if st.Conditional {
			return db.cas(st.Batch.Statements, a, true)
		}
		for _, m := range st.Batch.Statements {
			read := a.Read
			if err := db.readFirst(m, a); err != nil {
				return nil, err
			}
			a.Read = append(read, a.Read...)
		}
		muts, err := st.Batch.Mutations(&buf, a)
		if err != nil {
			return nil, err
		}
		db.write(len(st.Batch.Statements) > 0 && st.Batch.Statements[0].Counter(), muts)
	case KindTruncate:
		delete(db.parts, st.Table.Generation)
	case KindSelect:
		return db.query(st, a)
	default:
		return nil, fmt.Errorf("statement of kind %d", st.Kind)
	}
	return &memResult{}, nil
}

// cas runs a conditional write. It decides twice, as a coordinator may, and both times the same has to come out.
func (db *memDB) cas(list []*Modify, a *Args, batch bool) (*memResult, error) {
	c := NewCAS(batch)
	for _, m := range list {
		if err := c.Add(m, a); err != nil {
			return nil, err
		}
	}
	cmd, page := c.Command(), new(row.Page)
	db.read(&cmd, page)
	muts, applied, err := c.Decide(page, db.ts, db.now)
	again, same, err2 := c.Decide(page, db.ts, db.now)
	if applied != same || fmt.Sprint(err) != fmt.Sprint(err2) || !reflect.DeepEqual(muts, again) {
		db.t.Fatalf("decided %v %v %x, then %v %v %x", applied, err, muts, same, err2, again)
	}
	switch {
	case err != nil:
		return nil, err
	case applied:
		for _, m := range muts {
			if m.Generation != cmd.Generation || m.Token != cmd.Token || !bytes.Equal(m.Key, cmd.Key) {
				db.t.Fatalf("writes to %x, and read %x", m.Key, cmd.Key)
			}
		}
		db.apply(muts)
		return &memResult{[]protocol.Column{Applied(c.Table())}, [][][]byte{{{1}}}}, nil
	}
	columns, rows, err := c.Result(page)
	return &memResult{columns, rows}, err
}

func (db *memDB) must(text string, values ...protocol.Value) *memResult {
	db.t.Helper()
	r, err := db.run(text, values...)
	if err != nil {
		db.t.Fatalf("%s: %v", text, err)
	}
	return r
}

func (db *memDB) readFirst(m *Modify, a *Args) error {
	a.Read = nil
	if !m.ReadsFirst() {
		return nil
	}
	var buf Buffer
	cmds, err := m.ReadCommands(&buf, a)
	if err != nil {
		return err
	}
	for i := range cmds {
		page := new(row.Page)
		db.read(&cmds[i], page)
		a.Read = append(a.Read, page)
	}
	return nil
}

func (db *memDB) write(counter bool, muts []row.Mutation) {
	if counter {
		db.count(muts)
		return
	}
	db.apply(muts)
}

func (db *memDB) apply(muts []row.Mutation) {
	for _, m := range muts {
		if err := row.ValidateFragment(m.Fragment); err != nil {
			db.t.Fatalf("mutation of %x: %v", m.Key, err)
		}
		list := db.parts[m.Generation]
		i, ok := slices.BinarySearchFunc(list, m, func(p *memPartition, m row.Mutation) int {
			if c := cmp.Compare(p.token, m.Token); c != 0 {
				return c
			}
			return bytes.Compare(p.key, m.Key)
		})
		if !ok {
			list = slices.Insert(list, i, &memPartition{token: m.Token, key: slices.Clone(m.Key)})
			db.parts[m.Generation] = list
		}
		list[i].frags = append(list[i].frags, slices.Clone(m.Fragment))
	}
}

// count is what a leader does with a statement's increments: those of one partition are added up first.
func (db *memDB) count(muts []row.Mutation) {
	for len(muts) > 0 {
		m, n := muts[0], 0
		var frags [][]byte
		for n < len(muts) && samePartition(&m, &muts[n]) {
			frags, n = append(frags, muts[n].Fragment), n+1
		}
		muts = muts[n:]
		var current []byte
		for _, p := range db.parts[m.Generation] {
			if p.token == m.Token && bytes.Equal(p.key, m.Key) {
				current = db.merged(p.frags)
			}
		}
		var x row.Increments
		var err error
		if m.Fragment, err = x.Apply(nil, db.merged(frags), current, row.ShardID{1}); err != nil {
			db.t.Fatal(err)
		}
		db.apply([]row.Mutation{m})
	}
}

func (db *memDB) merged(frags [][]byte) []byte {
	out, err := row.MergeFragments(nil, frags)
	if err != nil {
		db.t.Fatal(err)
	}
	return out
}

// read answers cmd.
func (db *memDB) read(cmd *row.Command, page *row.Page) {
	var b row.PageBuilder
	b.Init(cmd, page)
	for _, p := range db.parts[cmd.Generation] {
		if !db.wanted(cmd, p) {
			continue
		}
		if db.readPartition(&b, cmd, p) == row.Full {
			break
		}
	}
	b.Finish()
}

func (db *memDB) wanted(cmd *row.Command, p *memPartition) bool {
	if cmd.Range == nil {
		return p.token == cmd.Token && bytes.Equal(p.key, cmd.Key)
	}
	if *cmd.Range != ring.FullRange() && !cmd.Range.Contains(p.token) {
		return false
	}
	f := cmd.From
	if f == nil || p.token > f.Token {
		return true
	}
	if p.token < f.Token {
		return false
	}
	c := bytes.Compare(p.key, f.Key)
	return c > 0 || c == 0 && f.Kind != row.AfterPartition
}

func (db *memDB) readPartition(b *row.PageBuilder, cmd *row.Command, p *memPartition) row.Progress {
	merged, err := row.MergeFragments(nil, p.frags)
	if err != nil {
		db.t.Fatal(err)
	}
	var f row.FragmentReader
	if err := f.Init(merged); err != nil {
		db.t.Fatal(err)
	}
	b.BeginPartition(p.token, p.key)
	b.PartitionDeletion(f.PartitionDeletion())
	var rt row.RangeTombstone
	for f.NextRange(&rt) {
		b.RangeTombstone(rt)
	}
	if err := b.Static(f.Static()); err != nil {
		db.t.Fatal(err)
	}
	type pair struct{ ckey, row []byte }
	var rows []pair
	slices_ := cmd.SlicesOf(nil, p.token, p.key)
	for f.NextRow() {
		for _, s := range slices_ {
			if bytes.Compare(f.Ckey, s.Start) >= 0 && (s.End == nil || bytes.Compare(f.Ckey, s.End) < 0) {
				rows = append(rows, pair{f.Ckey, f.Row})
			}
		}
	}
	if cmd.Reverse {
		slices.Reverse(rows)
	}
	for _, r := range rows {
		progress, err := b.Row(r.ckey, r.row)
		if err != nil {
			db.t.Fatal(err)
		}
		if progress == row.Full {
			return row.Full
		}
		if progress == row.NextPartition {
			break
		}
	}
	return b.EndPartition()
}

// query runs a SELECT to its end, page by page.
func (db *memDB) query(st *Statement, a *Args) (*memResult, error) {
	out := &memResult{columns: st.Result}
	var resume *State
	for range 100000 {
		var buf Buffer
		var w RowWriter
		acc, err := st.Select.Access(&buf, a)
		if err != nil {
			return nil, err
		}
		if err := w.Begin(st.Select, a, acc, Page{Rows: db.pageSize, Bytes: db.pageBytes, Resume: resume}); err != nil {
			return nil, err
		}
		var dst []byte
		for cmd := w.Next(); cmd != nil; cmd = w.Next() {
			if db.chunk > 0 && (cmd.Limit == 0 || cmd.Limit > db.chunk) && !acc.Point {
				cmd.Limit = db.chunk
			}
			page := new(row.Page)
			db.read(cmd, page)
			if db.between && page.More && acc.Scan != nil {
				page.Cut = row.Position{Kind: row.BeforePartition, Token: page.Cut.Token + 1}
			}
			if dst, err = w.Add(dst, page); err != nil {
				return nil, err
			}
		}
		if dst, err = w.Finish(dst); err != nil {
			return nil, err
		}
		n := len(out.rows)
		out.rows = append(out.rows, splitRows(db.t, dst, len(st.Result))...)
		if len(out.rows)-n != w.Rows() {
			db.t.Fatalf("%d rows counted, %d appended", w.Rows(), len(out.rows)-n)
		}
		if db.pageSize > 0 && w.Rows() > db.pageSize {
			db.t.Fatalf("%d rows in a page of %d", w.Rows(), db.pageSize)
		}
		if db.pageSize > 0 && db.pageBytes == 1 && st.Select.order == nil && !st.Select.Aggregated() && w.Rows() > 1 {
			db.t.Fatalf("%d rows in a page that ends with the first", w.Rows())
		}
		next, more := w.More()
		if !more {
			return out, nil
		}
		next.At.Key, next.At.Clustering = slices.Clone(next.At.Key), slices.Clone(next.At.Clustering)
		resume = &next
	}
	return nil, fmt.Errorf("paging does not end")
}

func splitRows(t testing.TB, b []byte, columns int) [][][]byte {
	var rows [][][]byte
	for len(b) > 0 {
		r := make([][]byte, columns)
		for i := range r {
			if len(b) < 4 {
				t.Fatal("rows are cut short")
			}
			n := int32(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]))
			b = b[4:]
			if n >= 0 {
				r[i], b = b[:n:n], b[n:]
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// ddl runs the statements that the tests need.
func (db *memDB) ddl(ast cql.Statement) error {
	env := schema.Env{Now: func() time.Time { return time.Unix(db.now, 0) }, NewID: func() schema.ID {
		db.uuids++
		return schema.ID{15: byte(db.uuids), 14: byte(db.uuids >> 8)}
	}}
	ks := func(n cql.QualifiedName) string {
		if n.Qualified() {
			return n.Keyspace.Name
		}
		return db.keyspace
	}
	var p schema.Plan
	var err error
	switch a := ast.(type) {
	case *cql.CreateKeyspace:
		p, err = db.catalog.CreateKeyspace(schema.CreateKeyspace{Name: a.Name.Name, Properties: testProperties(a.Properties)}, env)
	case *cql.CreateType:
		s := schema.CreateType{Keyspace: ks(a.Name), Name: a.Name.Name.Name}
		for _, f := range a.Fields {
			s.Fields = append(s.Fields, schema.FieldSpec{Name: f.Name.Name, Type: testTypeSpec(f.Type)})
		}
		p, err = db.catalog.CreateType(s, env)
	case *cql.CreateTable:
		s := schema.CreateTable{Keyspace: ks(a.Name), Name: a.Name.Name.Name, Properties: testProperties(a.Properties)}
		for _, c := range a.Columns {
			s.Columns = append(s.Columns, schema.ColumnSpec{Name: c.Name.Name, Type: testTypeSpec(c.Type), Static: c.Static})
		}
		for _, id := range a.PartitionKey {
			s.PartitionKey = append(s.PartitionKey, id.Name)
		}
		for _, id := range a.Clustering {
			s.Clustering = append(s.Clustering, id.Name)
		}
		for _, o := range a.Order {
			s.Order = append(s.Order, schema.ClusteringOrder{Column: o.Column.Name, Desc: o.Desc})
		}
		p, err = db.catalog.CreateTable(s, env)
	case *cql.AlterTable:
		s := schema.AlterTable{Keyspace: ks(a.Name), Name: a.Name.Name.Name, Kind: schema.AlterAdd}
		for _, c := range a.Add {
			s.Add = append(s.Add, schema.ColumnSpec{Name: c.Name.Name, Type: testTypeSpec(c.Type), Static: c.Static})
		}
		for _, c := range a.Drop {
			s.Kind, s.Drop = schema.AlterDrop, append(s.Drop, c.Name)
		}
		p, err = db.catalog.AlterTable(s, env)
	default:
		return fmt.Errorf("%T is not for this test", ast)
	}
	if err != nil {
		return err
	}
	db.catalog, err = db.catalog.Apply(p.Changes)
	return err
}

func testProperties(list []cql.Property) []schema.Property {
	var out []schema.Property
	for _, p := range list {
		q := schema.Property{Name: p.Name, Value: p.Value, IsMap: p.IsMap}
		for _, e := range p.Map {
			q.Map = append(q.Map, schema.Pair{Key: e.Key, Value: e.Value})
		}
		out = append(out, q)
	}
	return out
}

func testTypeSpec(t *cql.TypeRef) schema.TypeSpec {
	s := schema.TypeSpec{Frozen: t.Frozen, Name: t.Name, Dim: t.Dim}
	s.Kind = map[cql.TypeKind]schema.TypeSpecKind{
		cql.TypeNative: schema.TypeNative, cql.TypeList: schema.TypeList, cql.TypeSet: schema.TypeSet, cql.TypeMap: schema.TypeMap,
		cql.TypeTuple: schema.TypeTuple, cql.TypeVector: schema.TypeVector, cql.TypeUser: schema.TypeUser, cql.TypeCustom: schema.TypeCustom,
	}[t.Kind]
	if t.Kind == cql.TypeUser {
		s.Name, s.Keyspace = t.UserType.Name.Name, t.UserType.Keyspace.Name
	}
	for _, e := range t.Elems {
		s.Elems = append(s.Elems, testTypeSpec(e))
	}
	return s
}

// text shows a result: column names, then one line per row.
func (r *memResult) text() string {
	var b strings.Builder
	for i, c := range r.columns {
		if i > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(c.Name)
	}
	for _, cells := range r.rows {
		b.WriteString("\n")
		for i, v := range cells {
			if i > 0 {
				b.WriteString(" | ")
			}
			b.Write(r.columns[i].Type.AppendText(nil, v))
		}
	}
	return b.String()
}

func fullRange() *ring.Range {
	r := ring.FullRange()
	return &r
}

// clonePartitions copies what is stored, so that writes to the copy leave it alone.
func clonePartitions(m map[schema.Generation][]*memPartition) map[schema.Generation][]*memPartition {
	out := make(map[schema.Generation][]*memPartition, len(m))
	for g, list := range m {
		for _, p := range list {
			out[g] = append(out[g], &memPartition{token: p.token, key: p.key, frags: slices.Clone(p.frags)})
		}
	}
	return out
}
