package schema

import (
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
)

// Keyspace is the definition of a keyspace with all it holds. It is immutable.
type Keyspace struct {
	Name          string
	DurableWrites bool
	Replication   Map           // 'class', the full Java class name, and the strategy's options; nil if Virtual
	Strategy      ring.Strategy // what Replication means; the zero value if Virtual
	Local         bool          // LocalStrategy: every node has its own
	Virtual       bool          // a virtual keyspace: described by system_virtual_schema, not by system_schema

	tables map[string]*Table
	types  map[string]*types.Type // unfrozen
}

// Table returns the table of that name.
func (k *Keyspace) Table(name string) (*Table, bool) {
	t, ok := k.tables[name]
	return t, ok
}

// Tables returns the tables by name, in a new slice.
func (k *Keyspace) Tables() []*Table { return sortedValues(k.tables) }

// Type returns the user type of that name, unfrozen.
func (k *Keyspace) Type(name string) (*types.Type, bool) {
	t, ok := k.types[name]
	return t, ok
}

// Types returns the user types by name, in a new slice.
func (k *Keyspace) Types() []*types.Type { return sortedValues(k.types) }

// System reports whether users may not change what is in the keyspace: it comes with the server.
func (k *Keyspace) System() bool { return IsSystemKeyspace(k.Name) }

// Catalog is everything DDL defines, the system keyspaces included. It is immutable; the zero value is not usable,
// see Bootstrap.
type Catalog struct {
	// Version is the schema_version that clients see: a digest of the content in the shape of a UUID, the same on
	// every node that has the same definitions.
	Version [16]byte
	// NextGeneration is the generation that the next new or truncated table gets.
	NextGeneration Generation

	keyspaces    map[string]*Keyspace
	boot         *Catalog // what Bootstrap returned, for what differs from it
	byGeneration map[Generation]*Table
	byID         map[ID]*Table
}

// Keyspace returns the keyspace of that name.
func (c *Catalog) Keyspace(name string) (*Keyspace, bool) {
	k, ok := c.keyspaces[name]
	return k, ok
}

// Keyspaces returns all keyspaces by name, in a new slice.
func (c *Catalog) Keyspaces() []*Keyspace { return sortedValues(c.keyspaces) }

// Table returns the table of that name.
func (c *Catalog) Table(keyspace, name string) (*Table, bool) {
	k, ok := c.keyspaces[keyspace]
	if !ok {
		return nil, false
	}
	return k.Table(name)
}

// TableByGeneration returns the table that now has that storage generation, in constant time.
func (c *Catalog) TableByGeneration(g Generation) (*Table, bool) {
	t, ok := c.byGeneration[g]
	return t, ok
}

// TableByID returns the table with that id, in constant time.
func (c *Catalog) TableByID(id ID) (*Table, bool) {
	t, ok := c.byID[id]
	return t, ok
}

// Type returns the user type of that name, unfrozen.
func (c *Catalog) Type(keyspace, name string) (*types.Type, bool) {
	k, ok := c.keyspaces[keyspace]
	if !ok {
		return nil, false
	}
	return k.Type(name)
}

func sortedValues[V any](m map[string]V) []V {
	out := make([]V, 0, len(m))
	for _, name := range sortedKeys(m) {
		out = append(out, m[name])
	}
	return out
}
