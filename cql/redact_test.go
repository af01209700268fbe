package cql

import "testing"

func TestRedact(t *testing.T) {
	for _, c := range []struct {
		text, want string
		max        int
	}{
		{"SELECT * FROM shop.orders WHERE id = 12 AND name = 'Anna O''Brien'", "SELECT * FROM shop.orders WHERE id = ? AND name = ?", 1000},
		{"INSERT INTO t (a, b, c, d, e, f) VALUES (0xCAFE, -1.5e3, true, 4b1f6f4e-0000-4000-8000-000000000001, P1Y2M, $$it's$$)",
			"INSERT INTO t (a, b, c, d, e, f) VALUES (?, ?, ?, ?, ?, ?)", 1000},
		{"SELECT a -- the secret\n FROM t /* 'secret' */ WHERE k = ?", "SELECT a FROM t WHERE k = ?", 1000},
		{"SELECT a FROM t WHERE k = {'a': 1, 'b': [2, 3]}", "SELECT a FROM t WHERE k = {?: ?, ?: [?, ?]}", 1000},
		{"SELECT \"Quoted Name\" FROM t WHERE s = 'unterminated", "SELECT \"Quoted Name\" FROM t WHERE s = ", 1000},
		{"SELECT abcdef FROM t", "SELECT abcdef ...", 14},
		{"", "", 10},
	} {
		if got := Redact(c.text, c.max); got != c.want {
			t.Errorf("%q:\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}
