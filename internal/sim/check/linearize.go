package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// CASKind is what a conditional operation does.
type CASKind uint8

// The kinds. A partition has one row with the columns v, a text, and l, a list of texts.
const (
	CASRead   CASKind = iota // SELECT at a serial level
	CASInsert                // INSERT v IF NOT EXISTS
	CASUpdate                // UPDATE SET v = Value IF v = Expect
	CASAppend                // UPDATE SET l = l + [Value] IF v = Expect
	CASDelete                // DELETE the row IF v = Expect, or IF EXISTS when Expect is ""
)

// CAS is one conditional write or serial read.
type CAS struct {
	Op        int
	Partition string
	Kind      CASKind
	Expect    string
	Value     string // unique in the partition; no comma
	Node      int
	Call      Instant
	Return    Instant // of an unknown one: when the client gave up
	Outcome   Outcome

	// The answer, with Outcome OK.
	Applied bool
	Shown   bool   // the answer shows the row: a read, or a condition that did not hold, except IF EXISTS
	State   CASRow // what it shows
	ListToo bool   // it shows the list as well
}

// CASRow is the row of a partition. Its zero value is the row that does not exist.
type CASRow struct {
	Exists bool
	V      string // "": null
	L      string // elements, joined with commas
}

// Linearize reports partitions whose history no order explains in which each operation takes effect at one instant between its call
// and its answer, an unknown one at any instant after its call or never, and one that was answered with "not applied" not at all.
//
// stepsMax bounds the search per partition: unlikely histories with very many open operations are given up. searched is the number of
// partitions, undecided that of those given up, about which nothing is said; Decided judges it.
func Linearize(start Instant, history []CAS, stepsMax int) (found []Violation, searched, undecided int) {
	var r report
	groups, index := [][]CAS{}, map[string]int{}
	for _, op := range history {
		i, ok := index[op.Partition]
		if !ok {
			i = len(groups)
			index[op.Partition] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], op)
	}
	for _, g := range groups {
		l := linearizer{start: start, ops: relevant(g), stepsMax: stepsMax}
		switch l.legal(len(l.ops)) {
		case illegal:
			l.explain(&r)
		case gaveUp:
			undecided++
		}
	}
	return r.done(), len(groups), undecided
}

// undecidedShare is one part in so many that may be undecided: a checker that gives up more than that finds what it likes.
const undecidedShare = 20

// Decided reports searches that were given up too often: one always may be, and a small share.
func Decided(searched, undecided int) []Violation {
	if undecided <= max(1, searched/undecidedShare) {
		return nil
	}
	var r report
	r.add(CheckerBounded, "the histories of %d of %d partitions were not decided: nothing is known of them", undecided, searched)
	return r.done()
}

// relevant leaves out what says nothing: reads without an answer and what was never done. It orders by answer.
func relevant(ops []CAS) []CAS {
	ops = slices.DeleteFunc(slices.Clone(ops), func(o CAS) bool {
		return o.Outcome == NotApplied || o.Outcome == Unknown && o.Kind == CASRead
	})
	for i := range ops {
		if ops[i].Outcome == Unknown {
			ops[i].Return = Never
		}
	}
	slices.SortStableFunc(ops, func(a, b CAS) int { return cmp.Or(cmp.Compare(a.Return, b.Return), cmp.Compare(a.Call, b.Call)) })
	return ops
}

type verdict uint8

const (
	legal verdict = iota
	illegal
	gaveUp
)

type linearizer struct {
	start    Instant
	ops      []CAS // by answer, the unknown ones last
	stepsMax int
	steps    int
}

// legal decides about the history as it was known when the first n operations had been answered.
func (l *linearizer) legal(n int) verdict {
	l.steps = 0
	ok := porcupine.CheckOperations(porcupine.Model{
		Init: func() any { return CASRow{} },
		Step: func(state, in, out any) (bool, any) {
			if l.steps++; l.steps > l.stepsMax {
				return false, state
			}
			return step(state.(CASRow), in.(*CAS), out.(bool))
		},
		Equal: func(a, b any) bool { return a == b },
	}, l.prefix(n))
	switch {
	case ok:
		return legal
	case l.steps > l.stepsMax:
		return gaveUp
	}
	return illegal
}

// prefix returns the first n operations, and those that had been called by the time of the last one's answer as open ones.
func (l *linearizer) prefix(n int) []porcupine.Operation {
	now := Never
	if n < len(l.ops) {
		now = l.ops[n-1].Return
	}
	var out []porcupine.Operation
	for i := range l.ops {
		o := &l.ops[i]
		answered := i < n && o.Outcome == OK
		if !answered && (o.Call >= now || o.Kind == CASRead) {
			continue
		}
		p := porcupine.Operation{ClientId: i, Input: o, Output: answered, Call: int64(o.Call), Return: int64(o.Return)}
		if !answered {
			p.Return = int64(Never)
		}
		out = append(out, p)
	}
	return out
}

// step is the row's semantics: whether an operation that was answered like this may take effect in that state, and what it makes
// of it. An operation that was not answered may always.
func step(s CASRow, o *CAS, answered bool) (bool, CASRow) {
	holds, next := s.apply(o)
	switch {
	case !answered:
		return true, next
	case o.Kind != CASRead && o.Applied != holds:
		return false, s
	case o.Shown && !s.shows(o):
		return false, s
	}
	return true, next
}

// apply tells whether the condition of o holds, and what it leaves.
func (s CASRow) apply(o *CAS) (holds bool, next CASRow) {
	switch o.Kind {
	case CASRead:
		return true, s
	case CASInsert:
		holds, next = !s.Exists, CASRow{Exists: true, V: o.Value}
	case CASDelete:
		holds = s.Exists && (o.Expect == "" || s.V == o.Expect)
	case CASUpdate:
		holds, next = s.Exists && s.V == o.Expect, CASRow{true, o.Value, s.L}
	case CASAppend:
		holds, next = s.Exists && s.V == o.Expect, CASRow{true, s.V, strings.TrimPrefix(s.L+","+o.Value, ",")}
	}
	if !holds {
		next = s
	}
	return holds, next
}

// shows tells whether the answer of o is about the state s.
func (s CASRow) shows(o *CAS) bool {
	return s.Exists == o.State.Exists && s.V == o.State.V && (!o.ListToo || s.L == o.State.L)
}

// explain reports the first answer that no order explains.
func (l *linearizer) explain(r *report) {
	answered := 0
	for answered < len(l.ops) && l.ops[answered].Outcome == OK {
		answered++
	}
	low, high := 0, answered // legal up to low, illegal from high on
	for low+1 < high {
		if mid := (low + high) / 2; l.legal(mid) == illegal {
			high = mid
		} else {
			low = mid
		}
	}
	var before []string
	for i := max(0, high-1-explainedMax); i < high-1; i++ {
		before = append(before, l.show(&l.ops[i]))
	}
	open := 0
	for i := range l.ops[answered:] {
		if l.ops[answered+i].Call < l.ops[high-1].Return {
			open++
			before = append(before, l.show(&l.ops[answered+i]))
		}
	}
	r.add(CheckerLinearizable, "partition %s: no order explains %s after %d answers and %d open operations, the last of them %s", l.ops[high-1].Partition,
		l.show(&l.ops[high-1]), high-1, open, strings.Join(before, "; "))
}

// explainedMax is how many operations before the one that cannot be explained are shown.
const explainedMax = 12

func (l *linearizer) show(o *CAS) string {
	what := [...]string{"serial read", "INSERT v=" + o.Value + " IF NOT EXISTS", "UPDATE v=" + o.Value + " IF v=" + o.Expect,
		"UPDATE l+=" + o.Value + " IF v=" + o.Expect, "DELETE IF " + cmp.Or(o.Expect, "EXISTS")}[o.Kind]
	answer := "unknown"
	if o.Outcome == OK {
		answer = "applied"
		if !o.Applied {
			answer = "not applied"
		}
		if o.Kind == CASRead {
			answer = "shows"
		}
		if o.Shown {
			answer += " " + o.State.show(o.ListToo)
		}
	}
	return fmt.Sprintf("op %d %s %s: %s", o.Op, what, span(l.start, o.Call, o.Return), answer)
}

func (s CASRow) show(listToo bool) string {
	switch {
	case !s.Exists:
		return "(no row)"
	case listToo:
		return fmt.Sprintf("(v=%s l=[%s])", s.V, s.L)
	}
	return "(v=" + s.V + ")"
}
