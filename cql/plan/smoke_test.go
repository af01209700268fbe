package plan

import "testing"

// TestWriteAndRead goes once around: INSERT, UPDATE and DELETE of every kind of column, read back.
func TestWriteAndRead(t *testing.T) {
	db := newMemDB(t)
	for _, s := range []string{
		"CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
		"USE k",
		"CREATE TYPE ad (street text, no int)",
		"CREATE TABLE t (k int, c int, s int static, v text, l list<int>, st set<text>, m map<text, int>, u ad, PRIMARY KEY (k, c))",
		"INSERT INTO t (k, c, s, v, l, st, m, u) VALUES (1, 1, 7, 'x', [1, 2], {'b', 'a'}, {'q': 5}, {street: 'S', no: 4})",
		"UPDATE t SET l = l + [3], l = [0] + l, m['r'] = 6, st = st - {'a'}, u.no = 5 WHERE k = 1 AND c = 1",
		"UPDATE t SET l[1] = 9 WHERE k = 1 AND c = 1",
		"INSERT INTO t (k, c) VALUES (1, 2)",
		"UPDATE t SET v = 'gone' WHERE k = 1 AND c = 3",
		"DELETE v FROM t WHERE k = 1 AND c = 3",
	} {
		db.must(s)
	}
	want := "k | c | s | l | m | st | u | v\n" +
		"1 | 1 | 7 | [0, 9, 2, 3] | {'q': 5, 'r': 6} | {'b'} | {street: 'S', no: 5} | 'x'\n" +
		"1 | 2 | 7 | null | null | null | null | null"
	if got := db.must("SELECT * FROM t WHERE k = 1").text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	want = "v\n'x'"
	if got := db.must("SELECT v FROM t WHERE k = 1 AND c = 1").text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
