package coordinator

import (
	"slices"
	"testing"

	"github.com/helenusdb/helenus/ring"
)

// planOf is a plan as far as quotas look at it.
func planOf(nts bool, dcs ...dcRF) *tablePlan {
	t := &tablePlan{view: &view{localDC: "dc1"}}
	s := ring.Strategy{Class: ring.SimpleStrategy, RF: dcs[0].rf}
	if nts {
		s = ring.Strategy{Class: ring.NetworkTopologyStrategy}
		for _, d := range dcs {
			s.DCs = append(s.DCs, ring.DCReplication{DC: d.name, RF: d.rf})
		}
	}
	t.factors = factorsOf(s, "dc1")
	r, err := ring.New([]ring.Node{{ID: ring.HostID{1}, DC: "dc1", Tokens: []ring.Token{0}}}, ring.Murmur3{})
	if err != nil {
		panic(err)
	}
	t.placement = r.Placement(s)
	return t
}

func peerIn(dc string) *peer {
	p := &peer{}
	p.dc.Store(&dc)
	return p
}

// TestQuotas: what every level needs under every strategy, as Cassandra computes it.
func TestQuotas(t *testing.T) {
	simple := func(rf int) *tablePlan { return planOf(false, dcRF{"dc1", rf}) }
	two := planOf(true, dcRF{"dc1", 3}, dcRF{"dc2", 2})
	far := planOf(true, dcRF{"dc2", 3})
	levels := []Level{Any, One, Two, Three, Quorum, All, LocalQuorum, EachQuorum, Serial, LocalSerial, LocalOne}
	for _, x := range []struct {
		name string
		plan *tablePlan
		need []int
	}{
		{"simple 1", simple(1), []int{1, 1, 2, 3, 1, 1, 1, 1, 1, 1, 1}},
		{"simple 2", simple(2), []int{1, 1, 2, 3, 2, 2, 2, 2, 2, 2, 1}},
		{"simple 3", simple(3), []int{1, 1, 2, 3, 2, 3, 2, 2, 2, 2, 1}},
		{"simple 5", simple(5), []int{1, 1, 2, 3, 3, 5, 3, 3, 3, 3, 1}},
		{"network 3+2", two, []int{1, 1, 2, 3, 3, 5, 2, 4, 3, 2, 1}},
		{"network, none here", far, []int{1, 1, 2, 3, 2, 3, 1, 2, 2, 1, 1}},
	} {
		for i, level := range levels {
			if q := x.plan.quota(level); q.need != x.need[i] || q.level != level {
				t.Errorf("%s: %s needs %d, want %d", x.name, level, q.need, x.need[i])
			}
		}
	}
}

// TestQuotaCounts: which answers reach a level, with replicas that are joining too.
func TestQuotaCounts(t *testing.T) {
	here, there := peerIn("dc1"), peerIn("dc2")
	two := planOf(true, dcRF{"dc1", 3}, dcRF{"dc2", 3})
	for _, x := range []struct {
		name    string
		level   Level
		joining []*peer
		answers []*peer
		reached int // the number of answers after which it is; 0: never
	}{
		{"quorum of both", Quorum, nil, []*peer{here, here, there, there}, 4},
		{"local ones only", LocalQuorum, nil, []*peer{there, there, there, here, here}, 5},
		{"each", EachQuorum, nil, []*peer{here, here, here, there, there}, 5},
		{"each, one is missing", EachQuorum, nil, []*peer{here, here, here, there}, 0},
		{"one more for each that joins", One, []*peer{there}, []*peer{here, here}, 2},
		{"any does not wait for it", Any, []*peer{there}, []*peer{here}, 1},
		{"joining elsewhere", LocalQuorum, []*peer{there}, []*peer{here, here}, 2},
		{"joining here", LocalQuorum, []*peer{here}, []*peer{here, here, here}, 3},
		{"each with one joining", EachQuorum, []*peer{there}, []*peer{here, here, there, there, there}, 5},
		{"each with one joining, missing", EachQuorum, []*peer{there}, []*peer{here, here, here, there, there}, 0},
	} {
		q := two.quota(x.level)
		if x.level != Any {
			two.future, two.other, two.each = two.placement, two.factors, two.dcs
			natural := []*peer{here, here, here, there, there, there}
			var other []*peer // who joins takes the place of one of its data centre
			for _, p := range natural {
				if n := count(x.joining, func(o *peer) bool { return o == p }) - count(other, func(o *peer) bool { return o != p && o.dc.Load() == p.dc.Load() }); n <= 0 {
					other = append(other, p)
				} else {
					other = append(other, peerIn(*p.dc.Load()))
				}
			}
			q.widen(two, natural, other, append(slices.Clone(natural), x.joining...))
		}
		reached := 0
		for i, p := range x.answers {
			if q.count(p, "dc1") && reached == 0 {
				reached = i + 1
			}
		}
		if reached != x.reached {
			t.Errorf("%s: reached after %d, want %d", x.name, reached, x.reached)
		}
	}
}

// TestEachQuorumWithTooManyDataCentres is never reached, rather than reached without some of them.
func TestEachQuorumWithTooManyDataCentres(t *testing.T) {
	var dcs []dcRF
	for i := range dcsMax + 1 {
		dcs = append(dcs, dcRF{string(rune('a' + i)), 1})
	}
	q := planOf(true, dcs...).quota(EachQuorum)
	for range 1000 {
		if q.count(peerIn("a"), "a") {
			t.Fatal("reached")
		}
	}
}

// TestQuotaWhileRangesMove: by brute force over sets of replicas before and after of up to four, in one data centre and in two. What a level
// was reached with is as much of the readers as it asks, and of the others, whoever answered; and it is no more than that takes. Reads at QUORUM meet every write at QUORUM
// that was acknowledged in the same phase or the one before, and so at LOCAL_QUORUM in a data centre.
func TestQuotaWhileRangesMove(t *testing.T) {
	dcOf := func(i int) string { return []string{"dc1", "dc2"}[i%2] }
	var all [6]*peer
	for i := range all {
		all[i] = peerIn(dcOf(i))
	}
	pick := func(set int) (out []*peer) {
		for i, p := range all {
			if set&(1<<i) != 0 {
				out = append(out, p)
			}
		}
		return out
	}
	inDC := func(ps []*peer, dc string) int { return count(ps, func(p *peer) bool { return *p.dc.Load() == dc }) }
	planFor := func(read, other []*peer) *tablePlan {
		of := func(ps []*peer) *tablePlan {
			return planOf(true, dcRF{"dc1", inDC(ps, "dc1")}, dcRF{"dc2", inDC(ps, "dc2")})
		}
		p, o := of(read), of(other)
		p.future, p.other, p.each = o.placement, o.factors, p.dcs
		return p
	}
	asks := func(level Level, n int) int {
		switch level {
		case One, LocalOne:
			return 1
		case All:
			return n
		}
		return n/2 + 1
	}
	for b := 1; b < 1<<len(all); b++ {
		for a := 1; a < 1<<len(all); a++ {
			before, after := pick(b), pick(a)
			if len(before) > 4 || len(after) > 4 {
				continue
			}
			for _, phase := range [][2][]*peer{{before, after}, {after, before}} {
				p := planFor(phase[0], phase[1])
				union := pick(a | b)
				for _, level := range []Level{One, Quorum, All, LocalOne, LocalQuorum, EachQuorum} {
					q := p.quota(level)
					q.widen(p, phase[0], phase[1], union)
					reachable := false
					for got := range 1 << len(all) {
						if got&^(a|b) != 0 {
							continue
						}
						c, reached := q, false
						for _, p := range pick(got) {
							reached = c.count(p, "dc1")
						}
						if !reached {
							continue
						}
						reachable = true
						for _, side := range phase {
							for _, dc := range []string{"", "dc1", "dc2"} {
								n, acked := len(side), len(intersectPeers(side, pick(got)))
								if dc != "" {
									n, acked = inDC(side, dc), inDC(intersectPeers(side, pick(got)), dc)
								}
								concerns := level.Local() && dc == "dc1" || level == EachQuorum && dc != "" || !level.Local() && level != EachQuorum && dc == ""
								if concerns && n > 0 && acked < asks(level, n) {
									t.Fatalf("%s of %06b to %06b, read %v: %06b reaches it, %d of %d in %q", level, b, a, &phase[0] == &phase[1], got, acked, n, dc)
								}
							}
						}
					}
					can := !level.Local() && level != EachQuorum || level.Local() && inDC(phase[0], "dc1") > 0 || level == EachQuorum && inDC(phase[0], "dc1") > 0 && inDC(phase[0], "dc2") > 0
					if can && !reachable {
						t.Fatalf("%s of %06b to %06b: all of them do not reach it", level, b, a)
					}
				}
			}
		}
	}
}

func intersectPeers(a, b []*peer) (out []*peer) {
	for _, p := range a {
		if slices.Contains(b, p) {
			out = append(out, p)
		}
	}
	return out
}
