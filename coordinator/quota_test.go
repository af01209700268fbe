package coordinator

import (
	"testing"

	"github.com/helenusdb/helenus/ring"
)

// planOf is a plan as far as quotas look at it.
func planOf(nts bool, dcs ...dcRF) *tablePlan {
	t := &tablePlan{view: &view{localDC: "dc1"}, dcs: dcs}
	s := ring.Strategy{Class: ring.SimpleStrategy, RF: dcs[0].rf}
	t.rf, t.localRF = dcs[0].rf, dcs[0].rf
	if nts {
		s = ring.Strategy{Class: ring.NetworkTopologyStrategy}
		t.rf, t.localRF = 0, 0
		for _, d := range dcs {
			t.rf += d.rf
			if d.name == "dc1" {
				t.localRF = d.rf
			}
		}
	}
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
		for _, p := range x.joining {
			q.expect(p, "dc1")
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
