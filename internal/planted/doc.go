// Package planted holds the switches of planted bugs: each re-creates, at one or two places of the real code, one way in which a store
// of this kind has lost data, brought it back or lied. They prove that the checkers of internal/sim work: a run with a switch on must
// be caught.
//
// The switches exist only in builds with the tag planted. Without it On is a constant false, so that the compiler removes the call
// sites altogether; a test looks for what is left of them in the binary. At a call site a planted bug is a condition, at most three
// lines, which reads:
//
//	if planted.On(planted.ReadRepairNotSent) {
//		return nil
//	}
//
// With the tag the set is what HELENUS_PLANTED names, separated by commas, and tests change it with Set.
package planted
