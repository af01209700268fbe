package schema

import (
	"crypto/md5"
	"fmt"
	"strings"

	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
)

// Names of the system keyspaces.
const (
	SystemKeyspace        = "system"
	SchemaKeyspace        = "system_schema"
	AuthKeyspace          = "system_auth"
	DistributedKeyspace   = "system_distributed"
	TracesKeyspace        = "system_traces"
	ViewsKeyspace         = "system_views"
	VirtualSchemaKeyspace = "system_virtual_schema"
)

// IsSystemKeyspace reports whether a keyspace of that name comes with the server.
func IsSystemKeyspace(name string) bool {
	switch name {
	case SystemKeyspace, SchemaKeyspace, ViewsKeyspace, VirtualSchemaKeyspace:
		return true
	}
	return replicatedSystemKeyspace(name)
}

// replicatedSystemKeyspace reports whether the keyspace comes with the server but an operator chooses its replication.
func replicatedSystemKeyspace(name string) bool {
	return name == AuthKeyspace || name == DistributedKeyspace || name == TracesKeyspace
}

// systemKeyspace is the definition of a keyspace that comes with the server.
type systemKeyspace struct {
	name    string
	rf      int  // SimpleStrategy with that factor; 0: local
	virtual bool // a virtual keyspace in Cassandra too
	options func(*TableOptions)
	tables  []systemTable
	// stored is the generation of the first table, the others follow; 0: rows are computed, nothing is stored. Never
	// change one that a release had: it is part of every stored key.
	stored Generation
}

// systemTable is one of its tables.
type systemTable struct {
	name, comment string
	// columns are "name type [kind]" with ; between them, kind being pk, ck or nothing, keys in order.
	columns string
	options func(*TableOptions) // on top of the keyspace's; may be nil
}

// Bootstrap returns the catalog of a new cluster: the system keyspaces with the definitions of Cassandra 5.0.8. Of
// their tables only those of system_traces are stored: all others are Virtual, whatever they are in Cassandra.
func Bootstrap() *Catalog {
	c := &Catalog{NextGeneration: GenerationUserMin, keyspaces: map[string]*Keyspace{}}
	for _, def := range systemKeyspaces() {
		c.keyspaces[def.name] = def.build()
	}
	c.boot = c
	if err := c.index(); err != nil {
		panic("schema: system tables: " + err.Error())
	}
	c.Version = c.digest()
	return c
}

func (def *systemKeyspace) build() *Keyspace {
	k := &Keyspace{Name: def.name, DurableWrites: true, Virtual: def.virtual, tables: map[string]*Table{}, types: map[string]*types.Type{}}
	switch {
	case def.rf > 0:
		k.Strategy = ring.Strategy{Class: ring.SimpleStrategy, RF: def.rf}
		k.Replication = mapOf(k.Strategy.Options())
	case !def.virtual:
		k.Strategy, k.Local = ring.Strategy{Class: ring.LocalStrategy}, true
		k.Replication = mapOf(k.Strategy.Options())
	}
	for i := range def.tables {
		t := def.table(&def.tables[i])
		if def.stored > 0 {
			t.Virtual, t.Generation = false, def.stored+Generation(i)
		}
		k.tables[t.Name] = t
	}
	return k
}

func (def *systemKeyspace) table(spec *systemTable) *Table {
	t := &Table{Keyspace: def.name, Name: spec.name, ID: nameID(def.name + spec.name), Flags: FlagCompound, Virtual: true, VirtualSchema: def.virtual}
	t.Options = DefaultTableOptions()
	t.Options.Comment = spec.comment
	for _, set := range []func(*TableOptions){def.options, spec.options} {
		if set != nil {
			set(&t.Options)
		}
	}
	for column := range strings.SplitSeq(spec.columns, ";") {
		if err := t.addSpec(strings.TrimSpace(column)); err != nil {
			panic(fmt.Sprintf("schema: %s.%s: %s", def.name, spec.name, err))
		}
	}
	t.number()
	t.finish()
	return t
}

// addSpec adds the column that "name type [kind]" means.
func (t *Table) addSpec(spec string) error {
	name, rest, _ := strings.Cut(spec, " ")
	typeText, isPartition := strings.CutSuffix(rest, " pk")
	typeText, isClustering := strings.CutSuffix(typeText, " ck")
	typ, err := types.Parse(typeText, nil, t.Keyspace)
	switch {
	case err != nil:
		return err
	case isPartition:
		t.PartitionKey = append(t.PartitionKey, &Column{Name: name, Type: typ, Kind: KindPartitionKey, Position: len(t.PartitionKey)})
	case isClustering:
		t.Clustering = append(t.Clustering, &Column{Name: name, Type: typ, Kind: KindClustering, Position: len(t.Clustering)})
	default:
		t.add(name, typ, false)
	}
	return nil
}

// nameID returns the id that Cassandra derives from a system table's name: a name-based UUID.
func nameID(name string) ID {
	id := ID(md5.Sum([]byte(name)))
	id[6] = id[6]&0x0f | 0x30
	id[8] = id[8]&0x3f | 0x80
	return id
}
