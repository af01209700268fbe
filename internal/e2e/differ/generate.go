package differ

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// The clock of random scripts: TTLs run out while they run.
const (
	clockStart = 2_000_000_000
	clockSteps = 40
)

// column is a column of a random table. values are the literals that it is given: few, so that writes meet.
type column struct {
	name   string
	typ    string
	values []string
	elems  []string // of a collection: keys or elements
}

// generator makes random statements about one random table, called $t.
type generator struct {
	rng                *rand.Rand
	create             string
	pk, ck, st, rg     []column
	desc               []bool
	clock              int
	expiringRows       bool // INSERTs have TTLs; all columns are read then: docs/compat.md, unselected-cells
	scalars, multiCell []column
	conditional        bool // writes have conditions, and no timestamps
}

func scalarTypes() []column {
	return []column{
		{typ: "int", values: []string{"0", "1", "2", "-1"}},
		{typ: "text", values: []string{"''", "'a'", "'b'", "'ab'"}},
		{typ: "bigint", values: []string{"0", "1", "-5"}},
		{typ: "boolean", values: []string{"true", "false"}},
		{typ: "blob", values: []string{"0x", "0x00", "0xff", "0x7f"}},
		{typ: "double", values: []string{"0.0", "1.5", "-1.5", "NaN", "Infinity"}},
		{typ: "varint", values: []string{"0", "-1", "128", "-129", "99999999999999999999"}},
		{typ: "timestamp", values: []string{"0", "1000", "-1000"}},
		{typ: "uuid", values: []string{"50554d6e-29bb-11e5-b345-feff819cdc9f", "50554d6e-29bb-41e5-b345-feff819cdc9f", "00000000-0000-0000-0000-000000000000"}},
		{typ: "timeuuid", values: []string{"50554d6e-29bb-11e5-b345-feff819cdc9f", "50554d6e-29bb-11e6-b345-feff819cdc9f", "50554d6e-29bb-11e5-8345-feff819cdc9f"}},
		{typ: "inet", values: []string{"'1.2.3.4'", "'::1'", "'255.0.0.1'"}},
		{typ: "date", values: []string{"'1969-12-31'", "'1970-01-01'", "'2020-02-29'"}},
		{typ: "smallint", values: []string{"0", "1", "-300"}},
		{typ: "frozen<list<int>>", values: []string{"[]", "[1]", "[1, 2]", "[-1]"}},
		{typ: "frozen<set<text>>", values: []string{"{'a'}", "{'a', 'b'}", "{'b'}"}},
		{typ: "frozen<map<int, text>>", values: []string{"{1: 'a'}", "{1: 'b'}", "{2: 'a', 1: ''}"}},
		{typ: "tuple<int, text>", values: []string{"(1, 'a')", "(1, null)", "(null, 'a')", "(0, '')"}},
	}
}

func collectionTypes() []column {
	return []column{
		{typ: "set<int>", values: []string{"{1}", "{1, 2}", "{3}", "{}"}, elems: []string{"1", "2", "3"}},
		{typ: "map<text, int>", values: []string{"{'a': 1}", "{'a': 2, 'b': 1}", "{}"}, elems: []string{"'a'", "'b'", "'c'"}},
		{typ: "list<int>", values: []string{"[1]", "[1, 2]", "[]"}, elems: []string{"0", "1"}},
	}
}

func (g *generator) makeTable() {
	g.scalars, g.multiCell = scalarTypes(), collectionTypes()
	g.expiringRows = g.rng.IntN(2) == 0
	pick := func(n int, prefix string, from []column) (out []column) {
		for i := range n {
			c := from[g.rng.IntN(len(from))]
			c.name = fmt.Sprintf("%s%d", prefix, i)
			out = append(out, c)
		}
		return out
	}
	g.pk = pick(1+g.rng.IntN(2), "p", g.scalars)
	g.ck = pick(g.rng.IntN(4), "c", g.scalars)
	if len(g.ck) > 0 {
		g.st = pick(g.rng.IntN(3), "s", append(g.scalars[:8:8], g.multiCell...))
	}
	g.rg = pick(1+g.rng.IntN(4), "v", append(g.scalars[:8:8], g.multiCell...))
	g.create = "CREATE TABLE $t (" + g.columns() + ", PRIMARY KEY ((" + names(g.pk) + ")" + g.clustering() + "))" + g.order()
}

func (g *generator) columns() string {
	var parts []string
	for _, c := range append(append(append([]column(nil), g.pk...), g.ck...), g.rg...) {
		parts = append(parts, c.name+" "+c.typ)
	}
	for _, c := range g.st {
		parts = append(parts, c.name+" "+c.typ+" static")
	}
	return strings.Join(parts, ", ")
}

func names(cols []column) string {
	list := make([]string, len(cols))
	for i, c := range cols {
		list[i] = c.name
	}
	return strings.Join(list, ", ")
}

func (g *generator) clustering() string {
	if len(g.ck) == 0 {
		return ""
	}
	return ", " + names(g.ck)
}

func (g *generator) order() string {
	g.desc = make([]bool, len(g.ck))
	if len(g.ck) == 0 {
		return ""
	}
	parts := make([]string, len(g.ck))
	for i, c := range g.ck {
		parts[i] = c.name + " ASC"
		if g.desc[i] = g.rng.IntN(2) == 0; g.desc[i] {
			parts[i] = c.name + " DESC"
		}
	}
	return " WITH CLUSTERING ORDER BY (" + strings.Join(parts, ", ") + ")"
}

func (g *generator) one(list ...string) string { return list[g.rng.IntN(len(list))] }

func (g *generator) value(c *column) string { return c.values[g.rng.IntN(len(c.values))] }

// key returns conditions that name one partition. Partition keys are drawn from the first two values.
func (g *generator) partition() string {
	parts := make([]string, len(g.pk))
	for i := range g.pk {
		parts[i] = g.pk[i].name + " = " + g.partitionValue(&g.pk[i])
	}
	return strings.Join(parts, " AND ")
}

// partitionValue is one of two values, none of them empty: an empty key is refused.
func (g *generator) partitionValue(c *column) string {
	n := len(c.values)
	return c.values[max(n-1-g.rng.IntN(2), 0)]
}

// prefix returns conditions that fix the first n clustering columns.
func (g *generator) prefix(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(" AND " + g.ck[i].name + " = " + g.value(&g.ck[i]))
	}
	return b.String()
}

func (g *generator) slice(from int) string {
	if from >= len(g.ck) {
		return ""
	}
	c := &g.ck[from]
	switch g.rng.IntN(5) {
	case 0:
		return " AND " + c.name + " IN (" + g.value(c) + ", " + g.value(c) + ")"
	case 1:
		return " AND " + c.name + " > " + g.value(c) + " AND " + c.name + g.one(" < ", " <= ") + g.value(c)
	case 2:
		if from == 0 && len(g.ck) > 1 {
			op := g.one(">", ">=", "<", "<=")
			return " AND (" + names(g.ck[:2]) + ") " + op + " (" + g.value(&g.ck[0]) + ", " + g.value(&g.ck[1]) + ")"
		}
	}
	return " AND " + c.name + g.one(" > ", " >= ", " < ", " <= ") + g.value(c)
}

// using returns the USING clause; timestamps are few, so that they are often equal.
func (g *generator) using(ttl bool) string {
	if g.conditional {
		if ttl && g.rng.IntN(4) == 0 {
			return fmt.Sprintf(" USING TTL %d", 1+g.rng.IntN(clockSteps/2))
		}
		return ""
	}
	s := fmt.Sprintf(" USING TIMESTAMP %d", 1+g.rng.IntN(6))
	if ttl && g.rng.IntN(4) == 0 {
		s += fmt.Sprintf(" AND TTL %d", 1+g.rng.IntN(clockSteps/2))
	}
	return s
}

func (g *generator) now() string {
	if g.rng.IntN(3) == 0 {
		g.clock++
	}
	return fmt.Sprintf("@now=%d ", clockStart+g.clock)
}

// write returns a random INSERT, UPDATE or DELETE.
func (g *generator) write() string {
	if g.conditional && g.rng.IntN(4) != 0 {
		return g.conditionally()
	}
	switch g.rng.IntN(8) {
	case 0, 1, 2:
		return g.now() + g.insert()
	case 3, 4, 5:
		return g.now() + g.update()
	}
	return g.now() + g.delete()
}

func (g *generator) insert() string {
	var cols, vals []string
	add := func(list []column, value func(*column) string, always bool) {
		for i := range list {
			if always || g.rng.IntN(2) == 0 {
				cols, vals = append(cols, list[i].name), append(vals, value(&list[i]))
			}
		}
	}
	add(g.pk, g.partitionValue, true)
	nullable := func(c *column) string {
		if g.rng.IntN(6) == 0 {
			return "null"
		}
		return g.value(c)
	}
	if len(g.st) > 0 && g.rng.IntN(5) == 0 {
		add(g.st, nullable, true)
	} else {
		add(g.ck, g.value, true)
		add(g.st, nullable, false)
		add(g.rg, nullable, false)
	}
	return "INSERT INTO $t (" + strings.Join(cols, ", ") + ") VALUES (" + strings.Join(vals, ", ") + ")" + g.using(g.expiringRows)
}

func (g *generator) update() string {
	if len(g.st) > 0 && g.rng.IntN(4) == 0 {
		return "UPDATE $t" + g.using(true) + " SET " + g.assignment(&g.st[g.rng.IntN(len(g.st))]) + " WHERE " + g.partition()
	}
	set := g.assignment(&g.rg[0])
	for i := range g.rg[1:] {
		if g.rng.IntN(2) == 0 {
			set += ", " + g.assignment(&g.rg[i+1])
		}
	}
	return "UPDATE $t" + g.using(true) + " SET " + set + " WHERE " + g.partition() + g.prefix(len(g.ck))
}

func (g *generator) assignment(c *column) string {
	v := g.value(c)
	if c.elems != nil {
		e := g.one(c.elems...)
		switch kind := g.rng.IntN(5); {
		case kind == 0:
			return c.name + " = " + c.name + " + " + v
		case kind == 1 && strings.HasPrefix(c.typ, "map"):
			return c.name + "[" + e + "] = " + g.one("1", "2", "null")
		case kind == 1:
			return c.name + " = " + c.name + " - " + v
		case kind == 2 && strings.HasPrefix(c.typ, "list"):
			return c.name + " = " + v + " + " + c.name
		}
	}
	if g.rng.IntN(5) == 0 {
		v = "null"
	}
	return c.name + " = " + v
}

func (g *generator) delete() string {
	where := g.partition()
	switch g.rng.IntN(6) {
	case 0:
		return "DELETE FROM $t" + g.using(false) + " WHERE " + where
	case 1, 2:
		n := 0
		if len(g.ck) > 0 {
			n = g.rng.IntN(len(g.ck))
		}
		return "DELETE FROM $t" + g.using(false) + " WHERE " + where + g.prefix(n) + g.slice(n)
	case 3:
		return "DELETE FROM $t" + g.using(false) + " WHERE " + where + g.prefix(g.rng.IntN(len(g.ck)+1))
	case 4:
		if len(g.st) > 0 {
			return "DELETE " + g.deletion(&g.st[g.rng.IntN(len(g.st))]) + " FROM $t" + g.using(false) + " WHERE " + where
		}
	}
	return "DELETE " + g.deletion(&g.rg[g.rng.IntN(len(g.rg))]) + " FROM $t" + g.using(false) + " WHERE " + where + g.prefix(len(g.ck))
}

func (g *generator) deletion(c *column) string {
	if c.elems != nil && !strings.HasPrefix(c.typ, "list") && g.rng.IntN(2) == 0 {
		return c.name + "[" + g.one(c.elems...) + "]"
	}
	return c.name
}

// read returns a random SELECT.
func (g *generator) read() string {
	head := g.now() + g.one("", "", "@page=1 ", "@page=2 ", "@page=3 ", "@page=1,2,5 ")
	what, group := g.selection()
	where, in, order := g.condition()
	if group && len(g.ck) == 0 {
		head = g.now() // Cassandra cannot page groups there: docs/compat.md, paged-groups
	}
	text := head + "SELECT " + what + " FROM $t" + where
	if group {
		text += " GROUP BY " + names(g.pk)
		if len(g.ck) > 0 && g.rng.IntN(2) == 0 {
			text += ", " + names(g.ck[:1+g.rng.IntN(len(g.ck))])
		}
	}
	if order && !group && !in && len(g.ck) > 0 && g.rng.IntN(3) == 0 {
		text += " ORDER BY " + g.ck[0].name + g.one(" ASC", " DESC")
	}
	if g.rng.IntN(4) == 0 && !strings.Contains(what, "DISTINCT") {
		text += fmt.Sprintf(" PER PARTITION LIMIT %d", 1+g.rng.IntN(3))
	}
	if g.rng.IntN(4) == 0 {
		text += fmt.Sprintf(" LIMIT %d", 1+g.rng.IntN(5))
	}
	return text + " ALLOW FILTERING"
}

// selection returns what is selected, and whether it is grouped.
func (g *generator) selection() (what string, group bool) {
	v := g.rg[g.rng.IntN(len(g.rg))]
	if g.expiringRows || g.conditional {
		return "*", false
	}
	switch g.rng.IntN(9) {
	case 0:
		return names(g.pk) + ", " + v.name, false
	case 1:
		if v.elems == nil {
			return "writetime(" + v.name + "), ttl(" + v.name + "), " + v.name, false
		}
		return "writetime(" + v.name + "), ttl(" + v.name + "), maxwritetime(" + v.name + ")", false
	case 2:
		return names(g.pk) + ", count(*), count(" + v.name + ")", true
	case 3:
		if len(g.st) > 0 {
			return "DISTINCT " + names(g.pk) + ", " + names(g.st), false
		}
		return "DISTINCT " + names(g.pk), false
	case 4:
		return names(append(g.pk[:len(g.pk):len(g.pk)], g.ck...)), false
	}
	return "*", false
}

// condition returns a WHERE clause, whether it names several partitions, and whether rows can be ordered.
func (g *generator) condition() (where string, in, order bool) {
	switch g.rng.IntN(6) {
	case 0:
		return "", false, false
	case 1:
		c := &g.pk[len(g.pk)-1]
		where = " WHERE " + c.name + " IN (" + g.partitionValue(c) + ", " + g.partitionValue(c) + ")"
		for i := range g.pk[:len(g.pk)-1] {
			where += " AND " + g.pk[i].name + " = " + g.partitionValue(&g.pk[i])
		}
		return where, true, false
	case 2:
		c := append(append(append([]column(nil), g.ck...), g.rg...), g.st...)
		col := &c[g.rng.IntN(len(c))]
		if col.elems == nil {
			return " WHERE " + col.name + g.one(" = ", " > ", " <= ") + g.value(col), false, false
		}
		if !strings.HasPrefix(col.typ, "map") {
			return " WHERE " + col.name + " CONTAINS " + g.one(col.elems...), false, false
		}
		return " WHERE " + col.name + " CONTAINS KEY " + g.one(col.elems...), false, false
	}
	where = " WHERE " + g.partition()
	if len(g.ck) > 0 && g.rng.IntN(2) == 0 {
		n := g.rng.IntN(len(g.ck))
		where += g.prefix(n) + g.slice(n)
	}
	return where, false, true
}
