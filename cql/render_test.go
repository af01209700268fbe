package cql

import (
	"encoding/json"
	"strings"
	"testing"
)

// dump shows a tree in an error message.
func dump(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestColumnName holds the names that Cassandra 5.0.8 gives to columns of results (measured).
func TestColumnName(t *testing.T) {
	for expr, want := range map[string]string{
		"now()":                            "system.now()",
		"system.NOW()":                     "system.now()",
		"token(k)":                         "system.token(k)",
		"COUNT(*)":                         "count",
		"max(v)":                           "system.max(v)",
		"TTL(v)":                           "ttl(v)",
		"maxwritetime(v)":                  "maxwritetime(v)",
		"writetime(m['a'..'b'])":           "writetime(m['a'..'b'])",
		"writetime(ud.a)":                  "writetime(ud.a)",
		"cast(v as TEXT)":                  "cast(v as text)",
		"(int)1":                           "(int)1",
		"v+b*2":                            "v + b * 2",
		"(v+b)*2":                          "(v + b) * 2",
		"- v":                              "-v",
		"m['a'..]":                         "m['a'..]",
		"m[..'b']":                         "m[..'b']",
		`ud."B"`:                           "ud.B",
		`"Q x"`:                            "Q x",
		"(vector<float,2>)[1,2]":           "(vector<float, 2>)[1, 2]",
		"(map<text,int>){'a':v}":           "(map<text, int>){'a': v}",
		"(pqk.u){a:1}":                     "(pqk.u){a: 1}",
		"(tuple<int,text>)(v,'a')":         "(tuple<int, text>)(v, 'a')",
		"(int)null":                        "(int)NULL",
		"(double)-Infinity":                "(double)-Infinity",
		"(boolean)TRUE":                    "(boolean)TRUE",
		"to_timestamp(now()) + 1h":         "system.to_timestamp(system.now()) + 1h",
		"to_date((timestamp)'2020-01-01')": "system.to_date((timestamp)'2020-01-01')",
		"similarity_cosine(vec, [1,2])":    "system.similarity_cosine(vec, [1, 2])",
		"(list<frozen<pqk.u>>)[{a:1}]":     "(list<frozen<pqk.u>>)[{a: 1}]",
	} {
		s, err := Parse("SELECT " + expr + " FROM t")
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		if got := ColumnName(s.(*Select).Selectors[0].Expr, Namer{}); got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

// TestColumnNameAsksTheCatalog: names of functions and of types in hints can be those that the catalog resolved.
func TestColumnNameAsksTheCatalog(t *testing.T) {
	s, err := Parse("SELECT f((u){a: 1}) FROM t")
	if err != nil {
		t.Fatal(err)
	}
	n := Namer{Function: func(f *FuncCall) string { return "ks." + f.Name.Name.Name }, Type: func(r *TypeRef) string { return "ks." + r.String() }}
	if got := ColumnName(s.(*Select).Selectors[0].Expr, n); got != "ks.f((ks.u){a: 1})" {
		t.Error(got)
	}
}

// TestFormatRelation: relations are shown as in "Unsupported restriction: k IS NOT NULL".
func TestFormatRelation(t *testing.T) {
	for where, want := range map[string]string{
		"k IS NOT NULL":               "k IS NOT NULL",
		"K!=1":                        "k != 1",
		`"K" LIKE 'a'`:                `"K" LIKE 'a'`,
		"k IN (1,'a')":                "k IN (1, 'a')",
		"k IN ?":                      "k IN ?",
		"m[1]=:x":                     "m[1] = ?",
		"token(a,b)>f(1)":             "token(a, b) > f(1)",
		"(a,b) IN ((1,2),(3,4))":      "(a, b) IN ((1, 2), (3, 4))",
		"k CONTAINS KEY {x:1}":        "k CONTAINS KEY {x: 1}",
		"k = 1+-f() % cast(2 as int)": `k = system."_add"(1, system."_modulo"(system."_negate"(f()), system.cast_as_int(2)))`,
		"expr(i, 'x')":                "expr(i, 'x')",
	} {
		s, err := Parse("SELECT * FROM t WHERE " + where)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if got := FormatRelation(&s.(*Select).Where[0]); got != want {
			t.Errorf("%s: %q, want %q", where, got, want)
		}
	}
}

// TestTypeText: the text of a type parses to the same type.
func TestTypeText(t *testing.T) {
	for _, typ := range []string{"int", "varchar", "list<text>", "frozen<map<text, frozen<set<int>>>>", "tuple<int, text>", "vector<float, 3>",
		"ks.u", `frozen<"Ks"."U x">`, "'org.apache.cassandra.db.marshal.It''s'", "map<int, tuple<u, list<uuid>>>", `"select"`} {
		s, err := Parse("CREATE TYPE x (a " + typ + ")")
		if err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		if got := s.(*CreateType).Fields[0].Type.String(); got != typ {
			t.Errorf("%s: %s", typ, got)
		}
	}
}

// TestEveryWordThatIsNotReservedNamesAColumn: the reserved words and the grammar agree.
func TestEveryWordThatIsNotReservedNamesAColumn(t *testing.T) {
	for k := firstBasic; k < kindCount; k++ {
		word := strings.ToLower(strings.TrimPrefix(k.name(), "K_"))
		switch k {
		case kNegativeNan, kNegativeInfinity:
			continue
		case kPositiveNan:
			word = "nan"
		case kPositiveInfinity:
			word = "infinity"
		}
		_, err := Parse("SELECT " + word + " FROM t")
		if (err != nil) != IsReserved(word) && k != kPositiveNan && k != kPositiveInfinity && k != kNull {
			t.Errorf("%s: reserved %v, %v", word, IsReserved(word), err)
		}
		if _, err := Parse("CREATE TABLE " + word + " (k int PRIMARY KEY)"); (err != nil) != IsReserved(word) {
			t.Errorf("table %s: reserved %v, %v", word, IsReserved(word), err)
		}
		if _, err := Parse("CREATE TABLE " + QuoteIdent(word) + " (k int PRIMARY KEY)"); err != nil {
			t.Errorf("table %s: %v", QuoteIdent(word), err)
		}
	}
}
