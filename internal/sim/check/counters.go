package check

import (
	"cmp"
	"slices"
)

// Counters is the history of counters. Operations may be in any order.
type Counters struct {
	Topology Topology
	Start    Instant
	Adds     []Add
	Reads    []CounterRead
}

// Add changes a counter by Delta.
type Add struct {
	Op      int
	Counter string
	Delta   int64
	Acks    Acks
	Call    Instant
	Return  Instant
	Outcome Outcome
}

// CounterRead is a read of a counter that was answered; a counter without a row has the value 0.
type CounterRead struct {
	Op      int
	Counter string
	Value   int64
	Node    int
	Level   string
	Acks    Acks
	Settled bool // made when all hints were delivered and all replicas asked
	Call    Instant
	Return  Instant
}

// Check reports a value that lies outside of what was acknowledged plus any part of what may have happened: a lost increment, or one
// that counted twice. While a counter was only ever increased, it also reports a value that goes back.
func (h *Counters) Check() []Violation {
	var r report
	groups, index := []*counter{}, map[string]*counter{}
	of := func(name string) *counter {
		if index[name] == nil {
			index[name] = &counter{name: name, rising: true}
			groups = append(groups, index[name])
		}
		return index[name]
	}
	for i := range h.Adds {
		a := &h.Adds[i]
		c := of(a.Counter)
		c.adds = append(c.adds, a)
		c.rising = c.rising && a.Delta >= 0
	}
	for i := range h.Reads {
		c := of(h.Reads[i].Counter)
		c.reads = append(c.reads, &h.Reads[i])
	}
	for _, c := range groups {
		slices.SortStableFunc(c.reads, func(a, b *CounterRead) int { return cmp.Compare(a.Call, b.Call) })
		for _, read := range c.reads {
			h.value(&r, c, read)
		}
		if c.rising {
			h.rising(&r, c)
		}
	}
	return r.done()
}

type counter struct {
	name   string
	adds   []*Add
	reads  []*CounterRead
	rising bool
}

// value compares one read with everything that must, and that may, be in it.
func (h *Counters) value(r *report, c *counter, read *CounterRead) {
	var acked, low, high int64
	open := 0
	for _, a := range c.adds {
		switch {
		case a.Outcome == NotApplied || a.Call >= read.Return:
		case a.Outcome == OK && a.Return < read.Call && (read.Settled || h.Topology.Overlap(a.Acks, read.Acks)):
			acked += a.Delta
		default:
			open++
			low += min(a.Delta, 0)
			high += max(a.Delta, 0)
		}
	}
	switch {
	case read.Value < acked+low:
		r.add(CheckerCounters, "read %d at %s by node %d in %s showed %s = %d: increments were lost, for %d was acknowledged before, and %d that are open can only make it %d",
			read.Op, read.Level, read.Node, span(h.Start, read.Call, read.Return), c.name, read.Value, acked, open, acked+low)
	case read.Value > acked+high:
		r.add(CheckerCounters, "read %d at %s by node %d in %s showed %s = %d: something counted twice or was refused and counted, for %d was acknowledged before, and %d that are open can only make it %d",
			read.Op, read.Level, read.Node, span(h.Start, read.Call, read.Return), c.name, read.Value, acked, open, acked+high)
	}
}

// rising reports values that go back between reads with a replica in common.
func (h *Counters) rising(r *report, c *counter) {
	byReturn := slices.Clone(c.reads)
	slices.SortStableFunc(byReturn, func(a, b *CounterRead) int { return cmp.Compare(a.Return, b.Return) })
	var seen []*CounterRead // the largest at each level, of those answered
	next := 0
	for _, read := range c.reads {
		for ; next < len(byReturn) && byReturn[next].Return < read.Call; next++ {
			seen = largest(seen, byReturn[next])
		}
		for _, s := range seen {
			if s.Value > read.Value && (read.Settled || h.Topology.Overlap(s.Acks, read.Acks)) {
				r.add(CheckerMonotonic, "read %d at %s in %s showed %s = %d; before that, read %d at %s in %s showed %d", read.Op, read.Level,
					span(h.Start, read.Call, read.Return), c.name, read.Value, s.Op, s.Level, span(h.Start, s.Call, s.Return), s.Value)
				break
			}
		}
	}
}

func largest(seen []*CounterRead, read *CounterRead) []*CounterRead {
	for i, s := range seen {
		if s.Acks == read.Acks {
			if read.Value > s.Value {
				seen[i] = read
			}
			return seen
		}
	}
	return append(seen, read)
}
