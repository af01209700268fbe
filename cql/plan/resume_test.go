package plan

import (
	"fmt"
	"testing"
)

// TestScanGoesOnBetweenPartsOfTheRing: a page that ended between two parts of the ring, at a token without a key, goes on there. It used
// to begin anew, for ever; found by the simulator (internal/sim, scenario calm).
func TestScanGoesOnBetweenPartsOfTheRing(t *testing.T) {
	db := newMemDB(t)
	mustRun := func(text string) *memResult {
		t.Helper()
		r, err := db.run(text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	mustRun("CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	mustRun("CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
	const partitions = 40
	for k := range partitions {
		mustRun(fmt.Sprintf("INSERT INTO ks.t (k, v) VALUES (%d, %d)", k, k))
	}
	db.pageSize, db.chunk, db.between = 1, 1, true
	seen := map[string]bool{}
	for _, r := range mustRun("SELECT k FROM ks.t").rows {
		if seen[string(r[0])] {
			t.Fatalf("partition %x twice", r[0])
		}
		seen[string(r[0])] = true
	}
	if len(seen) != partitions {
		t.Errorf("%d partitions of %d", len(seen), partitions)
	}
	if got := len(mustRun("SELECT k FROM ks.t LIMIT 7").rows); got != 7 {
		t.Errorf("LIMIT 7 gives %d rows", got)
	}
}
