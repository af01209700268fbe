package schema

import (
	"encoding/hex"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/internal/cqlident"
)

// DescribeOptions says what DESCRIBE shows besides the plain statement.
type DescribeOptions struct {
	Internals bool // WITH INTERNALS: table ids and dropped columns
}

// Element is one schema element as DESCRIBE lists it.
type Element struct {
	Keyspace        string // as DESCRIBE prints names: in quotes when needed
	Type            string // "keyspace", "type" or "table"
	Name            string // likewise
	CreateStatement string
}

// Element returns the keyspace as DESCRIBE lists it.
func (k *Keyspace) Element() Element {
	name := cqlident.QuoteIdent(k.Name)
	return Element{name, "keyspace", name, k.Describe()}
}

// Element returns the table as DESCRIBE lists it.
func (t *Table) Element(o DescribeOptions) Element {
	return Element{cqlident.QuoteIdent(t.Keyspace), "table", cqlident.QuoteIdent(t.Name), t.Describe(o)}
}

// TypeElement returns a user type as DESCRIBE lists it.
func TypeElement(t *types.Type) Element {
	return Element{cqlident.QuoteIdent(t.Keyspace), "type", cqlident.QuoteIdent(t.Name), DescribeType(t)}
}

// Elements returns what DESCRIBE KEYSPACE lists: the keyspace itself, its types, each after those it uses, and its
// tables by name without regard to case.
func (k *Keyspace) Elements(o DescribeOptions) []Element {
	out := []Element{k.Element()}
	for _, t := range k.typesInOrder() {
		out = append(out, TypeElement(t))
	}
	for _, t := range ByName(k.Tables(), func(t *Table) string { return t.Name }) {
		out = append(out, t.Element(o))
	}
	return out
}

// Describe returns the elements of all keyspaces in DESCRIBE's order: DESCRIBE SCHEMA, or with full, which includes
// the system keyspaces, DESCRIBE FULL SCHEMA.
func (c *Catalog) Describe(full bool, o DescribeOptions) []Element {
	var out []Element
	for _, k := range ByName(c.Keyspaces(), func(k *Keyspace) string { return k.Name }) {
		if full || !k.System() {
			out = append(out, k.Elements(o)...)
		}
	}
	return out
}

// ByName sorts s, which is sorted by name already, as DESCRIBE lists names: without regard to case. It returns s.
func ByName[T any](s []T, name func(T) string) []T {
	sort.SliceStable(s, func(i, j int) bool { return strings.ToLower(name(s[i])) < strings.ToLower(name(s[j])) })
	return s
}

// typesInOrder returns the user types so that each stands after those it uses, otherwise by name.
func (k *Keyspace) typesInOrder() []*types.Type {
	var out []*types.Type
	seen := map[string]bool{}
	var visit func(t *types.Type)
	visit = func(t *types.Type) {
		for _, e := range t.Elems {
			visit(e)
		}
		if t.Kind == types.KindUDT && !seen[t.Name] {
			seen[t.Name] = true
			out = append(out, k.types[t.Name])
		}
	}
	for _, t := range k.Types() {
		visit(t)
	}
	return out
}

// Describe returns the CREATE KEYSPACE statement.
func (k *Keyspace) Describe() string {
	name := cqlident.QuoteIdent(k.Name)
	if k.Virtual {
		return "/*\nWarning: Keyspace " + name + " is a virtual keyspace and cannot be recreated with CQL.\n" +
			"Structure, for reference:\nVIRTUAL KEYSPACE " + name + ";\n*/"
	}
	var b strings.Builder
	b.WriteString("CREATE KEYSPACE " + name + " WITH replication = {'class': '" + k.Strategy.Class + "'")
	for _, p := range k.Replication {
		if p.Key != "class" {
			b.WriteString(", " + quoteText(p.Key) + ": " + quoteText(p.Value))
		}
	}
	b.WriteString("}  AND durable_writes = " + strconv.FormatBool(k.DurableWrites) + ";")
	return b.String()
}

// DescribeType returns the CREATE TYPE statement of a user type.
func DescribeType(t *types.Type) string {
	var b strings.Builder
	b.WriteString("CREATE TYPE " + cqlident.QuoteIdent(t.Keyspace) + "." + cqlident.QuoteIdent(t.Name) + " (")
	for i, name := range t.Fields {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n    " + cqlident.QuoteIdent(name) + " " + t.Elems[i].String())
	}
	b.WriteString("\n);")
	return b.String()
}

// Describe returns the CREATE TABLE statement, and with Internals the statements that drop columns again.
func (t *Table) Describe(o DescribeOptions) string {
	w := tableWriter{t: t, o: o, name: cqlident.QuoteIdent(t.Keyspace) + "." + cqlident.QuoteIdent(t.Name)}
	switch {
	case t.VirtualSchema:
		w.b.WriteString("/*\nWarning: Table " + w.name + " is a virtual table and cannot be recreated with CQL.\nStructure, for reference:\nVIRTUAL TABLE " + w.name + " (")
	case t.CompactStorage():
		w.b.WriteString("/*\nWarning: Table " + w.name + " omitted because it has constructs not compatible with CQL (was created via legacy API).\n" +
			"Approximate structure, for reference:\n(this should not be used to reproduce this schema)\n\n")
		fallthrough
	default:
		w.b.WriteString("CREATE TABLE " + w.name + " (")
	}
	w.columns()
	w.options()
	w.b.WriteByte(';')
	if t.VirtualSchema || t.CompactStorage() {
		w.b.WriteString("\n*/")
	}
	if o.Internals && !t.VirtualSchema {
		w.dropped()
	}
	return w.b.String()
}

type tableWriter struct {
	t    *Table
	o    DescribeOptions
	name string
	b    strings.Builder
}

// staticCompact reports whether the table is COMPACT STORAGE without clustering: its columns are kept as static ones,
// and the clustering column and the value are not shown.
func (t *Table) staticCompact() bool { return t.Flags&(FlagDense|FlagCompound|FlagSuper) == 0 }

func (w *tableWriter) columns() {
	t := w.t
	static := " static"
	columns := slices.Concat(t.PartitionKey, t.Clustering, simpleFirst(t.Static), simpleFirst(t.Regular))
	switch {
	case t.staticCompact():
		static = ""
		columns = slices.Concat(t.PartitionKey, simpleFirst(t.Static))
	case t.CompactStorage():
		columns = slices.DeleteFunc(columns, func(c *Column) bool { return c.Type.Kind == types.KindEmpty })
	}
	single := len(t.PartitionKey) == 1 && len(t.Clustering) == 0
	for i, c := range columns {
		if i > 0 {
			w.b.WriteByte(',')
		}
		w.b.WriteString("\n    " + cqlident.QuoteIdent(c.Name) + " " + c.Type.String())
		if c.Kind == KindStatic {
			w.b.WriteString(static)
		}
		if single && c.Kind == KindPartitionKey {
			w.b.WriteString(" PRIMARY KEY")
		}
	}
	if w.o.Internals {
		for _, d := range t.Dropped {
			if t.Column(d.Name) == nil {
				w.b.WriteString(",\n    " + d.definition())
			}
		}
	}
	if !single {
		w.primaryKey()
	}
	w.b.WriteString("\n) WITH ")
}

// simpleFirst returns the columns with those of several cells last, as DESCRIBE orders them.
func simpleFirst(columns []*Column) []*Column {
	out := slices.Clone(columns)
	slices.SortStableFunc(out, func(a, b *Column) int { return boolInt(a.Type.MultiCell()) - boolInt(b.Type.MultiCell()) })
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// definition returns the column as in CREATE TABLE.
func (d *DroppedColumn) definition() string {
	s := cqlident.QuoteIdent(d.Name) + " " + d.Type.String()
	if d.Kind == KindStatic {
		s += " static"
	}
	return s
}

func (w *tableWriter) primaryKey() {
	w.b.WriteString(",\n    PRIMARY KEY (")
	partition := names(w.t.PartitionKey)
	if len(w.t.PartitionKey) > 1 {
		partition = "(" + partition + ")"
	}
	w.b.WriteString(partition)
	if len(w.t.Clustering) > 0 && !w.t.staticCompact() {
		w.b.WriteString(", " + names(w.t.Clustering))
	}
	w.b.WriteByte(')')
}

func names(columns []*Column) string {
	var out []string
	for _, c := range columns {
		out = append(out, cqlident.QuoteIdent(c.Name))
	}
	return strings.Join(out, ", ")
}

func (w *tableWriter) options() {
	var out []string
	if w.t.CompactStorage() && !w.t.VirtualSchema {
		out = append(out, "COMPACT STORAGE")
	}
	if w.o.Internals {
		out = append(out, "ID = "+w.t.ID.String())
	}
	if len(w.t.Clustering) > 0 {
		out = append(out, "CLUSTERING ORDER BY ("+clusteringOrder(w.t.Clustering)+")")
	}
	if w.t.VirtualSchema {
		out = append(out, "comment = "+quoteText(w.t.Options.Comment))
	} else {
		out = append(out, w.t.Options.describe()...)
	}
	w.b.WriteString(strings.Join(out, "\n    AND "))
}

func clusteringOrder(columns []*Column) string {
	var out []string
	for _, c := range columns {
		order := " ASC"
		if c.Desc {
			order = " DESC"
		}
		out = append(out, cqlident.QuoteIdent(c.Name)+order)
	}
	return strings.Join(out, ", ")
}

// dropped writes the statements that take dropped columns through their lives again.
func (w *tableWriter) dropped() {
	for _, d := range w.t.Dropped {
		w.b.WriteString("\nALTER TABLE " + w.name + " DROP " + cqlident.QuoteIdent(d.Name) + " USING TIMESTAMP " + strconv.FormatInt(d.Time, 10) + ";")
		c := w.t.Column(d.Name)
		if c == nil {
			continue
		}
		again := DroppedColumn{Name: c.Name, Type: c.Type, Kind: c.Kind}
		w.b.WriteString("\nALTER TABLE " + w.name + " ADD " + again.definition() + ";")
	}
}

// describe returns the options as name = value, in DESCRIBE's order.
func (o *TableOptions) describe() []string {
	extensions, tombstones := o.describeTombstoneGC()
	return append([]string{
		"additional_write_policy = " + quoteText(o.AdditionalWritePolicy.String()),
		"allow_auto_snapshot = " + strconv.FormatBool(o.AllowAutoSnapshot),
		"bloom_filter_fp_chance = " + javaDouble(o.BloomFilterFPChance),
		"caching = " + o.Caching.String(),
		"cdc = " + strconv.FormatBool(o.CDC),
		"comment = " + quoteText(o.Comment),
		"compaction = " + o.Compaction.String(),
		"compression = " + o.Compression.String(),
		"memtable = " + quoteText(o.Memtable),
		"crc_check_chance = " + javaDouble(o.CRCCheckChance),
		"default_time_to_live = " + strconv.Itoa(int(o.DefaultTTL)),
		"extensions = " + describeExtensions(extensions),
		"gc_grace_seconds = " + strconv.Itoa(int(o.GCGraceSeconds)),
		"incremental_backups = " + strconv.FormatBool(o.IncrementalBackups),
		"max_index_interval = " + strconv.Itoa(int(o.MaxIndexInterval)),
		"memtable_flush_period_in_ms = " + strconv.Itoa(int(o.MemtableFlushPeriodInMs)),
		"min_index_interval = " + strconv.Itoa(int(o.MinIndexInterval)),
		"read_repair = " + quoteText(o.ReadRepair.String()),
		"speculative_retry = " + quoteText(o.SpeculativeRetry.String()),
	}, tombstones...)
}

// describeTombstoneGC returns tombstone_gc = {...} when it is not the default, and the extensions without what keeps it. An extension of that name that this build does
// not understand stays one.
func (o *TableOptions) describeTombstoneGC() (extensions []Extension, option []string) {
	for _, e := range o.Extensions {
		mode, delay, ok := parseTombstoneGC(string(e.Value))
		if e.Name != ExtensionTombstoneGC || !ok {
			extensions = append(extensions, e)
			continue
		}
		m := Map{{Key: tombstoneMode, Value: mode.String()}}
		if delay != PropagationDelay {
			m = append(m, Pair{Key: tombstoneDelay, Value: strconv.Itoa(int(delay))})
		}
		option = []string{tableOptionTombGC + " = " + m.String()}
	}
	return extensions, option
}

func describeExtensions(es []Extension) string {
	var out []string
	for _, e := range es {
		out = append(out, quoteText(e.Name)+": 0x"+hex.EncodeToString(e.Value))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// String returns the map as a CQL literal.
func (m Map) String() string {
	var out []string
	for _, p := range m {
		out = append(out, quoteText(p.Key)+": "+quoteText(p.Value))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// quoteText returns s as a CQL string literal.
func quoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
