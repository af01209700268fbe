// Package memnet is a network in memory: hosts with addresses that listen and dial, connections that behave like
// TCP (bounded buffers, half-close on Close, resets, deadlines), and faults per direction (cuts, delays, isolated,
// crashed and silent hosts, broken connections). Tests and the simulator use it in place of sockets.
//
// A [Network] is a value without package state and without goroutines of its own; it waits only on channels and
// timers of the time package, so that inside a testing/synctest bubble everything happens in virtual time. Create it
// inside the bubble that uses it.
package memnet
