package ring

// Quorum returns how many of n replicas are a majority.
func Quorum(n int) int { return n/2 + 1 }

// Fill says what has to be brought to the b replicas of a range so that the a replicas after them, kept of which have been among them, know
// what those knew. Sources is with how many of the b replicas each node that fills has to be compared, itself among them if it is one:
// together they know every write that was acknowledged at QUORUM. Those that fill are the a - kept that gain the range, and, when keepersToo,
// the kept ones as well. Each is compared with every live replica that loses the range, also beyond Sources: what was
// acknowledged at ONE by one that leaves goes with it else.
//
// Then a write that was acknowledged at QUORUM is on a quorum of the a replicas (not only read by one: the next movement counts on it), one that was acknowledged at ALL is on all of them, and one that was
// acknowledged at ONE, by a replica that is alive or stays, is on at least one. docs/design/0009-movement.md, F3; TestFill shows it by brute force.
func Fill(b, a, kept int) (sources int, keepersToo bool) {
	missing := min(kept, b-Quorum(b)) // of the kept ones, by a write at QUORUM, at most
	return b - Quorum(b) + 1, a > 0 && (a-missing < Quorum(a) || kept == a && kept < b)
}
