package movement

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// rangesMax bounds the ranges of one Fill, so that what is done is remembered now and then.
const rangesMax = 16

// Fill is one step of a plan: some ranges of a keyspace that have the same replicas before the movement.
type Fill struct {
	Plan     uint64
	Keyspace string
	Tables   []*schema.Table // of the keyspace; those made later need no filling
	Ranges   []ring.Range
	// Source is read as a whole; zero for ranges that this node replicates already, which are only compared.
	Source ring.HostID
	// Compare are compared with, after the source was read, so that this node has what a quorum had.
	Compare []ring.HostID
	// Fresh: nothing was brought to these ranges yet. What is there is older than the movement and has to go first, or what was
	// deleted elsewhere could come back.
	Fresh bool
}

// TooFew says that a range cannot be filled now: not enough of the replicas that may know of a write are alive.
type TooFew struct {
	Keyspace string
	Range    ring.Range
	Alive    int    // replicas that could be asked
	Need     int    // that have to be
	DC       string // of which all these are; empty: any
}

// Error says which range of which keyspace waits for how many replicas.
func (e *TooFew) Error() string {
	where := ""
	if e.DC != "" {
		where = " in " + e.DC
	}
	return fmt.Sprintf("range %s of keyspace %s needs %d of its replicas%s, %d are alive", e.Range, e.Keyspace, e.Need, where, e.Alive)
}

// Records are what a node has filled, or begun to fill, under the newest plan that it has seen. The zero value is that of a node that
// has seen none. The maps' ranges are normalized.
type Records struct {
	Plan   uint64
	Filled map[string][]ring.Range // by keyspace: done
	Begun  map[string][]ring.Range // by keyspace: rows may have been brought already
}

// Follow returns the records under the plan of s. What was filled stays filled where the node takes part in the range under both plans
// and has seen every plan in between; where it may have missed one it may have missed writes, and begins again. The argument is not
// changed. Once nothing is filled there are no records.
func Follow(r Records, s *meta.State, self ring.HostID) Records {
	if s.Phase() != meta.Filling {
		return Records{}
	}
	if r.Plan == s.Plan {
		return r
	}
	out := Records{Plan: s.Plan, Filled: map[string][]ring.Range{}, Begun: map[string][]ring.Range{}}
	if r.Plan == 0 || s.PriorPlan != r.Plan { // another movement's, or one may have been missed
		return out
	}
	for _, ks := range s.Catalog.Keyspaces() {
		fills := rangesOf(s.Fills(ks.Name, self))
		if len(fills) == 0 {
			continue
		}
		keep(out.Filled, ks.Name, ring.Intersect(fills, r.Filled[ks.Name]))
		keep(out.Begun, ks.Name, ring.Intersect(fills, r.Begun[ks.Name]))
	}
	return out
}

func keep(m map[string][]ring.Range, keyspace string, rs []ring.Range) {
	if len(rs) > 0 {
		m[keyspace] = rs
	}
}

// with returns the records with more ranges in one of the maps, in new maps.
func with(m map[string][]ring.Range, keyspace string, rs []ring.Range) map[string][]ring.Range {
	out := make(map[string][]ring.Range, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	out[keyspace] = ring.Normalize(slices.Concat(m[keyspace], rs))
	return out
}

func rangesOf(ms []ring.Movement) []ring.Range {
	out := make([]ring.Range, len(ms))
	for i := range ms {
		out[i] = ms[i].Range
	}
	return ring.Normalize(out)
}

// Pending returns what is left to fill for the node under the plan of s, in the order in which it is done; empty when the plan can be
// reported. Sources are alive, those of the node's own data centre first, others in an order that differs from range to range. waits has
// what cannot be filled now. A forced movement goes on with the replicas there are.
func Pending(r Records, s *meta.State, self ring.HostID, alive func(ring.HostID) bool) (todo []Fill, waits []*TooFew) {
	for _, ks := range s.Catalog.Keyspaces() {
		tables := ks.Tables()
		if len(tables) == 0 {
			continue
		}
		groups := map[string]int{} // by replicas and freshness: the Fill that takes more ranges
		for _, m := range s.Fills(ks.Name, self) {
			for _, left := range ring.Subtract([]ring.Range{m.Range}, r.Filled[ks.Name]) {
				begun := ring.Intersect([]ring.Range{left}, r.Begun[ks.Name])
				for _, part := range []struct {
					ranges []ring.Range
					fresh  bool
				}{{begun, false}, {ring.Subtract([]ring.Range{left}, begun), true}} {
					if len(part.ranges) == 0 {
						continue
					}
					f, wait := choose(s, self, ks.Name, &m, alive)
					if wait != nil {
						waits = append(waits, wait)
						continue
					}
					f.Plan, f.Keyspace, f.Tables, f.Fresh = s.Plan, ks.Name, tables, part.fresh && !f.Source.IsZero()
					key := fmt.Sprint(f.Source, f.Compare, f.Fresh)
					for _, rg := range part.ranges {
						i, ok := groups[key]
						if !ok || len(todo[i].Ranges) == rangesMax {
							i, groups[key] = len(todo), len(todo)
							todo = append(todo, f)
							todo[i].Ranges = nil
						}
						todo[i].Ranges = append(todo[i].Ranges, rg)
					}
				}
			}
		}
	}
	return todo, waits
}

// choose picks whom the node fills a range from: meta.Sources(b) of the b replicas before the movement, as many of those in its own
// data centre as a quorum there needs, itself counted when it is one of them, and every one that loses the range and is alive (ring.Fill).
func choose(s *meta.State, self ring.HostID, keyspace string, m *ring.Movement, alive func(ring.HostID) bool) (Fill, *TooFew) {
	dc := s.Node(self).DC
	var here, there []ring.HostID
	local := 0
	for _, id := range m.Before {
		isHere := s.Node(id).DC == dc
		if isHere {
			local++
		}
		switch {
		case id == self || !alive(id):
		case isHere:
			here = append(here, id)
		default:
			there = append(there, id)
		}
	}
	mine := 0
	if slices.Contains(m.Before, self) {
		mine = 1
	}
	need, needHere := max(0, sources(len(m.Before))-mine), max(0, sources(local)-mine)
	lenient := s.Forced() || schema.IsSystemKeyspace(keyspace)
	switch {
	case lenient:
	case len(here) < needHere:
		return Fill{}, &TooFew{keyspace, m.Range, len(here) + mine, needHere + mine, dc}
	case len(here)+len(there) < need:
		return Fill{}, &TooFew{keyspace, m.Range, len(here) + len(there) + mine, need + mine, ""}
	}
	loses := func(id ring.HostID) bool {
		return slices.Contains(m.Losses, id) && !planted.On(planted.LoserNotCompared)
	}
	rank := func(id ring.HostID) int {
		if loses(id) {
			return 0
		}
		return 1
	}
	for _, ids := range [][]ring.HostID{here, there} {
		spread(ids, m.Range) // neighbouring ranges have other sources
		slices.SortStableFunc(ids, func(a, b ring.HostID) int { return cmp.Compare(rank(a), rank(b)) })
	}
	ids := chosen(here, there, need, needHere, loses)
	if mine == 1 {
		return Fill{Compare: ids}, nil
	}
	if len(ids) == 0 { // forced, and nobody is there: it stays empty
		return Fill{}, nil
	}
	return Fill{Source: ids[0], Compare: ids[1:]}, nil
}

// chosen takes all that must be among them, and as many of the others as are needed, those of the own data centre first. Both lists begin with
// those that must.
func chosen(here, there []ring.HostID, need, needHere int, must func(ring.HostID) bool) (ids []ring.HostID) {
	farMust := 0
	for farMust < len(there) && must(there[farMust]) {
		farMust++
	}
	for i, id := range here {
		if must(id) || i < needHere || i+farMust < need {
			ids = append(ids, id)
		}
	}
	for i, id := range there {
		if i < farMust || len(ids) < need {
			ids = append(ids, id)
		}
	}
	return ids
}

func sources(b int) int {
	if b == 0 {
		return 0
	}
	return meta.Sources(b)
}

// spread orders the hosts by a function of host and range.
func spread(ids []ring.HostID, r ring.Range) {
	weight := func(id ring.HostID) uint64 {
		h := uint64(r.End) ^ 0x9e3779b97f4a7c15
		for _, b := range id {
			h = (h ^ uint64(b)) * 0x100000001b3
		}
		return h ^ h>>29
	}
	slices.SortFunc(ids, func(a, b ring.HostID) int { return cmp.Or(cmp.Compare(weight(a), weight(b)), a.Compare(b)) })
}
