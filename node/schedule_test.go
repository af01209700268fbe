package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// TestSchedulerRepairs: differences behind the server's back are mended although nobody asks, each node seeing to the ranges that it is the first replica of; what was repaired is
// recorded on all replicas, and shown.
func TestSchedulerRepairs(t *testing.T) {
	g := &graveyard{first: 180, every: 2 * time.Second}
	g.start(t)
	for i := range 60 {
		g.put([]row.Mutation{g.mutation(fmt.Sprintf("key%03d", i), func(f *row.FragmentBuilder) { f.Row(ckey(1), cellRow(g.column("v"), 1000, "value")) })}, i%3)
	}
	g.await("all replicas are equal and all ranges repaired", func() bool {
		for _, n := range g.nodes {
			s := n.repairStatus()
			if len(s.Tables) != 1 || s.Tables[0].Ranges == 0 || s.Tables[0].Repaired != s.Tables[0].Ranges {
				return false
			}
		}
		return g.equal()
	})
	if all, alive := g.items(0); all != 60 || alive != 60 {
		t.Errorf("%d items, %d rows", all, alive)
	}
	ranges, led := 0, int64(0)
	for i, n := range g.nodes {
		var s RepairStatus
		res, err := http.Get(fmt.Sprintf("http://%s:19180/api/v1/repairstatus", host(180+i)))
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(res.Body).Decode(&s)
		_ = res.Body.Close()
		if err != nil || len(s.Tables) != 1 || s.Tables[0].Oldest == nil || s.Tables[0].Bound == nil || s.Tables[0].Mode != "repair" || s.Tables[0].Why != "" || s.Tables[0].Kept != 0 {
			t.Errorf("node %d: %+v, %v", i, s, err)
		}
		rows := n.repairRows()
		ids := map[[16]byte]bool{}
		for _, r := range rows {
			ids[r.ID] = true
			if r.At.IsZero() || len(r.Replicas) != 3 || r.Keyspace != "shop" || r.ID[6]>>4 != 1 {
				t.Errorf("node %d: row %+v", i, r)
			}
		}
		if len(ids) != len(rows) || len(rows) != s.Tables[0].Ranges {
			t.Errorf("node %d: %d rows with %d ids of %d ranges", i, len(rows), len(ids), s.Tables[0].Ranges)
		}
		ranges += len(rows)
		led += n.scheduler.Metrics().Sessions.Load()
		if age := rangeMetric(n, "helenus_repair_oldest_seconds"); age < 0 || age > 120 {
			t.Errorf("node %d: the oldest repair is %g s ago", i, age)
		}
		// All replicas know of all ranges, whoever led.
		if got := n.intervalBound(g.tableOn(i), ring.Interval{First: ring.MinToken, Last: ring.MaxToken}, time.Now().Unix()); got <= 0 {
			t.Errorf("node %d purges nothing: %d", i, got)
		}
	}
	if led < int64(ranges) {
		t.Errorf("%d sessions for %d ranges", led, ranges)
	}
}

// rangeMetric returns the value of a metric of ranges; -1: there is none.
func rangeMetric(n *Node, name string, values ...string) float64 {
	for _, m := range n.rangeMetrics() {
		if m.Name == name && slices.Equal(m.Values, values) {
			return m.Value
		}
	}
	return -1
}
