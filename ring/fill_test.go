package ring_test

import (
	"math/bits"
	"testing"

	"github.com/helenusdb/helenus/ring"
)

// knows returns the least number of replicas of A that have a write, given those of B that had it when it was acknowledged, over all choices
// of whom each filling node is compared with. Replicas are bits: B is the lowest b, A the highest a of b+a-kept. Those of dead answer nobody.
func knows(b, a, kept int, had, dead uint, sources int, keepersToo bool) (least int, possible bool) {
	inB := uint(1)<<b - 1
	inA := (uint(1)<<a - 1) << (b - kept)
	losers := inB &^ inA &^ dead
	for m := uint(0); m < 1<<(b+a-kept); m++ {
		if m&inA == 0 || m&(m-1) != 0 { // m: one replica of A
			continue
		}
		switch {
		case m&inB != 0 && (had&m != 0 || !keepersToo):
			if had&m != 0 {
				least++
			}
			continue
		case m&inB != 0 && m&dead != 0:
			return 0, false // it has to be filled, and does not answer
		}
		ok, always := false, true
		for asked := uint(0); asked <= inB; asked++ { // with whom it is compared
			all := asked | m&inB
			if asked&dead != 0 || losers&^all != 0 || bits.OnesCount(all) < sources {
				continue
			}
			ok = true
			always = always && all&had != 0
		}
		if !ok {
			return 0, false // too few are alive: it waits
		}
		if always {
			least++
		}
	}
	return least, true
}

// TestFill: for all numbers of replicas before, after and in both up to 5, for every set of replicas that a write may have reached when it
// was acknowledged, whoever is dead, and whomever the filling nodes are compared with: a write at QUORUM is on a quorum afterwards, one at
// ALL on all, one at ONE on somebody if a replica that had it lives or stays. With one source less, or without those that stay, it is not.
func TestFill(t *testing.T) {
	fewer, without := 0, 0 // cases in which the rule is needed
	for b := 1; b <= 5; b++ {
		for a := 1; a <= 5; a++ {
			for kept := 0; kept <= min(a, b); kept++ {
				if a == kept && b == kept {
					continue // nothing moves
				}
				sources, keepersToo := ring.Fill(b, a, kept)
				inA := (uint(1)<<a - 1) << (b - kept)
				for had := uint(1); had < 1<<b; had++ {
					n := bits.OnesCount(had)
					for dead := uint(0); dead < 1<<b; dead++ {
						least, possible := knows(b, a, kept, had, dead, sources, keepersToo)
						if !possible {
							continue
						}
						if n >= ring.Quorum(b) && least < ring.Quorum(a) {
							t.Fatalf("%d to %d, %d in both: a write on %b, acknowledged at QUORUM, is on %d with %b dead", b, a, kept, had, least, dead)
						}
						if n == b && least < a {
							t.Fatalf("%d to %d, %d in both: a write at ALL is on %d", b, a, kept, least)
						}
						if had&(inA|^dead) != 0 && least < 1 {
							t.Fatalf("%d to %d, %d in both: a write at ONE on %b is lost with %b dead", b, a, kept, had, dead)
						}
						if n < ring.Quorum(b) {
							continue
						}
						if least, possible := knows(b, a, kept, had, dead, sources-1, keepersToo); possible && least < ring.Quorum(a) {
							fewer++
						}
						if least, possible := knows(b, a, kept, had, dead, sources, false); keepersToo && possible && least < ring.Quorum(a) {
							without++
						}
					}
				}
			}
		}
	}
	if fewer == 0 || without == 0 {
		t.Errorf("%d cases need all sources, %d those that stay", fewer, without)
	}
	if s, keepers := ring.Fill(3, 0, 0); s != 2 || keepers {
		t.Errorf("to none: %d %v", s, keepers)
	}
}

// TestFillMovesNoMoreThanNeeded: in the movements of every day, a join, a decommission, a replacement, an increase, only those that gain fill.
func TestFillMovesNoMoreThanNeeded(t *testing.T) {
	for _, c := range []struct {
		b, a, kept, sources int
		keepers             bool
	}{
		{3, 3, 2, 2, false}, {3, 3, 0, 2, false}, {5, 5, 4, 3, false}, {1, 1, 0, 1, false}, {3, 5, 3, 2, false}, {1, 3, 1, 1, false}, {2, 3, 2, 1, false},
		{3, 1, 1, 2, true}, {3, 2, 2, 2, true}, {5, 3, 3, 3, true}, {2, 1, 1, 1, true}, {5, 4, 1, 3, false},
	} {
		if s, k := ring.Fill(c.b, c.a, c.kept); s != c.sources || k != c.keepers {
			t.Errorf("%d to %d, %d in both: %d sources, those that stay fill %v", c.b, c.a, c.kept, s, k)
		}
	}
}
