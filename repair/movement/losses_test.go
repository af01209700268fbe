package movement_test

import (
	"slices"
	"testing"

	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/ring"
)

// TestLosses: what forcing gives up are exactly the ranges that wait, each once, with those of their replicas that are down; nothing when none waits.
func TestLosses(t *testing.T) {
	s := must(t, cluster(t, oneDC(5), simple("3")...), join(6))
	alive := dead()
	if l := movement.Losses(s, alive); l != nil {
		t.Errorf("all are alive: %+v", l)
	}
	if l := movement.Losses(s, dead(2)); l != nil {
		t.Errorf("one is down, of which no range needs more than two: %+v", l)
	}
	for _, down := range [][]int{{2, 3}, {1, 2, 3}, {1, 2, 3, 4, 5}} {
		alive := dead(down...)
		ranges, gone, hosts := 0, 0, map[ring.HostID]bool{}
		for _, m := range s.Fills("ks", host(6)) {
			var lost []ring.HostID
			for _, id := range m.Before {
				if !alive(id) {
					lost = append(lost, id)
				}
			}
			if len(lost) < 2 {
				continue
			}
			if ranges++; len(lost) == 3 {
				gone++
			}
			for _, id := range lost {
				hosts[id] = true
			}
		}
		l := movement.Losses(s, alive)
		if ranges == 0 && l == nil {
			continue
		}
		if len(l) != 1 || l[0].Keyspace != "ks" || l[0].Ranges != ranges || l[0].Gone != gone || len(l[0].Down) != len(hosts) || !slices.IsSortedFunc(l[0].Down, ring.HostID.Compare) {
			t.Errorf("without %v: %+v, want %d ranges, %d of them gone, hosts %v", down, l, ranges, gone, hosts)
		}
	}
}
