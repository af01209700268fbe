// Package hlc gives the timestamps of writes that bring none: microseconds of the wall clock, but strictly increasing
// on one node, also when the clock steps back and across a restart. Nothing else may come in.
package hlc
