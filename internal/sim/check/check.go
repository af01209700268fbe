package check

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Violation is something that must not happen, and what shows it.
type Violation struct {
	Checker string // one of the names below
	What    string // which operations contradict each other
}

// The names of the checkers.
const (
	CheckerDurability   = "durability"
	CheckerResurrection = "resurrection"
	CheckerMonotonic    = "monotonic"
	CheckerLinearizable = "linearizable"
	CheckerCounters     = "counters"
	CheckerBatches      = "batches"
	CheckerPages        = "pages"
	CheckerConvergence  = "convergence"
	CheckerHonesty      = "honesty"
	CheckerBounded      = "bounded"
)

// String returns "checker: what".
func (v Violation) String() string { return v.Checker + ": " + v.What }

// Instant is a moment of true time in nanoseconds; only differences mean something.
type Instant int64

// Never is the instant of an answer that did not come.
const Never Instant = math.MaxInt64

// Outcome is what the client was told of an operation.
type Outcome uint8

// The outcomes.
const (
	OK         Outcome = iota
	NotApplied         // nothing was done, and never will be
	Unknown            // may have taken effect, now or later
)

// String names the outcome in texts of violations.
func (o Outcome) String() string {
	return [...]string{"acknowledged", "not applied", "unknown"}[o]
}

// DCsMax bounds the data centres of a topology.
const DCsMax = 4

// Acks is on how many replicas a consistency level vouches for an answer: that many have the write, or were asked by the read.
type Acks struct {
	All int         // in the whole cluster
	In  [DCsMax]int // of these, in each data centre at least
}

// Topology says how many replicas each partition has.
type Topology struct {
	RF int
	In [DCsMax]int // in each data centre
}

// Overlap reports whether two operations with these guarantees have a replica in common: W + R > RF, in the cluster or in a data
// centre.
func (t *Topology) Overlap(a, b Acks) bool {
	if a.All+b.All > t.RF {
		return true
	}
	for i, rf := range t.In {
		if rf > 0 && a.In[i]+b.In[i] > rf {
			return true
		}
	}
	return false
}

// perCheckerMax is how many violations of one kind are spelled out; the rest is counted.
const perCheckerMax = 8

// report collects violations.
type report struct {
	out    []Violation
	counts map[string]int
}

func (r *report) add(checker, format string, args ...any) {
	if r.counts == nil {
		r.counts = map[string]int{}
	}
	if r.counts[checker]++; r.counts[checker] <= perCheckerMax {
		r.out = append(r.out, Violation{checker, fmt.Sprintf(format, args...)})
	}
}

// done returns what was collected, with the number of those left out.
func (r *report) done() []Violation {
	seen := map[string]bool{}
	for i := range r.out {
		v := &r.out[i]
		if n := r.counts[v.Checker] - perCheckerMax; n > 0 && !seen[v.Checker] {
			v.What += fmt.Sprintf(" (and %d more)", n)
		}
		seen[v.Checker] = true
	}
	return r.out
}

// span shows a call and its answer relative to a beginning: "[1.2s, 1.25s]".
func span(start, call, ret Instant) string {
	if ret == Never {
		return "[" + since(start, call) + ", ...]"
	}
	return "[" + since(start, call) + ", " + since(start, ret) + "]"
}

func since(start, at Instant) string {
	return time.Duration(at - start).Round(time.Microsecond).String()
}

// quote shows a value, shortened when it is long.
func quote(s string) string {
	const shown = 48
	if len(s) > shown {
		return fmt.Sprintf("%q… (%d bytes)", s[:shown], len(s))
	}
	return fmt.Sprintf("%q", s)
}

func list(items []string) string {
	const shown = 12
	if len(items) > shown {
		return strings.Join(items[:shown], ", ") + fmt.Sprintf(" and %d more", len(items)-shown)
	}
	return strings.Join(items, ", ")
}
