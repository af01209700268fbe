package cqlident

import "testing"

// TestQuoteIdent holds what DESCRIBE of Cassandra 5.0.8 shows (measured with a table that has a column of each name).
func TestQuoteIdent(t *testing.T) {
	for name, want := range map[string]string{
		"foo": "foo", "a_1": "a_1", "ttl": "ttl", "key": "key", "json": "json", "int": "int", "default": "default", "unset": "unset",
		"mbean": "mbean", "replace": "replace", "masked": "masked", "vector": "vector", "constraint": "constraint", "check": "check",
		"between": "between", "true": "true", "like": "like", "as": "as",
		"Foo": `"Foo"`, "_a": `"_a"`, "1a": `"1a"`, "": `""`, "a b": `"a b"`, `a"b`: `"a""b"`, "é": `"é"`,
		"select": `"select"`, "token": `"token"`, "is": `"is"`, "nan": `"nan"`, "infinity": `"infinity"`, "entries": `"entries"`,
		"full": `"full"`, "set": `"set"`, "materialized": `"materialized"`, "columnfamily": `"columnfamily"`, "unlogged": `"unlogged"`,
	} {
		if got := QuoteIdent(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

// TestIsReservedIgnoresCase: SELECT is as reserved as select.
func TestIsReservedIgnoresCase(t *testing.T) {
	if !IsReserved("SeLeCt") || IsReserved("columnfamilyx") || IsReserved("") {
		t.Error("wrong")
	}
}
