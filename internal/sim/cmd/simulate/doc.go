// Command simulate runs campaigns of the simulator: many seeds, each in a process of its own, several at a time.
//
//	go run ./internal/sim/cmd/simulate -seeds 1000 -for 10m -scenario registers -swarm -json report.json
//
// It prints a summary line every few seconds. When a seed fails it looks for the shortest prefix of the seed's schedule of faults
// that still fails, and prints the seed, what was found and the command that runs it again. It ends with status 1 then.
package main
