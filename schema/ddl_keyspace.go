package schema

import (
	"errors"

	"github.com/helenusdb/helenus/ring"
)

// Lengths of names.
const (
	keyspaceNameMax = 48
	tableNameMax    = 222
)

// validName reports whether name consists of letters, digits and underscores.
func validName(name string) bool {
	for i := 0; i < len(name); i++ {
		c := name[i] | 0x20
		if (c < 'a' || c > 'z') && (name[i] < '0' || name[i] > '9') && name[i] != '_' {
			return false
		}
	}
	return name != ""
}

// permission names what a statement wants to do, in the errors about system keyspaces.
type permission string

const (
	permCreate permission = "CREATE"
	permAlter  permission = "ALTER"
	permDrop   permission = "DROP"
)

// guard returns an error when the keyspace comes with the server and may not be changed so. resource is how Cassandra
// calls what is to be changed.
func guard(keyspace string, perm permission, resource string) error {
	switch {
	case !IsSystemKeyspace(keyspace):
		return nil
	case !replicatedSystemKeyspace(keyspace):
		return unauthorized("%s keyspace is not user-modifiable.", keyspace)
	case perm == permAlter && resource == keyspaceResource(keyspace):
		return nil // its replication
	}
	return unauthorized("Cannot %s %s", perm, resource)
}

func keyspaceResource(ks string) string     { return "<keyspace " + ks + ">" }
func allTablesResource(ks string) string    { return "<all tables in " + ks + ">" }
func tableResource(ks, table string) string { return "<table " + ks + "." + table + ">" }

// CreateKeyspace plans CREATE KEYSPACE. Errors are *Error.
func (c *Catalog) CreateKeyspace(s CreateKeyspace, env Env) (Plan, error) {
	if IsSystemKeyspace(s.Name) && !replicatedSystemKeyspace(s.Name) {
		return Plan{}, invalid("System keyspace '%s' is not user-modifiable", s.Name)
	}
	if err := properties(s.Properties).known("replication", "durable_writes"); err != nil {
		return Plan{}, err
	}
	replication := properties(s.Properties).find("replication")
	if replication == nil {
		return Plan{}, invalid("Missing mandatory option 'replication'")
	}
	if _, err := replicationOptions(replication); err != nil { // before whether the keyspace exists, as in Cassandra
		return Plan{}, err
	}
	if _, ok := c.keyspaces[s.Name]; ok {
		if s.IfNotExists {
			return Plan{}, nil
		}
		return Plan{}, &Error{Code: AlreadyExists, Msg: `Cannot add existing keyspace "` + s.Name + `"`, Keyspace: s.Name}
	}
	k := Keyspace{Name: s.Name, DurableWrites: true}
	if err := k.set(s.Properties, env); err != nil {
		return Plan{}, err
	}
	if !validName(s.Name) {
		return Plan{}, invalid("Keyspace name must not be empty and must contain alphanumeric or underscore characters only (got %q)", s.Name)
	}
	if len(s.Name) > keyspaceNameMax {
		return Plan{}, invalid("Keyspace name must not be more than %d characters long (got %d characters for %q)", keyspaceNameMax, len(s.Name), s.Name)
	}
	return Plan{
		Changes:  []Change{k.put()},
		Event:    Event{Created, TargetKeyspace, s.Name, ""},
		Warnings: k.warnings(env),
	}, nil
}

// RepairWarning is Cassandra's of a raised replication factor. Where ranges move there is nothing to warn of: new replicas are sent their rows
// before they are read.
const RepairWarning = "When increasing replication factor you need to run a full (-full) repair to distribute the data."

// AlterKeyspace plans ALTER KEYSPACE. Errors are *Error.
func (c *Catalog) AlterKeyspace(s AlterKeyspace, env Env) (Plan, error) {
	if err := guard(s.Name, permAlter, keyspaceResource(s.Name)); err != nil {
		return Plan{}, err
	}
	if err := properties(s.Properties).known("replication", "durable_writes"); err != nil {
		return Plan{}, err
	}
	old, ok := c.keyspaces[s.Name]
	if !ok {
		if s.IfExists {
			return Plan{}, nil
		}
		return Plan{}, invalid("Keyspace '%s' doesn't exist", s.Name)
	}
	k := Keyspace{Name: s.Name, DurableWrites: old.DurableWrites, Replication: old.Replication, Strategy: old.Strategy}
	if err := k.set(s.Properties, env); err != nil {
		return Plan{}, err
	}
	if k.sameProperties(old) {
		return Plan{}, nil
	}
	if k.Strategy.Factor() == 0 && old.Strategy.Factor() > 0 {
		return Plan{}, config("Replication factor must be positive: with no replica left the rows of keyspace %s would be lost; DROP KEYSPACE if that is meant", s.Name)
	}
	plan := Plan{Changes: []Change{k.put()}, Event: Event{Updated, TargetKeyspace, s.Name, ""}, Warnings: k.warnings(env)}
	if k.Strategy.Factor() > old.Strategy.Factor() {
		plan.Warnings = append(plan.Warnings, RepairWarning)
	}
	return plan, nil
}

// DropKeyspace plans DROP KEYSPACE. Errors are *Error.
func (c *Catalog) DropKeyspace(s DropKeyspace, _ Env) (Plan, error) {
	if err := guard(s.Name, permDrop, keyspaceResource(s.Name)); err != nil {
		return Plan{}, err
	}
	if _, ok := c.keyspaces[s.Name]; !ok {
		if s.IfExists {
			return Plan{}, nil
		}
		return Plan{}, invalid("Keyspace '%s' doesn't exist", s.Name)
	}
	return Plan{
		Changes: []Change{{Kind: DropKeyspaceChange, Keyspace: s.Name}},
		Event:   Event{Dropped, TargetKeyspace, s.Name, ""},
	}, nil
}

// set sets the keyspace's properties; its own are what the statement builds on.
func (k *Keyspace) set(ps properties, env Env) (err error) {
	if p := ps.find("durable_writes"); p != nil {
		if k.DurableWrites, err = p.boolean(); err != nil {
			return err
		}
	}
	p := ps.find("replication")
	if p == nil {
		return nil
	}
	options, err := replicationOptions(p)
	if err != nil {
		return err
	}
	if _, ok := options["class"]; !ok {
		return config("Missing replication strategy class")
	}
	req := ring.StrategyRequest{Keyspace: k.Name, Options: options, DCs: env.KnownDCs, DefaultRF: env.DefaultRF}
	if k.Replication != nil {
		req.Previous = k.Replication.toMap()
	}
	k.Strategy, err = req.Parse()
	var refused *ring.StrategyError
	switch {
	case errors.As(err, &refused) && refused.Invalid:
		return invalid("%s", refused.Text)
	case err != nil:
		return config("%s", err)
	case k.Strategy.IsLocal():
		return invalid("Unable to use given strategy class: LocalStrategy is reserved for internal use.")
	}
	k.Replication = mapOf(k.Strategy.Options())
	return nil
}

func (k *Keyspace) put() Change {
	return Change{Kind: PutKeyspaceChange, Keyspace: k.Name, durableWrites: k.DurableWrites, replication: k.Replication}
}

func (k *Keyspace) warnings(env Env) []string {
	if env.Ring == nil {
		return nil
	}
	return k.Strategy.Warnings(k.Name, env.Ring)
}

// replicationOptions returns the map of a replication property. One that says anything names a class.
func replicationOptions(p *Property) (map[string]string, error) {
	options, err := p.pairs()
	if err != nil {
		return nil, err
	}
	if _, ok := options["class"]; !ok && len(options) > 0 {
		return nil, config("Missing replication strategy class")
	}
	return options, nil
}

// WithStrategy returns the catalog in which the keyspace is replicated by s. Errors: the keyspace does not exist, or is not to be
// altered.
func (c *Catalog) WithStrategy(keyspace string, s ring.Strategy) (*Catalog, error) {
	k, ok := c.keyspaces[keyspace]
	if !ok {
		return nil, invalid("Keyspace '%s' doesn't exist", keyspace)
	}
	return c.Apply([]Change{{Kind: PutKeyspaceChange, Keyspace: k.Name, durableWrites: k.DurableWrites, replication: mapOf(s.Options())}})
}
