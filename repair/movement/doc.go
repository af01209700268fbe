// Package movement is a node's own part in the movement of ranges (docs/design/0009-movement.md): it fills the ranges that the node
// gains under a plan, remembers durably which it has, reports the plan when it has all, and reports the switch when nothing that it
// had begun before is under way any more. The rest of a movement is meta's: State.Advance, which the leader of the log proposes.
//
// What is to be filled, from whom, and what stays filled under a newer plan are pure functions (plan.go); Mover runs them. Rows are brought by
// a Filler, which node binds: it streams from one source and compares with others.
package movement
