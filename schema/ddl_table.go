package schema

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/cql/types"
)

// CreateTable plans CREATE TABLE. Counter tables and COMPACT STORAGE are planned as Cassandra defines them; whoever
// cannot store them refuses the plan. Errors are *Error.
func (c *Catalog) CreateTable(s CreateTable, env Env) (Plan, error) {
	if err := guard(s.Keyspace, permCreate, allTablesResource(s.Keyspace)); err != nil {
		return Plan{}, err
	}
	if len(s.PartitionKey) == 0 {
		return Plan{}, invalid("No PRIMARY KEY specifed for table '%s.%s' (exactly one required)", s.Keyspace, s.Name)
	}
	if err := s.check(); err != nil {
		return Plan{}, err
	}
	k, ok := c.keyspaces[s.Keyspace]
	if !ok {
		return Plan{}, invalid("Keyspace '%s' doesn't exist", s.Keyspace)
	}
	if _, ok := k.tables[s.Name]; ok {
		if s.IfNotExists {
			return Plan{}, nil
		}
		return Plan{}, &Error{Code: AlreadyExists, Keyspace: s.Keyspace, Table: s.Name,
			Msg: `Cannot add already existing table "` + s.Name + `" to keyspace "` + s.Keyspace + `"`}
	}
	t, err := c.newTable(s, env)
	if err != nil {
		return Plan{}, err
	}
	return t.plan(Created), nil
}

// check finds what is wrong with a statement whether or not there is such a table: Cassandra looks at values of options and
// names of Java classes before.
func (s *CreateTable) check() error {
	options := DefaultTableOptions()
	if err := options.set(s.Properties); err != nil {
		return err
	}
	for i := range s.Columns {
		if t := &s.Columns[i].Type; t.Kind == TypeCustom {
			if _, err := customType(t.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// plan returns the plan that puts the table.
func (t *Table) plan(change EventChange) Plan {
	return Plan{
		Changes: []Change{{Kind: PutTableChange, Keyspace: t.Keyspace, Name: t.Name, Generation: t.Generation, table: t}},
		Event:   Event{change, TargetTable, t.Keyspace, t.Name},
	}
}

func (c *Catalog) newTable(s CreateTable, env Env) (*Table, error) {
	t := &Table{Keyspace: s.Keyspace, Name: s.Name, Generation: c.NextGeneration, Flags: FlagCompound}
	var err error
	if err = checkTableProperties(s.Properties); err != nil {
		return nil, err
	}
	if t.Options, err = DefaultTableOptions().created(s.Properties); err != nil {
		return nil, err
	}
	if len(s.Columns) >= ColumnsMax {
		return nil, t.tooManyColumns()
	}
	draft := tableDraft{spec: &s, types: map[string]*types.Type{}, static: map[string]bool{}}
	if err := draft.resolve(c); err != nil {
		return nil, err
	}
	if err := draft.keys(t); err != nil {
		return nil, err
	}
	if err := draft.rest(t); err != nil {
		return nil, err
	}
	if err := t.validate(); err != nil {
		return nil, err
	}
	t.number()
	t.ID, err = c.newTableID(s.Properties, env)
	return t, err
}

// created returns base with the properties set; what depends on other options is decided last.
func (base TableOptions) created(ps properties) (TableOptions, error) {
	base.BloomFilterFPChance = bloomChanceOfClass
	return base.withProperties(ps)
}

func (c *Catalog) newTableID(ps properties, env Env) (ID, error) {
	p := ps.find(tableOptionID)
	if p == nil {
		return env.NewID(), nil
	}
	s, err := p.text()
	if err != nil {
		return ID{}, err
	}
	id, ok := ParseID(s)
	if !ok {
		return ID{}, config("Invalid table id")
	}
	if other := c.byID[id]; other != nil {
		return ID{}, config("Table id %s is already used by %s.%s", s, other.Keyspace, other.Name)
	}
	return id, nil
}

// ParseID reads a UUID's usual text, in upper or lower case.
func ParseID(s string) (id ID, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, false
	}
	n, err := hex.Decode(id[:], []byte(strings.ReplaceAll(s, "-", "")))
	return id, err == nil && n == len(id)
}

// tableDraft is a CREATE TABLE on its way to a Table.
type tableDraft struct {
	spec    *CreateTable
	types   map[string]*types.Type
	static  map[string]bool
	columns []string // those that are in no key yet, by name
}

// resolve resolves the columns' types.
func (d *tableDraft) resolve(c *Catalog) error {
	r := typeResolver{keyspace: d.spec.Keyspace, find: c.Type}
	for _, col := range d.spec.Columns {
		if d.types[col.Name] != nil {
			return invalid("Multiple definition of identifier %s", col.Name)
		}
		typ, err := r.resolve(col.Type)
		if err != nil {
			return err
		}
		d.types[col.Name] = typ
		if col.Static {
			d.static[col.Name] = true
		}
		d.columns = append(d.columns, col.Name)
	}
	slices.Sort(d.columns)
	for _, name := range d.columns {
		if nestsMultiCell(d.types[name]) {
			return invalid("Non-frozen UDTs with nested non-frozen collections are not supported")
		}
	}
	return nil
}

// nestsMultiCell reports whether t is an unfrozen user type with a field that would need cells of its own.
func nestsMultiCell(t *types.Type) bool {
	return t.Kind == types.KindUDT && !t.Frozen && slices.ContainsFunc(t.Elems, (*types.Type).MultiCell)
}

// keys fills the table's partition key and clustering.
func (d *tableDraft) keys(t *Table) error {
	seen := map[string]bool{}
	for _, name := range slices.Concat(d.spec.PartitionKey, d.spec.Clustering) {
		typ := d.types[name]
		if typ == nil {
			return invalid("Unknown column '%s' referenced in PRIMARY KEY for table '%s'", name, t.Name)
		}
		if seen[name] {
			return invalid("Duplicate column '%s' in PRIMARY KEY clause for table '%s'", name, t.Name)
		}
		seen[name] = true
		if err := checkKeyType(name, typ); err != nil {
			return err
		}
		if d.static[name] {
			return invalid("Static column '%s' cannot be part of the PRIMARY KEY", name)
		}
	}
	d.columns = slices.DeleteFunc(d.columns, func(name string) bool { return seen[name] })
	desc, err := d.order()
	if err != nil {
		return err
	}
	for i, name := range d.spec.PartitionKey {
		t.PartitionKey = append(t.PartitionKey, &Column{Name: name, Type: d.types[name], Kind: KindPartitionKey, Position: i})
	}
	for i, name := range d.spec.Clustering {
		t.Clustering = append(t.Clustering, &Column{Name: name, Type: d.types[name], Kind: KindClustering, Position: i, Desc: desc[name]})
	}
	return nil
}

func checkKeyType(name string, t *types.Type) error {
	switch {
	case t.MultiCell() && t.Collection():
		return invalid("Invalid non-frozen collection type %s for PRIMARY KEY column '%s'", keyTypeText(t), name)
	case t.MultiCell():
		return invalid("Invalid non-frozen user-defined type %s for PRIMARY KEY column '%s'", keyTypeText(t), name)
	case t.Counter():
		return invalid("counter type is not supported for PRIMARY KEY column '%s'", name)
	case !orderable(t):
		return invalid("duration type is not supported for PRIMARY KEY column '%s'", name)
	}
	return nil
}

// order checks CLUSTERING ORDER BY and returns which columns are descending.
func (d *tableDraft) order() (map[string]bool, error) {
	clustering := map[string]bool{}
	for _, name := range d.spec.Clustering {
		clustering[name] = true
	}
	var others []string
	desc := map[string]bool{}
	for _, o := range d.spec.Order {
		if !clustering[o.Column] {
			others = append(others, o.Column)
		}
		desc[o.Column] = o.Desc
	}
	if len(others) > 0 {
		return nil, invalid("Only clustering key columns can be defined in CLUSTERING ORDER directive: [%s] are not clustering columns", strings.Join(others, ", "))
	}
	for i, o := range d.spec.Order[:min(len(d.spec.Order), len(d.spec.Clustering))] {
		c := d.spec.Clustering[i]
		if o.Column == c {
			continue
		}
		if _, ok := desc[c]; ok {
			return nil, invalid("The order of columns in the CLUSTERING ORDER directive must match that of the clustering columns (%s must appear before %s)", c, o.Column)
		}
		return nil, invalid("Missing CLUSTERING ORDER for column %s", c)
	}
	return desc, nil
}

// rest fills the table's other columns.
func (d *tableDraft) rest(t *Table) error {
	if d.spec.CompactStorage {
		if err := d.checkCompact(); err != nil {
			return err
		}
	} else if len(d.static) > 0 && len(t.Clustering) == 0 {
		return invalid("Static columns are only useful (and thus allowed) if the table has at least one clustering column")
	}
	counter := func(name string) bool { return d.types[name].Counter() }
	if slices.ContainsFunc(d.columns, counter) {
		if !all(d.columns, counter) {
			return invalid("Cannot mix counter and non counter columns in the same table")
		}
		if t.Options.DefaultTTL > 0 {
			return invalid("Cannot set default_time_to_live on a table with counters")
		}
		t.Flags |= FlagCounter
	}
	if d.spec.CompactStorage {
		d.compact(t)
		return nil
	}
	for _, name := range d.columns {
		t.add(name, d.types[name], d.static[name])
	}
	return nil
}

func all[T any](s []T, f func(T) bool) bool {
	return !slices.ContainsFunc(s, func(v T) bool { return !f(v) })
}

// add adds a static or regular column without an id, at the end: sortColumns puts it at its place.
func (t *Table) add(name string, typ *types.Type, static bool) *Column {
	c := &Column{Name: name, Type: typ, Kind: KindRegular, Position: -1}
	if static {
		c.Kind = KindStatic
		t.Static = append(t.Static, c)
		return c
	}
	t.Regular = append(t.Regular, c)
	return c
}

// sortColumns restores the order of what is kept by name.
func (t *Table) sortColumns() {
	byName := func(a, b *Column) int { return compareNames(a.Name, b.Name) }
	slices.SortFunc(t.Static, byName)
	slices.SortFunc(t.Regular, byName)
	slices.SortFunc(t.Dropped, func(a, b DroppedColumn) int { return cmp.Compare(a.Name, b.Name) })
}

func (d *tableDraft) checkCompact() error {
	switch {
	case slices.ContainsFunc(d.columns, func(name string) bool { return d.types[name].MultiCell() }):
		return invalid("Non-frozen collections and UDTs are not supported with COMPACT STORAGE")
	case len(d.static) > 0:
		return invalid("Static columns are not supported in COMPACT STORAGE tables")
	case len(d.spec.Clustering) == 0 && len(d.columns) == 0:
		return invalid("No definition found that is not part of the PRIMARY KEY")
	case len(d.spec.Clustering) > 0 && len(d.columns) > 1:
		return invalid("COMPACT STORAGE with composite PRIMARY KEY allows no more than one column not part of the PRIMARY KEY (got: %s)", strings.Join(d.columns, ", "))
	}
	return nil
}

// compact lays a COMPACT STORAGE table out as Cassandra does: without clustering the columns are static, beside a
// clustering column and a value that CQL hides; with clustering there is exactly one regular column.
func (d *tableDraft) compact(t *Table) {
	t.Flags &^= FlagCompound
	if len(t.Clustering) > 0 {
		t.Flags |= FlagDense
	}
	if len(t.Clustering) > 1 {
		t.Flags |= FlagCompound
	}
	for _, name := range d.columns {
		t.add(name, d.types[name], len(t.Clustering) == 0)
	}
	switch {
	case len(t.Clustering) == 0:
		value := types.Blob
		if t.Counter() {
			value = types.Counter
		}
		t.Clustering = []*Column{{Name: d.free("column", 1), Type: types.Text, Kind: KindClustering}}
		t.add(d.free("value", 0), value, false)
	case len(t.Regular) == 0:
		t.add(d.free("value", 0), types.Empty, false)
	}
}

// free returns the first of prefix, prefix1, prefix2, ... that no column has; from says where to begin, 0 is prefix.
func (d *tableDraft) free(prefix string, from int) string {
	for i := from; ; i++ {
		name := prefix
		if i > 0 {
			name += strconv.Itoa(i)
		}
		if d.types[name] == nil {
			return name
		}
	}
}

// number gives the columns of a new table their ids.
func (t *Table) number() {
	t.sortColumns()
	t.NextColumn = 1
	for _, columns := range [][]*Column{t.PartitionKey, t.Clustering, t.Static, t.Regular} {
		for _, c := range columns {
			c.ID = t.NextColumn
			t.NextColumn++
		}
	}
}

// validate checks what must hold of a table however it came about.
func (t *Table) validate() error {
	where := t.Keyspace + "." + t.Name + ": "
	if !validName(t.Name) {
		return config("%sTable name must not be empty or not contain non-alphanumeric-underscore characters (got %q)", where, t.Name)
	}
	if len(t.Name) > tableNameMax {
		return config("%sTable name must not be more than %d characters long (got %d characters for %q)", where, tableNameMax, len(t.Name), t.Name)
	}
	for _, c := range slices.Concat(t.Static, t.Regular) {
		switch {
		case t.Counter() && !c.Type.Counter():
			return config("%sCannot have a non counter column (\"%s\") in a counter table", where, c.Name)
		case !t.Counter() && c.Type.Counter():
			return config("%sCannot have a counter column (\"%s\") in a non counter table", where, c.Name)
		}
	}
	if n := len(t.PartitionKey) + len(t.Clustering) + len(t.Static) + len(t.Regular); n >= ColumnsMax || int(t.NextColumn) > ColumnsMax {
		return t.tooManyColumns()
	}
	return nil
}

func (t *Table) tooManyColumns() *Error {
	return config("%s.%s: A table may have at most %d columns in its life, dropped ones included", t.Keyspace, t.Name, ColumnsMax-1)
}

// DropTable plans DROP TABLE. Errors are *Error.
func (c *Catalog) DropTable(s DropTable, _ Env) (Plan, error) {
	if err := guard(s.Keyspace, permDrop, tableResource(s.Keyspace, s.Name)); err != nil {
		return Plan{}, err
	}
	if _, ok := c.Table(s.Keyspace, s.Name); !ok {
		if s.IfExists {
			return Plan{}, nil
		}
		return Plan{}, invalid("Table '%s.%s' doesn't exist", s.Keyspace, s.Name)
	}
	return Plan{
		Changes: []Change{{Kind: DropTableChange, Keyspace: s.Keyspace, Name: s.Name}},
		Event:   Event{Dropped, TargetTable, s.Keyspace, s.Name},
	}, nil
}

// Truncate plans TRUNCATE: the table gets a new generation, and what is stored under the old one can go. Clients are
// told nothing. Errors are *Error.
func (c *Catalog) Truncate(s Truncate, _ Env) (Plan, error) {
	k, ok := c.keyspaces[s.Keyspace]
	if !ok {
		return Plan{}, invalid("keyspace %s does not exist", s.Keyspace)
	}
	t, ok := k.tables[s.Name]
	if !ok {
		return Plan{}, invalid("table %s does not exist", s.Name)
	}
	if t.Virtual {
		return Plan{}, invalid("Truncation is not supported by table %s.%s", s.Keyspace, s.Name)
	}
	return Plan{Changes: []Change{{Kind: PutGenerationChange, Keyspace: s.Keyspace, Name: s.Name, Generation: c.NextGeneration}}}, nil
}
