package differ

import "strings"

// conditionally returns a random write of a conditional script: with an IF clause, or a batch of one partition in which one
// write at least has one. In such a script no write has a timestamp of its own: those of conditional writes are the
// servers'.
func (g *generator) conditionally() string {
	if g.rng.IntN(4) != 0 {
		return g.now() + g.guarded(g.partition())
	}
	where := g.partition()
	parts := []string{g.guarded(where)}
	for range g.rng.IntN(3) {
		parts = append(parts, g.guarded(where))
	}
	if g.rng.IntN(2) == 0 {
		parts = append(parts, g.unguarded(where))
	}
	g.rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return g.now() + "BEGIN " + g.one("", "UNLOGGED ") + "BATCH " + strings.Join(parts, "; ") + "; APPLY BATCH"
}

// guarded returns a write with conditions to one row of a partition. Static columns are written beside it only: what stands
// for a partition without an inserted row is another thing in Cassandra (docs/compat.md).
func (g *generator) guarded(where string) string {
	switch g.rng.IntN(4) {
	case 0:
		return g.insertInto(where) + " IF NOT EXISTS" + g.using(g.expiringRows)
	case 1:
		what := ""
		if g.rng.IntN(2) == 0 {
			what = g.deletion(&g.rg[g.rng.IntN(len(g.rg))]) + " "
		}
		return "DELETE " + what + "FROM $t WHERE " + where + g.prefix(len(g.ck)) + g.ifClause()
	}
	return "UPDATE $t" + g.using(true) + " SET " + g.assignments() + " WHERE " + where + g.prefix(len(g.ck)) + g.ifClause()
}

// unguarded returns a write without conditions to a partition.
func (g *generator) unguarded(where string) string {
	switch g.rng.IntN(4) {
	case 0:
		return g.insertInto(where) + g.using(g.expiringRows)
	case 1:
		if len(g.st) > 0 {
			return "UPDATE $t" + g.using(true) + " SET " + g.plainAssignment(&g.st[g.rng.IntN(len(g.st))]) + " WHERE " + where
		}
	case 2:
		n := g.rng.IntN(len(g.ck) + 1)
		return "DELETE FROM $t WHERE " + where + g.prefix(n)
	}
	return "UPDATE $t" + g.using(true) + " SET " + g.plainAssignment(&g.rg[g.rng.IntN(len(g.rg))]) + " WHERE " + where + g.prefix(len(g.ck))
}

// insertInto returns an INSERT into the partition that where names.
func (g *generator) insertInto(where string) string {
	var cols, vals []string
	for _, p := range strings.Split(where, " AND ") {
		name, value, _ := strings.Cut(p, " = ")
		cols, vals = append(cols, name), append(vals, value)
	}
	for i := range g.ck {
		cols, vals = append(cols, g.ck[i].name), append(vals, g.value(&g.ck[i]))
	}
	for _, list := range [2][]column{g.st, g.rg} {
		for i := range list {
			if g.rng.IntN(2) == 0 {
				cols, vals = append(cols, list[i].name), append(vals, g.value(&list[i]))
			}
		}
	}
	return "INSERT INTO $t (" + strings.Join(cols, ", ") + ") VALUES (" + strings.Join(vals, ", ") + ")"
}

// assignments sets a regular column, and perhaps a static one.
func (g *generator) assignments() string {
	set := g.assignment(&g.rg[g.rng.IntN(len(g.rg))])
	if len(g.st) > 0 && g.rng.IntN(3) == 0 {
		set += ", " + g.assignment(&g.st[g.rng.IntN(len(g.st))])
	}
	return set
}

// plainAssignment is an assignment that reads nothing first: docs/compat.md, batch-lists.
func (g *generator) plainAssignment(c *column) string {
	for {
		if a := g.assignment(c); !strings.HasPrefix(c.typ, "list") || !strings.Contains(a, c.name+" - ") {
			return a
		}
	}
}

// ifClause returns IF EXISTS or some conditions.
func (g *generator) ifClause() string {
	if g.rng.IntN(4) == 0 {
		return " IF EXISTS"
	}
	cols := append(append([]column(nil), g.rg...), g.st...)
	s := " IF " + g.ifCondition(&cols[g.rng.IntN(len(cols))])
	for range g.rng.IntN(3) {
		s += " AND " + g.ifCondition(&cols[g.rng.IntN(len(cols))])
	}
	return s
}

func (g *generator) ifCondition(c *column) string {
	if g.rng.IntN(3) == 0 {
		return c.name + g.one(" = null", " != null")
	}
	switch kind := g.rng.IntN(6); {
	case kind == 0:
		return c.name + " IN (" + g.value(c) + ", " + g.one(g.value(c), "null") + ")"
	case c.elems != nil && kind == 1 && strings.HasPrefix(c.typ, "map"):
		return c.name + g.one(" CONTAINS KEY ") + g.one(c.elems...)
	case c.elems != nil && kind == 1:
		return c.name + " CONTAINS " + g.one("1", "2", "3")
	case c.elems != nil && kind == 2 && !strings.HasPrefix(c.typ, "set"):
		return c.name + "[" + g.one(c.elems...) + "]" + g.one(" = 1", " != 2", " < 2", " >= 1", " = null")
	case c.elems != nil:
		return c.name + g.one(" = ", " != ") + g.value(c)
	}
	return c.name + g.one(" = ", " = ", " != ", " < ", " <= ", " > ", " >= ") + g.value(c)
}
