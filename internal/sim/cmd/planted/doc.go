// Command planted proves the checkers: it runs the simulator with one planted bug after the other until each is caught, and reports which
// checker caught it, in how many seeds, and after how much machine time.
//
//	go run -tags planted ./internal/sim/cmd/planted -rotate 8
//
// It fails when a bug is not caught within its time. -rotate picks some of them by the day, so that a week's runs see all.
package main
