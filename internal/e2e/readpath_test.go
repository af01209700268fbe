package e2e

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// fillTable writes rows 0 to n-1, of some 100 bytes, in unlogged batches.
func fillTable(t *testing.T, w *wire, table string, n int) {
	t.Helper()
	w.must(t, "CREATE TABLE %s (k int PRIMARY KEY, v text)", table)
	value := strings.Repeat("v", 80)
	for i := 0; i < n; {
		var b strings.Builder
		b.WriteString("BEGIN UNLOGGED BATCH ")
		for to := min(i+200, n); i < to; i++ {
			fmt.Fprintf(&b, "INSERT INTO %s (k, v) VALUES (%d, '%s'); ", table, i, value)
		}
		b.WriteString("APPLY BATCH")
		w.must(t, "%s", b.String())
	}
}

// TestCount_BesideOptions: a full-table COUNT over three nodes with 16 vnodes each is right, and an OPTIONS that follows it on the same
// connection is answered while it runs, not after it.
func TestCount_BesideOptions(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	w := mustDial(t, c.addr(0))
	const rows = 60_000
	for _, rf := range []int{1, 3} {
		w.must(t, "CREATE KEYSPACE counted%d WITH replication = {'class': 'SimpleStrategy', 'replication_factor': %d}", rf, rf)
		table := fmt.Sprintf("counted%d.t", rf)
		fillTable(t, w, table, rows)
		var counts, options []time.Duration
		for range 7 {
			count, option := countBeside(t, w, table, rows)
			counts, options = append(counts, count), append(options, option)
		}
		slices.Sort(counts)
		slices.Sort(options)
		t.Logf("RF %d: COUNT of %d rows takes %s (median), an OPTIONS beside it %s, at worst %s", rf, rows, counts[3], options[3], options[6])
		if options[3] > counts[3]/10 { // on a quiet machine it is a thousandth
			t.Errorf("RF %d: OPTIONS takes %s beside a COUNT of %s", rf, options[3], counts[3])
		}
	}
}

// countBeside sends a COUNT and then, on the same connection, an OPTIONS, and returns how long each took.
func countBeside(t *testing.T, w *wire, table string, want int) (count, options time.Duration) {
	t.Helper()
	p := params(protocol.One)
	p.PageSize = 5000
	w.SetWriteDeadline(time.Now().Add(wireTimeout))
	began := time.Now()
	if _, err := w.Write(protocol.AppendQuery(nil, protocol.V4, 1, 0, "SELECT count(*) FROM "+table, p)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond) // it is under way
	asked := time.Now()
	if _, err := w.Write(protocol.AppendOptions(nil, protocol.V4, 2)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		h, body, err := w.answer()
		switch {
		case err != nil:
			t.Fatal(err)
		case h.Stream == 2:
			options = time.Since(asked)
		default:
			count = time.Since(began)
			r, err := protocol.DecodeResult(protocol.V4, body)
			if err != nil || !r.Rows.Next() || binary.BigEndian.Uint64(r.Rows.Values()[0]) != uint64(want) {
				t.Fatalf("COUNT: %v", err)
			}
		}
	}
	return count, options
}

// TestHints_SurviveARestartOfTheirKeeper: the node that keeps hints for one that is down is killed and started again; the hints are
// delivered all the same, and nothing of it crashes.
func TestHints_SurviveARestartOfTheirKeeper(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	w := mustDial(t, c.addr(0))
	w.must(t, "CREATE KEYSPACE hinted WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
	w.must(t, "CREATE TABLE hinted.t (k int PRIMARY KEY, v int)")
	c.nodes[2].kill()
	const rows = 300
	for i := range rows {
		if _, err := w.query(protocol.Quorum, "INSERT INTO hinted.t (k, v) VALUES (%d, %d)", i, i); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 10*time.Second, "every write is hinted", func() bool { return c.nodes[0].metric("helenus_hints_pending") >= rows })
	c.nodes[0].kill()
	c.nodes[0].start()
	c.nodes[0].ready()
	if n := c.nodes[0].metric("helenus_hints_pending"); n < rows {
		t.Errorf("%v hints after the restart", n)
	}
	c.nodes[2].start()
	c.nodes[2].ready()
	hintsDelivered(t, c.nodes[0])
	c.nodes[0].kill()
	c.nodes[1].kill()
	alone := mustDial(t, c.addr(2))
	for i := range rows {
		if got := alone.must(t, "SELECT v FROM hinted.t WHERE k = %d", i); len(got) != 1 {
			t.Fatalf("row %d is missing after the hints were delivered", i)
		}
	}
}

// TestScenario_S9_QuorumLossOnRealProcesses: with two of three voters dead, reads and writes that one replica is enough for go on,
// a quorum is Unavailable, and a schema change is refused in bounded time with an error that says why. It works again when they are back.
func TestScenario_S9_QuorumLossOnRealProcesses(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	w := mustDial(t, c.addr(0))
	w.must(t, "CREATE KEYSPACE lost WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
	w.must(t, "CREATE TABLE lost.t (k int PRIMARY KEY, v int)")
	if _, err := w.query(protocol.All, "INSERT INTO lost.t (k, v) VALUES (0, 0)"); err != nil {
		t.Fatal(err)
	}
	c.nodes[1].kill()
	c.nodes[2].kill()
	for i := 1; i <= 50; i++ {
		w.must(t, "INSERT INTO lost.t (k, v) VALUES (%d, %d)", i, i)
		if got := w.must(t, "SELECT v FROM lost.t WHERE k = %d", i/2); len(got) != 1 {
			t.Fatalf("row %d is not there", i/2)
		}
	}
	eventually(t, 15*time.Second, "a quorum is unavailable", func() bool {
		_, err := w.query(protocol.Quorum, "SELECT v FROM lost.t WHERE k = 0")
		return err != nil && contains(err.Error(), "Cannot achieve consistency level QUORUM")
	})
	began := time.Now()
	_, err := w.query(protocol.One, "CREATE TABLE lost.u (k int PRIMARY KEY)")
	t.Logf("after %s: %v", time.Since(began).Round(time.Millisecond), err)
	if err == nil || !contains(err.Error(), "quorum") && !contains(err.Error(), "majority") || time.Since(began) > 15*time.Second {
		t.Errorf("CREATE TABLE: %v after %s", err, time.Since(began))
	}
	w.must(t, "INSERT INTO lost.t (k, v) VALUES (99, 99)")
	c.nodes[1].start()
	c.nodes[1].ready()
	eventually(t, 15*time.Second, "schema changes go on", func() bool {
		_, err := w.query(protocol.One, "CREATE TABLE IF NOT EXISTS lost.u (k int PRIMARY KEY)")
		return err == nil
	})
	if got, err := w.query(protocol.Quorum, "SELECT v FROM lost.t WHERE k = 0"); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}
