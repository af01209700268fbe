package movement

import (
	"slices"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// Loss is what a movement gives up in one keyspace when it is forced: what was acknowledged by replicas that are down, and by none that is alive.
type Loss struct {
	Keyspace string
	Ranges   int           // too few of their replicas are alive to know every write
	Gone     int           // of them, those of which no replica is alive
	Down     []ring.HostID // replicas of those ranges that are down; ascending
}

// Losses returns what a forced movement would give up by who is alive now, in the order of the keyspaces; nil when no range waits for a dead replica.
func Losses(s *meta.State, alive func(ring.HostID) bool) (out []Loss) {
	short := map[string]map[ring.Range]bool{}
	for _, id := range s.Unfilled() {
		_, waits := Pending(Records{}, s, id, alive)
		for _, w := range waits {
			if short[w.Keyspace] == nil {
				short[w.Keyspace] = map[ring.Range]bool{}
			}
			short[w.Keyspace][w.Range] = true
		}
	}
	for _, ks := range s.Catalog.Keyspaces() {
		if ranges := short[ks.Name]; len(ranges) > 0 {
			out = append(out, lossOf(ks.Name, s.Moves(ks.Name), ranges, alive))
		}
	}
	return out
}

func lossOf(keyspace string, moves []ring.Movement, ranges map[ring.Range]bool, alive func(ring.HostID) bool) Loss {
	l := Loss{Keyspace: keyspace}
	for _, m := range moves {
		if !ranges[m.Range] {
			continue
		}
		l.Ranges++
		down := slices.DeleteFunc(slices.Clone(m.Before), alive)
		if len(down) == len(m.Before) {
			l.Gone++
		}
		l.Down = append(l.Down, down...)
	}
	slices.SortFunc(l.Down, ring.HostID.Compare)
	l.Down = slices.Compact(l.Down)
	return l
}
