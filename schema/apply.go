package schema

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
)

// Reasons of a conflict.
var (
	errNoKeyspace     = errors.New("no such keyspace")
	errNoTable        = errors.New("no such table")
	errNoType         = errors.New("no such type")
	errSystemKeyspace = errors.New("a system keyspace")
	errGenerations    = errors.New("out of generations")
)

// Apply returns the catalog after all the changes, in order. c is not changed. It is deterministic: the same catalog
// and changes give the same result, Version included, on every node. The error matches ErrConflict: the changes were
// planned against another catalog and have no effect. Not every such case is seen: a put replaces what it finds, so whoever
// applies changes of several planners compares the Version they were planned against.
func (c *Catalog) Apply(changes []Change) (*Catalog, error) {
	e := c.edit()
	for _, ch := range changes {
		if err := e.apply(ch); err != nil {
			return nil, fmt.Errorf("%w: %s %s.%s: %w", ErrConflict, ch.Kind, ch.Keyspace, ch.Name, err)
		}
	}
	next, err := e.finish()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return next, nil
}

// String names the kind in messages.
func (k ChangeKind) String() string {
	switch k {
	case PutKeyspaceChange:
		return "put keyspace"
	case DropKeyspaceChange:
		return "drop keyspace"
	case PutTableChange:
		return "put table"
	case DropTableChange:
		return "drop table"
	case PutTypeChange:
		return "put type"
	case DropTypeChange:
		return "drop type"
	case PutGenerationChange:
		return "truncate table"
	}
	return "unknown change"
}

// edit is a catalog in the making. Keyspaces are copied before they are written to; user types stay unbound until
// finish, so that the order of changes does not matter to them.
type edit struct {
	boot      *Catalog
	keyspaces map[string]*Keyspace
	dirty     map[string]bool // copied by this edit: to be bound again
	next      Generation
	ids       map[ID]*Table
	loading   bool // a snapshot: generations come in any order
}

func (c *Catalog) edit() *edit {
	return &edit{boot: c.boot, keyspaces: maps.Clone(c.keyspaces), dirty: map[string]bool{}, next: c.NextGeneration, ids: maps.Clone(c.byID)}
}

// own returns a copy of the keyspace that may be written to.
func (e *edit) own(name string) (*Keyspace, error) {
	k, ok := e.keyspaces[name]
	if !ok {
		return nil, errNoKeyspace
	}
	if !e.dirty[name] {
		cp := *k
		cp.tables, cp.types = maps.Clone(k.tables), maps.Clone(k.types)
		k = &cp
		e.keyspaces[name], e.dirty[name] = k, true
	}
	return k, nil
}

func (e *edit) apply(ch Change) error {
	if ch.Kind == PutKeyspaceChange {
		return e.putKeyspace(ch)
	}
	if IsSystemKeyspace(ch.Keyspace) {
		return errSystemKeyspace
	}
	k, err := e.own(ch.Keyspace)
	if err != nil {
		return err
	}
	switch ch.Kind {
	case DropKeyspaceChange:
		for _, t := range k.tables {
			delete(e.ids, t.ID)
		}
		delete(e.keyspaces, k.Name)
		delete(e.dirty, k.Name)
	case PutTableChange:
		return e.putTable(k, ch.table)
	case DropTableChange:
		t, ok := k.tables[ch.Name]
		if !ok {
			return errNoTable
		}
		delete(e.ids, t.ID)
		delete(k.tables, ch.Name)
	case PutGenerationChange:
		return e.putGeneration(k, ch)
	case PutTypeChange:
		k.types[ch.Name] = ch.typ
	case DropTypeChange:
		if _, ok := k.types[ch.Name]; !ok {
			return errNoType
		}
		delete(k.types, ch.Name)
	default:
		return fmt.Errorf("unknown kind %d", ch.Kind)
	}
	return nil
}

func (e *edit) putKeyspace(ch Change) error {
	strategy, err := ring.ParseStrategy(ch.replication.toMap(), nil)
	if err != nil {
		return err
	}
	if _, ok := e.keyspaces[ch.Keyspace]; !ok {
		if IsSystemKeyspace(ch.Keyspace) {
			return errSystemKeyspace
		}
		e.keyspaces[ch.Keyspace] = &Keyspace{Name: ch.Keyspace, tables: map[string]*Table{}, types: map[string]*types.Type{}}
	}
	k, err := e.own(ch.Keyspace)
	if err != nil {
		return err
	}
	if k.Local || k.Virtual || strategy.IsLocal() {
		return errSystemKeyspace
	}
	k.DurableWrites, k.Replication, k.Strategy = ch.durableWrites, ch.replication, strategy
	return nil
}

func (e *edit) putTable(k *Keyspace, t *Table) error {
	if err := t.check(); err != nil {
		return err
	}
	old := k.tables[t.Name]
	if other := e.ids[t.ID]; other != nil && other != old {
		return fmt.Errorf("table id %s is taken", t.ID)
	}
	if old == nil || old.Generation != t.Generation {
		if err := e.take(t.Generation); err != nil {
			return err
		}
	}
	if old != nil && old.ID != t.ID {
		return fmt.Errorf("table id %s is now %s", t.ID, old.ID)
	}
	k.tables[t.Name], e.ids[t.ID] = t, t
	return nil
}

func (e *edit) putGeneration(k *Keyspace, ch Change) error {
	old, ok := k.tables[ch.Name]
	if !ok {
		return errNoTable
	}
	if err := e.take(ch.Generation); err != nil {
		return err
	}
	t := *old
	t.Generation = ch.Generation
	k.tables[t.Name], e.ids[t.ID] = &t, &t
	return nil
}

// take uses up a generation, which must be a new one.
func (e *edit) take(g Generation) error {
	if g < e.next && !e.loading {
		return fmt.Errorf("generation %d was already given away", g)
	}
	if g+1 == 0 {
		return errGenerations
	}
	e.next = max(e.next, g+1)
	return nil
}

// finish binds the user types of the changed keyspaces and returns the catalog.
func (e *edit) finish() (*Catalog, error) {
	for _, name := range sortedKeys(e.dirty) {
		if err := e.keyspaces[name].bind(); err != nil {
			return nil, fmt.Errorf("keyspace %s: %w", name, err)
		}
	}
	c := &Catalog{NextGeneration: e.next, keyspaces: e.keyspaces, boot: e.boot}
	if err := c.index(); err != nil {
		return nil, err
	}
	c.Version = c.digest()
	return c, nil
}

// index builds the catalog's derived maps.
func (c *Catalog) index() error {
	c.byGeneration = map[Generation]*Table{}
	c.byID = map[ID]*Table{}
	for _, k := range c.keyspaces {
		for _, t := range k.tables {
			c.byID[t.ID] = t
			if t.Virtual {
				continue
			}
			if t.Generation == 0 || c.byGeneration[t.Generation] != nil {
				return fmt.Errorf("generation %d of %s.%s is not unique", t.Generation, t.Keyspace, t.Name)
			}
			c.byGeneration[t.Generation] = t
		}
	}
	return nil
}

// bind replaces every reference to a user type by the type's definition, in types first and then in tables. It
// returns an error when a type does not exist, contains itself or is too large. The keyspace is written to; the tables
// are copied.
func (k *Keyspace) bind() error {
	b := binder{raw: k.types, bound: map[string]*types.Type{}, open: map[string]bool{}, weights: map[string]weight{}}
	for _, name := range sortedKeys(k.types) {
		if b.find(name) == nil {
			return fmt.Errorf("type %s refers to a type that does not exist or to itself", name)
		}
		if b.weights[name].tooLarge() {
			return fmt.Errorf("type %s: %w", name, errTypeSize)
		}
	}
	k.types = b.bound
	for _, name := range sortedKeys(k.tables) {
		t, err := k.tables[name].bind(&b)
		if err != nil {
			return err
		}
		k.tables[name] = t
	}
	return nil
}

// binder binds user types, each once, those it contains first.
type binder struct {
	raw   map[string]*types.Type
	bound map[string]*types.Type
	open  map[string]bool // being bound now: meeting one again is a cycle
	// weights are the sizes of the bound types.
	weights map[string]weight
}

// weigh returns the size of a type whose user types are bound, or are being bound.
func (b *binder) weigh(t *types.Type) weight {
	return weigh(t, func(t *types.Type) (weight, bool) {
		w, ok := b.weights[t.Name]
		return w, ok
	})
}

func (b *binder) find(name string) *types.Type {
	if t := b.bound[name]; t != nil {
		return t
	}
	raw := b.raw[name]
	if raw == nil || b.open[name] || len(b.open) > typeDepthMax {
		return nil
	}
	b.open[name] = true
	defer delete(b.open, name)
	elems := make([]*types.Type, len(raw.Elems))
	same := true
	for i, e := range raw.Elems {
		if elems[i] = bind(e, b.find); elems[i] == nil {
			return nil
		}
		same = same && elems[i] == e
	}
	t := raw
	if !same {
		t = types.UDTOf(raw.Keyspace, raw.Name, raw.Fields, elems, false)
	}
	b.weights[name] = b.weigh(t)
	b.bound[name] = t
	return t
}

// bind returns the table with its columns' user types bound, t itself when there are none and it is finished.
func (t *Table) bind(b *binder) (*Table, error) {
	out := *t
	changed := t.all == nil
	for _, columns := range []*[]*Column{&out.PartitionKey, &out.Clustering, &out.Static, &out.Regular} {
		var copied []*Column
		for i, c := range *columns {
			typ := bind(c.Type, b.find)
			switch {
			case typ == nil:
				return nil, fmt.Errorf("column %s.%s has an unknown type", t.Name, c.Name)
			case b.weigh(typ).tooLarge():
				return nil, fmt.Errorf("column %s.%s: %w", t.Name, c.Name, errTypeSize)
			case c.Kind.Key() && !orderable(typ):
				return nil, fmt.Errorf("key column %s.%s has no order", t.Name, c.Name)
			case typ == c.Type:
				continue
			}
			if copied == nil {
				copied = slices.Clone(*columns)
			}
			cp := *c
			cp.Type = typ
			copied[i] = &cp
		}
		if copied != nil {
			*columns, changed = copied, true
		}
	}
	if !changed {
		return t, nil
	}
	out.finish()
	return &out, nil
}

// sameProperties reports whether both keyspaces have equal properties of their own, whatever they hold.
func (k *Keyspace) sameProperties(o *Keyspace) bool {
	return k.DurableWrites == o.DurableWrites && slices.Equal(k.Replication, o.Replication)
}

func (m Map) toMap() map[string]string {
	out := make(map[string]string, len(m))
	for _, p := range m {
		out[p.Key] = p.Value
	}
	return out
}

// mapOf returns m sorted.
func mapOf(m map[string]string) Map {
	out := make(Map, 0, len(m))
	for _, k := range sortedKeys(m) {
		out = append(out, Pair{k, m[k]})
	}
	return out
}
