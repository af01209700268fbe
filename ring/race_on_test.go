//go:build race

package ring

// raceEnabled shortens the tests that do nothing but compute.
const raceEnabled = true
