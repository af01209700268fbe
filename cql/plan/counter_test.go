package plan

import (
	"strings"
	"testing"

	"github.com/helenusdb/helenus/cql/types"
)

// TestScenario_C6_CountersTakeNoTTLNoConditionAndNoTimestamp, neither alone nor in batches, and no INSERT.
func TestScenario_C6_CountersTakeNoTTLNoConditionAndNoTimestamp(t *testing.T) {
	db := goldenDB(t)
	for _, text := range []string{
		"UPDATE ctr USING TTL 5 SET n = n + 1 WHERE k = 1", "UPDATE ctr USING TTL ? SET n = n + 1 WHERE k = 1",
		"UPDATE ctr USING TIMESTAMP 5 SET n = n + 1 WHERE k = 1", "DELETE n FROM ctr USING TIMESTAMP 5 WHERE k = 1",
		"DELETE FROM ctr USING TIMESTAMP ? WHERE k = 1",
		"UPDATE ctr SET n = n + 1 WHERE k = 1 IF EXISTS", "UPDATE ctr SET n = n + 1 WHERE k = 1 IF n = 1",
		"DELETE FROM ctr WHERE k = 1 IF EXISTS", "INSERT INTO ctr (k, n) VALUES (1, 1)", "INSERT INTO ctr (k, n) VALUES (1, 1) IF NOT EXISTS",
		"BEGIN COUNTER BATCH USING TIMESTAMP 5 UPDATE ctr SET n = n + 1 WHERE k = 1; APPLY BATCH",
		"BEGIN COUNTER BATCH UPDATE ctr USING TTL 5 SET n = n + 1 WHERE k = 1; APPLY BATCH",
		"BEGIN COUNTER BATCH UPDATE ctr SET n = n + 1 WHERE k = 1 IF EXISTS; APPLY BATCH",
		"BEGIN BATCH UPDATE ctr SET n = n + 1 WHERE k = 1; APPLY BATCH",
		"BEGIN UNLOGGED BATCH UPDATE ctr SET n = n + 1 WHERE k = 1; UPDATE t1 SET v = 1 WHERE k = 1; APPLY BATCH",
	} {
		if lines := prepareLines(db, text); !strings.HasPrefix(lines[0], "error 2200 ") || refused(lines) {
			t.Errorf("%s: %s", text, lines)
		}
	}
	if _, err := db.run("CREATE TABLE ttlctr (k int PRIMARY KEY, n counter) WITH default_time_to_live = 5"); err == nil {
		t.Error("a counter table with a default TTL")
	}
}

// TestDeletedRowsCountAnew: after the deletion of a row its counters begin at null, whatever they were; a counter that was
// deleted by itself stays null, as in Cassandra.
func TestDeletedRowsCountAnew(t *testing.T) {
	db := goldenDB(t)
	counter := func(where string) string {
		r := db.must("SELECT n FROM wide WHERE " + where)
		if len(r.rows) == 0 {
			return "none"
		}
		return string(types.Counter.AppendText(nil, r.rows[0][0]))
	}
	for i, x := range []struct{ deletion, want string }{
		{"DELETE FROM wide WHERE k = %d AND c = 1", "3"}, {"DELETE FROM wide WHERE k = %d AND c > 0", "3"}, {"DELETE FROM wide WHERE k = %d", "3"},
		{"DELETE n FROM wide WHERE k = %d AND c = 1", "none"},
	} {
		k := string(rune('1' + i))
		where := "k = " + k + " AND c = 1"
		db.must("UPDATE wide SET n = n + 40 WHERE " + where)
		db.must(strings.ReplaceAll(x.deletion, "%d", k))
		if got := counter(where); got != "none" {
			t.Errorf("%s: %s", x.deletion, got)
		}
		db.must("UPDATE wide SET n = n + 3 WHERE " + where)
		if got := counter(where); got != x.want {
			t.Errorf("%s, then counted: %s", x.deletion, got)
		}
	}
}
