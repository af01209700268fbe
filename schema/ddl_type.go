package schema

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/helenusdb/helenus/cql/types"
)

// CreateType plans CREATE TYPE. Errors are *Error.
func (c *Catalog) CreateType(s CreateType, _ Env) (Plan, error) {
	if err := guard(s.Keyspace, permCreate, allTablesResource(s.Keyspace)); err != nil {
		return Plan{}, err
	}
	k, ok := c.keyspaces[s.Keyspace]
	if !ok {
		return Plan{}, invalid("Keyspace '%s' doesn't exist", s.Keyspace)
	}
	if _, ok := k.types[s.Name]; ok {
		if s.IfNotExists {
			return Plan{}, nil
		}
		return Plan{}, invalid("A user type with name '%s' already exists", s.Name)
	}
	var names []string
	seen := map[string]bool{}
	for _, f := range s.Fields {
		if seen[f.Name] {
			return Plan{}, invalid("Duplicate field name '%s' in type '%s'", f.Name, s.Name)
		}
		seen[f.Name] = true
		names = append(names, f.Name)
	}
	if len(names) == 0 {
		return Plan{}, invalid("A user type must have at least one field")
	}
	for _, f := range s.Fields {
		if err := checkFieldType(&f.Type); err != nil {
			return Plan{}, err
		}
	}
	r := typeResolver{keyspace: s.Keyspace, find: c.Type}
	elems := make([]*types.Type, len(s.Fields))
	for i, f := range s.Fields {
		var err error
		if elems[i], err = r.resolve(f.Type); err != nil {
			return Plan{}, err
		}
	}
	return c.planType(Created, types.UDTOf(s.Keyspace, s.Name, names, elems, false))
}

// planType returns the plan that puts the type, unless that made it, or a type or table that uses it, too large.
func (c *Catalog) planType(change EventChange, t *types.Type) (Plan, error) {
	plan := Plan{
		Changes: []Change{{Kind: PutTypeChange, Keyspace: t.Keyspace, Name: t.Name, typ: t}},
		Event:   Event{change, TargetType, t.Keyspace, t.Name},
	}
	if _, err := c.Apply(plan.Changes); errors.Is(err, errTypeSize) {
		return Plan{}, tooLargeType()
	} else if err != nil {
		return Plan{}, fmt.Errorf("schema: plan type %s.%s: %w", t.Keyspace, t.Name, err)
	}
	return plan, nil
}

func tooLargeType() *Error {
	return invalid("Types may nest at most %d deep and have at most %d parts, those of the types they use included", typeDepthMax, typePartsMax)
}

func checkFieldType(s *TypeSpec) error {
	if s.native("counter") {
		return invalid("A user type cannot contain counters")
	}
	if s.Kind == TypeUser && !s.Frozen {
		return invalid("A user type cannot contain non-frozen UDTs")
	}
	return nil
}

// AlterType plans ALTER TYPE. Tables and types that use the type follow it. Errors are *Error.
func (c *Catalog) AlterType(s AlterType, _ Env) (Plan, error) {
	if err := guard(s.Keyspace, permAlter, allTablesResource(s.Keyspace)); err != nil {
		return Plan{}, err
	}
	if s.Kind == AlterAddField {
		if err := checkFieldType(&s.Field.Type); err != nil {
			return Plan{}, err
		}
	}
	old, ok := c.Type(s.Keyspace, s.Name)
	if !ok {
		if s.IfExists {
			return Plan{}, nil
		}
		return Plan{}, invalid("Type %s.%s doesn't exist", s.Keyspace, s.Name)
	}
	var t *types.Type
	var err error
	switch s.Kind {
	case AlterAddField:
		t, err = c.addField(&s, old)
	case AlterRenameFields:
		t, err = renameFields(&s, old)
	default:
		err = invalid("Altering field types is no longer supported")
	}
	if err != nil || t.Equal(old) {
		return Plan{}, err
	}
	return c.planType(Updated, t)
}

func (c *Catalog) addField(s *AlterType, old *types.Type) (*types.Type, error) {
	qualified := s.Keyspace + "." + s.Name
	if old.UDTField(s.Field.Name) >= 0 {
		if s.IfFieldAbsent {
			return old, nil
		}
		return nil, invalid("Cannot add field %s to type %s: a field with name %s already exists", s.Field.Name, qualified, s.Field.Name)
	}
	r := typeResolver{keyspace: s.Keyspace, find: c.Type}
	typ, err := r.resolve(s.Field.Type)
	if err != nil {
		return nil, err
	}
	written := s.Field.Type.normalize(false)
	if typ.References(s.Keyspace, s.Name) {
		return nil, invalid("Cannot add new field %s of type %s to user type %s as it would create a circular reference",
			s.Field.Name, written.text(s.Keyspace), qualified)
	}
	var keyed []string
	for _, t := range c.keyspaces[s.Keyspace].Tables() {
		if slices.ContainsFunc(t.PartitionKey, func(c *Column) bool { return c.Type.References(s.Keyspace, s.Name) }) {
			keyed = append(keyed, t.Keyspace+"."+t.Name)
		}
		if !orderable(typ) && slices.ContainsFunc(t.Clustering, func(c *Column) bool { return c.Type.References(s.Keyspace, s.Name) }) {
			return nil, invalid("Cannot add new field %s of type %s to user type %s as the type is being used in a clustering column of %s.%s",
				s.Field.Name, written.text(s.Keyspace), qualified, t.Keyspace, t.Name)
		}
	}
	if len(keyed) > 0 {
		return nil, invalid("Cannot add new field %s of type %s to user type %s as the type is being used in partition key by the following tables: %s",
			s.Field.Name, written.text(s.Keyspace), qualified, strings.Join(keyed, ", "))
	}
	fields := append(slices.Clone(old.Fields), s.Field.Name)
	return types.UDTOf(old.Keyspace, old.Name, fields, append(slices.Clone(old.Elems), typ), false), nil
}

func renameFields(s *AlterType, old *types.Type) (*types.Type, error) {
	fields := slices.Clone(old.Fields)
	for _, r := range s.Renames {
		i := old.UDTField(r.From)
		if i < 0 {
			if s.IfFieldExists {
				continue
			}
			return nil, invalid("Unkown field %s in user type %s.%s", r.From, s.Keyspace, s.Name)
		}
		fields[i] = r.To
	}
	seen := map[string]bool{}
	for _, name := range fields {
		if seen[name] {
			return nil, invalid("Duplicate field name %s in type %s", name, s.Keyspace) // Cassandra names the keyspace
		}
		seen[name] = true
	}
	return types.UDTOf(old.Keyspace, old.Name, fields, old.Elems, false), nil
}

// DropType plans DROP TYPE, which is refused while anything uses the type. Errors are *Error.
func (c *Catalog) DropType(s DropType, _ Env) (Plan, error) {
	if err := guard(s.Keyspace, permDrop, allTablesResource(s.Keyspace)); err != nil {
		return Plan{}, err
	}
	if _, ok := c.Type(s.Keyspace, s.Name); !ok {
		if s.IfExists {
			return Plan{}, nil
		}
		return Plan{}, invalid("Type '%s.%s' doesn't exist", s.Keyspace, s.Name)
	}
	k := c.keyspaces[s.Keyspace]
	var users []string
	for _, t := range k.Types() {
		if t.Name != s.Name && t.References(s.Keyspace, s.Name) {
			users = append(users, t.Name)
		}
	}
	if len(users) > 0 {
		return Plan{}, invalid("Cannot drop user type '%s.%s' as it is still used by user types %s", s.Keyspace, s.Name, strings.Join(users, ", "))
	}
	for _, t := range k.Tables() {
		if slices.ContainsFunc(t.all, func(c *Column) bool { return c.Type.References(s.Keyspace, s.Name) }) {
			users = append(users, t.Name)
		}
	}
	if len(users) > 0 {
		return Plan{}, invalid("Cannot drop user type '%s.%s' as it is still used by tables %s", s.Keyspace, s.Name, strings.Join(users, ", "))
	}
	return Plan{
		Changes: []Change{{Kind: DropTypeChange, Keyspace: s.Keyspace, Name: s.Name}},
		Event:   Event{Dropped, TargetType, s.Keyspace, s.Name},
	}, nil
}
