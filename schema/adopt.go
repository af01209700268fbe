package schema

// Adopt plans what makes this catalog take rows of a table of another one, byte for byte: for the restore of a snapshot. What is
// missing is made as it was, column ids included: the keyspace with its replication, user types, the table with its id. A table that is there must
// have every column of the other under the same id and with the same type, unless it was dropped since. Errors are *Error.
func (c *Catalog) Adopt(from *Catalog, keyspace, name string) (Plan, error) {
	if IsSystemKeyspace(keyspace) {
		return Plan{}, invalid("%s is a system keyspace", keyspace)
	}
	source, ok := from.keyspaces[keyspace]
	if !ok || source.tables[name] == nil {
		return Plan{}, invalid("Table '%s.%s' doesn't exist", keyspace, name)
	}
	var p Plan
	k, ok := c.keyspaces[keyspace]
	if !ok {
		k = &Keyspace{}
		p.Changes = append(p.Changes, Change{Kind: PutKeyspaceChange, Keyspace: keyspace, durableWrites: source.DurableWrites, replication: source.Replication})
	}
	for _, t := range source.typesInOrder() {
		switch have, ok := k.types[t.Name]; {
		case !ok:
			p.Changes = append(p.Changes, Change{Kind: PutTypeChange, Keyspace: keyspace, Name: t.Name, typ: t})
		case !have.Equal(t):
			return Plan{}, invalid("Type %s.%s is not what it was: rename or drop it first", keyspace, t.Name)
		}
	}
	t := source.tables[name]
	if have, ok := k.tables[name]; ok {
		return p, have.takes(t)
	}
	made := *t
	made.Generation = c.NextGeneration
	p.Changes = append(p.Changes, Change{Kind: PutTableChange, Keyspace: keyspace, Name: name, Generation: made.Generation, table: &made})
	p.Event = Event{Created, TargetTable, keyspace, name}
	return p, nil
}

// takes returns why rows of t cannot be written to the table.
func (have *Table) takes(t *Table) error {
	if have.Flags != t.Flags || len(have.PartitionKey) != len(t.PartitionKey) || len(have.Clustering) != len(t.Clustering) {
		return invalid("Table %s.%s is not of the kind it was: rename or drop it first", t.Keyspace, t.Name)
	}
	dropped := map[ColumnID]bool{}
	for _, d := range have.Dropped {
		dropped[d.ID] = true
	}
	for _, col := range t.AllColumns() {
		now := have.byColumnID(col.ID)
		switch {
		case now == nil && (dropped[col.ID] || col.ID < have.NextColumn):
		case now == nil || !now.Type.Equal(col.Type) || now.Kind != col.Kind || now.Position != col.Position || now.Desc != col.Desc || now.Name != col.Name && have.ID != t.ID:
			return invalid("Column %s of %s.%s is not what it was: drop the table first, restore makes it as it was", col.Name, t.Keyspace, t.Name)
		}
	}
	return nil
}

func (have *Table) byColumnID(id ColumnID) *Column {
	for _, c := range have.AllColumns() {
		if c.ID == id {
			return c
		}
	}
	return nil
}
