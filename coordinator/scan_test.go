package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// slowNetwork makes every message between two nodes take 5 ms.
func (c *cluster) slowNetwork() {
	for i := range c.nodes {
		for j := range c.nodes {
			c.net.SetDelay(addrOf(i).Addr().String(), addrOf(j).Addr().String(), 5*time.Millisecond)
		}
	}
}

func rf(n string) []schema.Pair {
	return []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: n}}
}

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// TestScansAreConcurrent: many small ranges take the time of a few messages, not of one for each; a limit that the first range
// reaches asks nobody else.
func TestScansAreConcurrent(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5), keyspace: rf("1"), vnodes: 16})
		for i := range 500 {
			c.mustWrite(0, coordinator.All, c.put(c.wide, key(i), fmt.Sprint(i), 1, "x"))
		}
		c.slowNetwork()
		c.setFault(nil)
		took := timed(func() {
			if text, _ := c.scan(0, coordinator.One, c.wide, 0, 0, 0); len(strings.Fields(text)) != 500 {
				t.Errorf("%d rows", len(strings.Fields(text)))
			}
		})
		if n := c.sent(coordinator.VerbRead); n < 40 || took > time.Duration(n)*10*time.Millisecond/3 {
			t.Errorf("%d messages took %v", n, took)
		}
		if n := c.nodes[0].coord.ScanAhead(); n != 0 {
			t.Errorf("%d bytes reserved at the end", n)
		}
	})
}

// TestScanAsksNoMoreThanItNeeds: a limit that the first range reaches, and one that two are likely to.
func TestScanAsksNoMoreThanItNeeds(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5), keyspace: rf("1"), vnodes: 2})
		for i := range 500 {
			c.mustWrite(0, coordinator.All, c.put(c.wide, key(i), fmt.Sprint(i), 1, "x"))
		}
		full := ring.FullRange()
		for limit, most := range map[int]int{2: 3, 60: 5} {
			c.setFault(nil)
			s := coordinator.Scan{Level: coordinator.One, Command: row.Command{Generation: c.wide.Generation, Now: time.Now().Unix(), Range: &full, Limit: limit}}
			if err := c.nodes[0].coord.ScanPage(t.Context(), &s); err != nil || s.Page.Rows != limit || !s.Page.More {
				t.Errorf("%d rows, %v", s.Page.Rows, err)
			}
			s.Close()
			if n := c.sent(coordinator.VerbRead); n > most {
				t.Errorf("%d messages for %d rows", n, limit)
			}
		}
	})
}

// TestLongScansReadAhead: pages of a large table come faster than one after another, in order and once each, with a partition in it
// that is larger than many pages; what is read ahead is bounded, and given back also when the scan is given up.
func TestLongScansReadAhead(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 4), keyspace: rf("2"), vnodes: 4})
		value := strings.Repeat("v", 200)
		const rows, wide = 3000, 300
		for i := range rows {
			c.mustWrite(0, coordinator.One, c.put(c.wide, key(i), fmt.Sprint(i), 1, value))
		}
		for i := range wide {
			c.mustWrite(0, coordinator.One, c.put(c.wide, key(rows), fmt.Sprintf("w%05d", i), 1, value))
		}
		time.Sleep(10 * time.Second)
		c.slowNetwork()
		c.setFault(nil)
		var most int64
		full := ring.FullRange()
		s := coordinator.Scan{Level: coordinator.All, Command: row.Command{Generation: c.wide.Generation, Now: time.Now().Unix(), Range: &full, Limit: 10000, Bytes: 4000}}
		n, pages := c.nodes[0].coord, 0
		seen := map[string]bool{}
		last := ""
		began := time.Now()
		for more := true; more; more = s.Page.More {
			if pages > 0 {
				from := s.Page.Cut
				s.Command.From = &from
			}
			if err := n.ScanPage(t.Context(), &s); err != nil {
				t.Fatal(err)
			}
			pages++
			most = max(most, n.ScanAhead())
			for _, x := range strings.Fields(pageText(t, &s.Page, s.Command.Now)) {
				ck, _, _ := strings.Cut(x, "=")
				if seen[ck] || strings.HasPrefix(ck, "w") && strings.HasPrefix(last, "w") && ck < last {
					t.Fatalf("%s twice, or after %s", ck, last)
				}
				seen[ck], last = true, ck
			}
			if len(s.Page.Data) > 3*4000 {
				t.Fatalf("a page of %d bytes", len(s.Page.Data))
			}
		}
		took := time.Since(began)
		if len(seen) != rows+wide || pages < 150 {
			t.Errorf("%d rows on %d pages", len(seen), pages)
		}
		if took > time.Duration(pages)*10*time.Millisecond*2/3 {
			t.Errorf("%d pages took %v", pages, took)
		}
		if most == 0 || most > 8*4000 || n.ScanAhead() != 0 {
			t.Errorf("at most %d bytes were read ahead, %d are left", most, n.ScanAhead())
		}
		s.Command.From = nil
		for range 3 {
			if err := n.ScanPage(t.Context(), &s); err != nil || !s.Page.More {
				t.Fatal(err)
			}
			from := s.Page.Cut
			s.Command.From = &from
		}
		if n.ScanAhead() == 0 {
			t.Error("nothing is read ahead")
		}
		s.Close()
		if n.ScanAhead() != 0 {
			t.Errorf("%d bytes after the scan was given up", n.ScanAhead())
		}
		time.Sleep(time.Second)
		if n.InFlight() != 0 {
			t.Errorf("%d requests in flight", n.InFlight())
		}
	})
}

// TestScanEndsWithItsContext: it does not wait for replicas.
func TestScanEndsWithItsContext(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), keyspace: rf("1"), vnodes: 4})
		c.setFault(func(m message) action { return action{drop: m.verb == coordinator.VerbRead} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		full := ring.FullRange()
		s := coordinator.Scan{Level: coordinator.One, Command: row.Command{Generation: c.wide.Generation, Now: time.Now().Unix(), Range: &full}}
		within(t, "scan", time.Second, func() {
			if err := c.nodes[0].coord.ScanPage(ctx, &s); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
		if n := c.nodes[0].coord.ScanAhead(); n != 0 {
			t.Errorf("%d bytes reserved", n)
		}
	})
}
