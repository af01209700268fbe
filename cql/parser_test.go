package cql

import (
	"reflect"
	"strings"
	"testing"
)

// mustParse parses text with all positions removed, so that trees can be compared.
func mustParse(t *testing.T, text string) Statement {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	s.setMarkers(nil)
	clearPos(reflect.ValueOf(s))
	return s
}

// clearPos sets every Pos below v to zero.
func clearPos(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			clearPos(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			clearPos(v.Index(i))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[Pos]() {
			v.SetZero()
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				clearPos(v.Field(i))
			}
		}
	}
}

func id(name string) Ident              { return Ident{Name: name} }
func name(n string) QualifiedName       { return QualifiedName{Name: id(n)} }
func col(n string) *ColumnRef           { return &ColumnRef{id(n)} }
func num(s string) *Literal             { return &Literal{Class: IntegerLiteral, Text: s} }
func text(s string) *Literal            { return &Literal{Class: StringLiteral, Text: s} }
func native(n string) *TypeRef          { return &TypeRef{Name: n} }
func ksName(ks, n string) QualifiedName { return QualifiedName{id(ks), id(n)} }

// TestMarkersHaveASlotEach: each occurrence of a marker has its own slot, in the order of the text.
func TestMarkersHaveASlotEach(t *testing.T) {
	for stmt, want := range map[string][]Marker{
		`SELECT json FROM ks.t WHERE a = :x AND b IN ? AND c IN (:x, :"Y") AND (d, e) > ? AND (d, e) IN (?, ?) LIMIT :n;;`: {
			{Name: "x"}, {In: true}, {Name: "x"}, {Name: "Y"}, {}, {}, {}, {Name: "n"}},
		"INSERT INTO t JSON :J USING TTL ? AND TIMESTAMP ?":                                  {{Name: "j", JSON: true}, {}, {}},
		"BEGIN BATCH USING TIMESTAMP ? UPDATE t SET a = ? WHERE k = ? IF b IN ? APPLY BATCH": {{}, {}, {}, {In: true}},
		"SELECT JSON, a[?] FROM t WHERE m[?] = ?":                                            {{}, {}, {}},
		"SELECT json a[?], b FROM t":                                                         {{}},
	} {
		s, err := Parse(stmt)
		if err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
		got := s.Markers()
		if len(got) != len(want) {
			t.Fatalf("%s: %d markers, want %d", stmt, len(got), len(want))
		}
		for i, m := range got {
			want[i].Index, want[i].Pos = i, m.Pos
			if m != want[i] {
				t.Errorf("%s: marker %d: %+v, want %+v", stmt, i, m, want[i])
			}
		}
	}
}

// TestTrees: statements give the trees that planners rely on, where the form leaves a doubt.
func TestTrees(t *testing.T) {
	for stmt, want := range map[string]Statement{
		`SELECT JSON DISTINCT A AS "X", cast(b AS text) FROM Ks.T PER PARTITION LIMIT 1 LIMIT ? ALLOW FILTERING`: &Select{
			Table: ksName("ks", "t"), JSON: true, Distinct: true, PerPartitionLimit: num("1"), Limit: &Marker{}, AllowFiltering: true,
			Selectors: []Selector{{col("a"), Ident{Name: "X", Quoted: true}}, {&Cast{Arg: col("b"), Type: native("text")}, Ident{}}}},
		"SELECT json FROM t": &Select{Table: name("t"), Selectors: []Selector{{Expr: col("json")}}},
		"SELECT a.b, f.g(a), m[1..][2] FROM t": &Select{Table: name("t"), Selectors: []Selector{
			{Expr: &FieldRef{col("a"), id("b")}},
			{Expr: &FuncCall{Name: ksName("f", "g"), Args: []Term{col("a")}}},
			{Expr: &ElementRef{&SliceRef{Receiver: col("m"), From: num("1")}, num("2")}}}},
		"SELECT a - b * -c, (a), (int)a, {a: 1}, {a}, count(*), writetime(m[1]) FROM t": &Select{Table: name("t"), Selectors: []Selector{
			{Expr: &BinaryOp{Op: '-', Left: col("a"), Right: &BinaryOp{Op: '*', Left: col("b"), Right: &Negate{Arg: col("c")}}}},
			{Expr: &TupleLit{Elems: []Term{col("a")}}},
			{Expr: &TypeHint{Type: native("int"), Arg: col("a")}},
			{Expr: &MapLit{Entries: []MapEntry{{col("a"), num("1")}}}},
			{Expr: &SetLit{Elems: []Term{col("a")}}},
			{Expr: &CountRows{}},
			{Expr: &MetaCall{Kind: Writetime, Arg: &ElementRef{col("m"), num("1")}}}}},
		"SELECT * FROM t WHERE a = 1 AND m['x'] < 2 AND token(a, b) >= 3 AND (c, d) IN ((1, 2)) AND e IN () AND f IS NOT NULL AND g CONTAINS KEY 'k' AND expr(i, 'q')": &Select{
			Table: name("t"), Where: []Relation{
				{Column: id("a"), Op: Eq, Value: num("1")},
				{Kind: ElementRelation, Column: id("m"), Key: text("x"), Op: Lt, Value: num("2")},
				{Kind: TokenRelation, Columns: []Ident{id("a"), id("b")}, Op: Gte, Value: num("3")},
				{Kind: TupleRelation, Columns: []Ident{id("c"), id("d")}, Op: In, Values: []Term{&TupleLit{Elems: []Term{num("1"), num("2")}}}},
				{Column: id("e"), Op: In, Values: []Term{}},
				{Column: id("f"), Op: IsNotNull, Value: &Null{}},
				{Column: id("g"), Op: ContainsKey, Value: text("k")},
				{Kind: CustomIndexExpr, Index: id("i"), Value: text("q")}}},
		"SELECT * FROM t GROUP BY a, floor(b, 1h) ORDER BY c DESC, v ANN OF [1, 2]": &Select{Table: name("t"),
			GroupBy: []Term{col("a"), &FuncCall{Name: name("floor"), Args: []Term{col("b"), &Literal{Class: DurationLiteral, Text: "1h"}}}},
			OrderBy: []Ordering{{Column: id("c"), Desc: true}, {Column: id("v"), ANN: &ListLit{Elems: []Term{num("1"), num("2")}}}}},
		"INSERT INTO t (a, b) VALUES ({x: 1}, {'x': 1}) IF NOT EXISTS USING TTL 5": &Insert{Table: name("t"), Columns: []Ident{id("a"), id("b")},
			Values: []Term{&UDTLit{Fields: []UDTField{{id("x"), num("1")}}}, &MapLit{Entries: []MapEntry{{text("x"), num("1")}}}}, IfNotExists: true,
			Using: Using{TTL: num("5")}},
		"INSERT INTO t JSON '{}' DEFAULT UNSET": &Insert{Table: name("t"), JSON: text("{}"), DefaultUnset: true},
		"UPDATE t SET a = 1, b = b + 2, c = c - 3, d = 4 + d, e -= 5, f = f -6, g[7] = 8, h.i = 9 WHERE k = $$it's$$ IF m['a'] IN (1) AND u.f != null": &Update{
			Table: name("t"), Set: []Assignment{
				{Column: id("a"), Value: num("1")},
				{Column: id("b"), Kind: AssignAdd, Value: num("2")},
				{Column: id("c"), Kind: AssignSubtract, Value: num("3")},
				{Column: id("d"), Kind: AssignPrepend, Value: num("4")},
				{Column: id("e"), Kind: AssignSubtract, Value: num("5")},
				{Column: id("f"), Kind: AssignAdd, Value: num("-6")},
				{Column: id("g"), Kind: AssignElement, Key: num("7"), Value: num("8")},
				{Column: id("h"), Kind: AssignField, Field: id("i"), Value: num("9")}},
			Where: []Relation{{Column: id("k"), Value: text("it's")}},
			Conditions: []Condition{{Column: id("m"), Key: text("a"), Op: In, Values: []Term{num("1")}},
				{Column: id("u"), Field: id("f"), Op: Neq, Value: &Null{}}}},
		"DELETE a, b[1], c.d FROM t USING TIMESTAMP 5 WHERE k = 'it''s' IF EXISTS": &Delete{Table: name("t"),
			Columns: []Deletion{{Column: id("a")}, {Column: id("b"), Key: num("1")}, {Column: id("c"), Field: id("d")}},
			Using:   Using{Timestamp: num("5")}, Where: []Relation{{Column: id("k"), Value: text("it's")}}, IfExists: true},
		"BEGIN COUNTER BATCH DELETE FROM t WHERE k = 1; APPLY BATCH;": &Batch{Type: CounterBatch, Statements: []Statement{
			&Delete{Table: name("t"), Where: []Relation{{Column: id("k"), Value: num("1")}}}}},
		"CREATE TABLE t (k int PRIMARY KEY, v frozen<ks.u> STATIC MASKED WITH DEFAULT, w vector<float, 3>) WITH COMPACT STORAGE AND cdc = TRUE AND x = {'a': 1}": &CreateTable{
			Name: name("t"), CompactStorage: true, PartitionKey: []Ident{id("k")},
			Columns: []ColumnDef{{Name: id("k"), Type: native("int")},
				{Name: id("v"), Type: &TypeRef{Kind: TypeUser, Frozen: true, UserType: ksName("ks", "u")}, Static: true, Mask: &Mask{Func: ksName("system", "mask_default")}},
				{Name: id("w"), Type: &TypeRef{Kind: TypeVector, Elems: []*TypeRef{native("float")}, Dim: 3}}},
			Properties: []Property{{Name: "cdc", Value: "TRUE"}, {Name: "x", IsMap: true, Map: []PropertyEntry{{"a", "1"}}}}},
		"CREATE TABLE t (a int, b int, c int, PRIMARY KEY ((a, b), c)) WITH CLUSTERING ORDER BY (c DESC)": &CreateTable{Name: name("t"),
			Columns:      []ColumnDef{{Name: id("a"), Type: native("int")}, {Name: id("b"), Type: native("int")}, {Name: id("c"), Type: native("int")}},
			PartitionKey: []Ident{id("a"), id("b")}, Clustering: []Ident{id("c")}, Order: []ClusteringOrder{{id("c"), true}}},
		"ALTER TABLE t ADD IF NOT EXISTS (a text, b list<int>)": &AlterTable{Name: name("t"), Kind: AlterAdd, IfColumnAbsent: true, Add: []ColumnDef{
			{Name: id("a"), Type: native("text")}, {Name: id("b"), Type: &TypeRef{Kind: TypeList, Elems: []*TypeRef{native("int")}}}}},
		"ALTER TABLE t DROP compact":         &AlterTable{Name: name("t"), Kind: AlterDrop, Drop: []Ident{id("compact")}},
		"ALTER TABLE t DROP COMPACT STORAGE": &AlterTable{Name: name("t"), Kind: AlterDropCompact},
		"CREATE CUSTOM INDEX ON t (values(m), keys) USING 'sai'": &CreateIndex{Table: name("t"), Custom: true, Using: "sai", HasUsing: true,
			Targets: []IndexTarget{{IndexValues, id("m")}, {IndexSimple, id("keys")}}},
		"DROP FUNCTION ks.f ()":        &DropFunction{Name: ksName("ks", "f"), HasArgs: true, Args: []*TypeRef{}},
		"DESC KEYSPACE WITH INTERNALS": &Describe{What: DescribeKeyspace, Internals: true},
		"DESCRIBE only":                &Describe{What: DescribeAny, Name: name("only")},
		"DESCRIBE Ks.\"T\"":            &Describe{What: DescribeAny, Name: QualifiedName{id("ks"), Ident{Name: "T", Quoted: true}}},
		"GRANT ALL ON t TO Foo":        &Grant{Permissions: []Permission{PermAlter, PermDrop, PermSelect, PermModify, PermAuthorize, PermUnmask, PermSelectMasked}, Resource: Resource{Kind: TableResource, Table: name("t")}, Grantee: "foo"},
		"GRANT all TO 'Foo'":           &GrantRole{Role: "all", Grantee: "Foo"},
		"LIST ROLES OF a NORECURSIVE":  &ListRoles{Of: "a"},
	} {
		if got := mustParse(t, stmt); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %s\nwant %s", stmt, dump(got), dump(want))
		}
	}
}

// TestRoleOptions: what was not given is nil.
func TestRoleOptions(t *testing.T) {
	s := mustParse(t, "CREATE ROLE R WITH PASSWORD = 'p' AND LOGIN = TRUE AND OPTIONS = {'a': 'b'} AND ACCESS TO DATACENTERS {'d'} AND ACCESS FROM ALL CIDRS").(*CreateRole)
	o := s.Options
	if s.Name != "r" || *o.Password != "p" || !*o.Login || o.Superuser != nil || o.HashedPassword != nil || !o.HasOptions ||
		o.Options[0] != (PropertyEntry{"a", "b"}) || o.Datacenters[0] != "d" || o.AllDatacenters || !o.AllCIDRs {
		t.Errorf("%+v", o)
	}
	u := mustParse(t, "CREATE USER Foo WITH HASHED PASSWORD 'h'").(*CreateRole)
	if u.Name != "Foo" || !u.User || !*u.Options.Login || *u.Options.Superuser || *u.Options.HashedPassword != "h" {
		t.Errorf("%+v", u)
	}
}

// TestPositions: lines count from 1, columns from 0 in UTF-16 units.
func TestPositions(t *testing.T) {
	s, err := Parse("SELECT a\n  , '漢😀', \"é\" FROM t WHERE b = 1")
	if err != nil {
		t.Fatal(err)
	}
	sel := s.(*Select)
	for i, want := range []Pos{{1, 7}, {2, 4}, {2, 11}} {
		if got := sel.Selectors[i].Expr.Position(); got != want {
			t.Errorf("selector %d at %v, want %v", i, got, want)
		}
	}
	if got := sel.Where[0].Value.Position(); got != (Pos{2, 32}) {
		t.Errorf("value at %v", got)
	}
}

// TestFullyQualified holds what Cassandra 5.0.8 does to prepared ids (measured).
func TestFullyQualified(t *testing.T) {
	for stmt, want := range map[string]bool{
		"SELECT * FROM ks.t":               true,
		"SELECT * FROM t":                  false,
		"SELECT (u){a: 1}, f(b) FROM ks.t": true,
		"INSERT INTO ks.t JSON ?":          true,
		"UPDATE t SET a = 1 WHERE k = 1":   false,
		"DELETE FROM ks.t WHERE k = 1":     true,
		"TRUNCATE ks.t":                    true,
		"TRUNCATE t":                       false,
		"BEGIN BATCH APPLY BATCH":          true,
		"BEGIN BATCH DELETE FROM ks.t WHERE k = 1 DELETE FROM t WHERE k = 1 APPLY BATCH": false,
		"CREATE TABLE ks.t (k int PRIMARY KEY)":                                          false,
		"DROP KEYSPACE ks":                                                               false,
		"DESCRIBE TABLE ks.t":                                                            false,
		"USE ks":                                                                         false,
	} {
		s, err := Parse(stmt)
		if err != nil {
			t.Fatal(err)
		}
		if got := FullyQualified(s); got != want {
			t.Errorf("%s: %v", stmt, got)
		}
	}
}

// TestTableNames: each statement names what it is about.
func TestTableNames(t *testing.T) {
	for stmt, want := range map[string]string{
		"BEGIN BATCH DELETE FROM ks.t WHERE k = 1 DELETE FROM u WHERE k = 1 APPLY BATCH": "ks.t u",
		"CREATE MATERIALIZED VIEW a.v AS SELECT * FROM b.t PRIMARY KEY (k)":              "a.v b.t",
		"GRANT EXECUTE ON FUNCTION ks.f(int) TO r":                                       "ks.f",
		"CREATE TRIGGER x ON ks.t USING 'c'":                                             "ks.t",
		"CREATE KEYSPACE ks WITH replication = {}":                                       "",
		"ALTER TYPE u ADD a int":                                                         "u",
	} {
		s, err := Parse(stmt)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		TableNames(s, func(n QualifiedName) { got = append(got, n.String()) })
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", stmt, got, want)
		}
	}
}
