package plan

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/cql/protocol"
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

// TestINs_Product: INs of the partition key and of clustering columns multiply, and what they name together is bounded.
func TestINs_Product(t *testing.T) {
	db := newMemDB(t)
	run := func(text string, lists ...int) error {
		var values []protocol.Value
		for _, n := range lists {
			b := binary.BigEndian.AppendUint32(nil, uint32(n))
			for i := range n {
				b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), uint32(i))
			}
			values = append(values, protocol.Value{Bytes: b})
		}
		_, err := db.run(text, values...)
		return err
	}
	for _, text := range []string{"CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}", "CREATE TABLE ks.t (k int, c int, v int, PRIMARY KEY (k, c))"} {
		if err := run(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"SELECT v FROM ks.t WHERE k IN ? AND c IN ?", "DELETE FROM ks.t WHERE k IN ? AND c IN ?", "UPDATE ks.t SET v = 1 WHERE k IN ? AND c IN ?"} {
		if err := run(text, 20, 20); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if err := run(text, 1000, 1000); err == nil || !strings.Contains(err.Error(), "produce more than 131072 combinations") {
			t.Errorf("%s with a million rows: %v", text, err)
		}
	}
}
