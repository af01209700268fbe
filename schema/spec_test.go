package schema_test

import (
	"fmt"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/schema"
)

// plan turns a statement into the spec that the catalog takes, as the executor does, and plans it.
func (m *machine) plan(stmt cql.Statement) (schema.Plan, error) {
	c := m.catalog
	switch s := stmt.(type) {
	case *cql.CreateKeyspace:
		return c.CreateKeyspace(schema.CreateKeyspace{Name: s.Name.Name, IfNotExists: s.IfNotExists, Properties: props(s.Properties)}, m.env)
	case *cql.AlterKeyspace:
		return c.AlterKeyspace(schema.AlterKeyspace{Name: s.Name.Name, IfExists: s.IfExists, Properties: props(s.Properties)}, m.env)
	case *cql.DropKeyspace:
		return c.DropKeyspace(schema.DropKeyspace{Name: s.Name.Name, IfExists: s.IfExists}, m.env)
	case *cql.CreateTable:
		return c.CreateTable(createTable(s), m.env)
	case *cql.AlterTable:
		return c.AlterTable(alterTable(s), m.env)
	case *cql.DropTable:
		return c.DropTable(schema.DropTable{Keyspace: s.Name.Keyspace.Name, Name: s.Name.Name.Name, IfExists: s.IfExists}, m.env)
	case *cql.Truncate:
		return c.Truncate(schema.Truncate{Keyspace: s.Table.Keyspace.Name, Name: s.Table.Name.Name}, m.env)
	case *cql.CreateType:
		out := schema.CreateType{Keyspace: s.Name.Keyspace.Name, Name: s.Name.Name.Name, IfNotExists: s.IfNotExists}
		for _, f := range s.Fields {
			out.Fields = append(out.Fields, schema.FieldSpec{Name: f.Name.Name, Type: typeSpec(f.Type)})
		}
		return c.CreateType(out, m.env)
	case *cql.AlterType:
		return c.AlterType(alterType(s), m.env)
	case *cql.DropType:
		return c.DropType(schema.DropType{Keyspace: s.Name.Keyspace.Name, Name: s.Name.Name.Name, IfExists: s.IfExists}, m.env)
	}
	return schema.Plan{}, fmt.Errorf("no DDL: %T", stmt)
}

func props(ps []cql.Property) []schema.Property {
	var out []schema.Property
	for _, p := range ps {
		q := schema.Property{Name: p.Name, Value: p.Value, IsMap: p.IsMap}
		for _, e := range p.Map {
			q.Map = append(q.Map, schema.Pair{Key: e.Key, Value: e.Value})
		}
		out = append(out, q)
	}
	return out
}

func typeSpec(t *cql.TypeRef) schema.TypeSpec {
	kinds := map[cql.TypeKind]schema.TypeSpecKind{
		cql.TypeNative: schema.TypeNative, cql.TypeList: schema.TypeList, cql.TypeSet: schema.TypeSet, cql.TypeMap: schema.TypeMap,
		cql.TypeTuple: schema.TypeTuple, cql.TypeVector: schema.TypeVector, cql.TypeUser: schema.TypeUser, cql.TypeCustom: schema.TypeCustom,
	}
	out := schema.TypeSpec{Kind: kinds[t.Kind], Frozen: t.Frozen, Name: t.Name, Dim: t.Dim}
	switch t.Kind {
	case cql.TypeUser:
		out.Keyspace, out.Name = t.UserType.Keyspace.Name, t.UserType.Name.Name
	case cql.TypeCustom:
		out.Name = t.Class
	}
	for _, e := range t.Elems {
		out.Elems = append(out.Elems, typeSpec(e))
	}
	return out
}

func idents(in []cql.Ident) []string {
	var out []string
	for _, i := range in {
		out = append(out, i.Name)
	}
	return out
}

func columnSpecs(in []cql.ColumnDef) []schema.ColumnSpec {
	var out []schema.ColumnSpec
	for _, c := range in {
		out = append(out, schema.ColumnSpec{Name: c.Name.Name, Type: typeSpec(c.Type), Static: c.Static})
	}
	return out
}

func renames(in []cql.Rename) []schema.Rename {
	var out []schema.Rename
	for _, r := range in {
		out = append(out, schema.Rename{From: r.From.Name, To: r.To.Name})
	}
	return out
}

func createTable(s *cql.CreateTable) schema.CreateTable {
	out := schema.CreateTable{
		Keyspace: s.Name.Keyspace.Name, Name: s.Name.Name.Name, IfNotExists: s.IfNotExists, Columns: columnSpecs(s.Columns),
		PartitionKey: idents(s.PartitionKey), Clustering: idents(s.Clustering), CompactStorage: s.CompactStorage, Properties: props(s.Properties),
	}
	for _, o := range s.Order {
		out.Order = append(out.Order, schema.ClusteringOrder{Column: o.Column.Name, Desc: o.Desc})
	}
	return out
}

func alterTable(s *cql.AlterTable) schema.AlterTable {
	kinds := map[cql.AlterTableKind]schema.AlterTableKind{
		cql.AlterAdd: schema.AlterAdd, cql.AlterDrop: schema.AlterDrop, cql.AlterRename: schema.AlterRename,
		cql.AlterProperties: schema.AlterProperties, cql.AlterColumnType: schema.AlterColumnType, cql.AlterDropCompact: schema.AlterDropCompact,
	}
	return schema.AlterTable{
		Keyspace: s.Name.Keyspace.Name, Name: s.Name.Name.Name, IfExists: s.IfExists, Kind: kinds[s.Kind],
		IfColumnExists: s.IfColumnExists, IfColumnAbsent: s.IfColumnAbsent, Add: columnSpecs(s.Add), Drop: idents(s.Drop),
		Timestamp: s.Timestamp, Renames: renames(s.Renames), Properties: props(s.Properties),
	}
}

func alterType(s *cql.AlterType) schema.AlterType {
	kinds := map[cql.AlterTypeKind]schema.AlterTypeKind{
		cql.AlterAddField: schema.AlterAddField, cql.AlterRenameFields: schema.AlterRenameFields, cql.AlterFieldType: schema.AlterFieldType,
	}
	out := schema.AlterType{
		Keyspace: s.Name.Keyspace.Name, Name: s.Name.Name.Name, IfExists: s.IfExists, Kind: kinds[s.Kind],
		IfFieldExists: s.IfFieldExists, IfFieldAbsent: s.IfFieldAbsent, Renames: renames(s.Renames),
	}
	if s.Field.Type != nil {
		out.Field = schema.FieldSpec{Name: s.Field.Name.Name, Type: typeSpec(s.Field.Type)}
	}
	return out
}
