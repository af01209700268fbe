package exec

import (
	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/schema"
)

// ddlNames turns syntax into the specs of package schema. err is the first thing that went wrong.
type ddlNames struct {
	keyspace string // for names without one; "" when there is none
	err      error
}

// of returns the keyspace of a name.
func (d *ddlNames) of(n cql.QualifiedName) string {
	if n.Qualified() {
		return n.Keyspace.Name
	}
	if d.keyspace == "" && d.err == nil {
		d.err = errNoKeyspace
	}
	return d.keyspace
}

var errNoKeyspace = invalid("No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename")

func properties(list []cql.Property) []schema.Property {
	out := make([]schema.Property, len(list))
	for i, p := range list {
		out[i] = schema.Property{Name: p.Name, Value: p.Value, IsMap: p.IsMap}
		for _, e := range p.Map {
			out[i].Map = append(out[i].Map, schema.Pair{Key: e.Key, Value: e.Value})
		}
	}
	return out
}

func typeSpec(t *cql.TypeRef) schema.TypeSpec {
	s := schema.TypeSpec{Frozen: t.Frozen, Name: t.Name, Dim: t.Dim}
	switch t.Kind {
	case cql.TypeNative:
		s.Kind = schema.TypeNative
	case cql.TypeList:
		s.Kind = schema.TypeList
	case cql.TypeSet:
		s.Kind = schema.TypeSet
	case cql.TypeMap:
		s.Kind = schema.TypeMap
	case cql.TypeTuple:
		s.Kind = schema.TypeTuple
	case cql.TypeVector:
		s.Kind = schema.TypeVector
	case cql.TypeUser:
		s.Kind, s.Name, s.Keyspace = schema.TypeUser, t.UserType.Name.Name, t.UserType.Keyspace.Name
	case cql.TypeCustom:
		s.Kind, s.Name = schema.TypeCustom, t.Class
	}
	for _, e := range t.Elems {
		s.Elems = append(s.Elems, typeSpec(e))
	}
	return s
}

func columnSpecs(list []cql.ColumnDef) []schema.ColumnSpec {
	var out []schema.ColumnSpec
	for _, c := range list {
		out = append(out, schema.ColumnSpec{Name: c.Name.Name, Type: typeSpec(c.Type), Static: c.Static})
	}
	return out
}

func names(list []cql.Ident) []string {
	var out []string
	for _, id := range list {
		out = append(out, id.Name)
	}
	return out
}

func renames(list []cql.Rename) []schema.Rename {
	var out []schema.Rename
	for _, r := range list {
		out = append(out, schema.Rename{From: r.From.Name, To: r.To.Name})
	}
	return out
}

func (d *ddlNames) createTable(a *cql.CreateTable) schema.CreateTable {
	s := schema.CreateTable{Keyspace: d.of(a.Name), Name: a.Name.Name.Name, IfNotExists: a.IfNotExists, Columns: columnSpecs(a.Columns),
		PartitionKey: names(a.PartitionKey), Clustering: names(a.Clustering), CompactStorage: a.CompactStorage, Properties: properties(a.Properties)}
	for _, o := range a.Order {
		s.Order = append(s.Order, schema.ClusteringOrder{Column: o.Column.Name, Desc: o.Desc})
	}
	return s
}

func (d *ddlNames) alterTable(a *cql.AlterTable) schema.AlterTable {
	s := schema.AlterTable{Keyspace: d.of(a.Name), Name: a.Name.Name.Name, IfExists: a.IfExists, IfColumnExists: a.IfColumnExists,
		IfColumnAbsent: a.IfColumnAbsent, Add: columnSpecs(a.Add), Drop: names(a.Drop), Timestamp: a.Timestamp, Renames: renames(a.Renames),
		Column: a.Column.Name, Properties: properties(a.Properties)}
	switch a.Kind {
	case cql.AlterAdd:
		s.Kind = schema.AlterAdd
	case cql.AlterDrop:
		s.Kind = schema.AlterDrop
	case cql.AlterRename:
		s.Kind = schema.AlterRename
	case cql.AlterProperties:
		s.Kind = schema.AlterProperties
	case cql.AlterDropCompact:
		s.Kind = schema.AlterDropCompact
	default:
		s.Kind = schema.AlterColumnType
	}
	return s
}

func fieldSpec(f cql.FieldDef) schema.FieldSpec {
	s := schema.FieldSpec{Name: f.Name.Name}
	if f.Type != nil {
		s.Type = typeSpec(f.Type)
	}
	return s
}

func (d *ddlNames) createType(a *cql.CreateType) schema.CreateType {
	s := schema.CreateType{Keyspace: d.of(a.Name), Name: a.Name.Name.Name, IfNotExists: a.IfNotExists}
	for _, f := range a.Fields {
		s.Fields = append(s.Fields, fieldSpec(f))
	}
	return s
}

func (d *ddlNames) alterType(a *cql.AlterType) schema.AlterType {
	s := schema.AlterType{Keyspace: d.of(a.Name), Name: a.Name.Name.Name, IfExists: a.IfExists, IfFieldExists: a.IfFieldExists,
		IfFieldAbsent: a.IfFieldAbsent, Field: fieldSpec(a.Field), Renames: renames(a.Renames)}
	switch a.Kind {
	case cql.AlterAddField:
		s.Kind = schema.AlterAddField
	case cql.AlterRenameFields:
		s.Kind = schema.AlterRenameFields
	default:
		s.Kind = schema.AlterFieldType
	}
	return s
}
