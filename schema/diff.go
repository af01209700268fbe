package schema

import (
	"bytes"
	"slices"
)

// Diff returns the events that tell clients what changed from c to next: per keyspace by name what was dropped, then
// what was created, then what was altered, each types before tables but dropped tables before dropped types. What a
// client cannot see, such as TRUNCATE, is no event. An altered type alters the tables that use it.
func (c *Catalog) Diff(next *Catalog) []Event {
	var out []Event
	for _, old := range c.Keyspaces() {
		if k, ok := next.keyspaces[old.Name]; !ok {
			out = missing(out, Dropped, TargetTable, old.Name, old.tables, nil)
			out = missing(out, Dropped, TargetType, old.Name, old.types, nil)
			out = append(out, Event{Dropped, TargetKeyspace, old.Name, ""})
		} else if k != old {
			out = old.diff(k, out)
		}
	}
	for _, k := range next.Keyspaces() {
		if _, ok := c.keyspaces[k.Name]; !ok {
			out = append(out, Event{Created, TargetKeyspace, k.Name, ""})
			out = missing(out, Created, TargetType, k.Name, k.types, nil)
			out = missing(out, Created, TargetTable, k.Name, k.tables, nil)
		}
	}
	return out
}

func (k *Keyspace) diff(next *Keyspace, out []Event) []Event {
	out = missing(out, Dropped, TargetTable, k.Name, k.tables, next.tables)
	out = missing(out, Dropped, TargetType, k.Name, k.types, next.types)
	out = missing(out, Created, TargetType, k.Name, next.types, k.types)
	out = missing(out, Created, TargetTable, k.Name, next.tables, k.tables)
	if !k.sameProperties(next) {
		out = append(out, Event{Updated, TargetKeyspace, k.Name, ""})
	}
	for _, t := range next.Types() {
		if old := k.types[t.Name]; old != nil && !old.Equal(t) {
			out = append(out, Event{Updated, TargetType, k.Name, t.Name})
		}
	}
	for _, t := range next.Tables() {
		if old := k.tables[t.Name]; old != nil && !old.sameDefinition(t) {
			out = append(out, Event{Updated, TargetTable, k.Name, t.Name})
		}
	}
	return out
}

// missing appends an event for each name in have that other has not.
func missing[T any](out []Event, change EventChange, target EventTarget, ks string, have, other map[string]T) []Event {
	for _, name := range sortedKeys(have) {
		if _, ok := other[name]; !ok {
			out = append(out, Event{change, target, ks, name})
		}
	}
	return out
}

// sameDefinition reports whether both tables look the same to a client.
func (t *Table) sameDefinition(o *Table) bool {
	if t == o {
		return true
	}
	a, b := *t, *o
	a.Generation, b.Generation = 0, 0
	return bytes.Equal(appendTable(nil, &a), appendTable(nil, &b)) &&
		slices.EqualFunc(t.all, o.all, func(x, y *Column) bool { return x.Type.Equal(y.Type) })
}

// Retired returns the generations that c has and next has not, ascending: what is stored under them can go.
func (c *Catalog) Retired(next *Catalog) []Generation {
	var out []Generation
	for g := range c.byGeneration {
		if _, ok := next.byGeneration[g]; !ok {
			out = append(out, g)
		}
	}
	slices.Sort(out)
	return out
}
