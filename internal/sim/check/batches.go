package check

import (
	"cmp"
	"fmt"
	"slices"
)

// Batches is the history of batches. Each batch writes its own value to all of its parts, which are cells or rows.
type Batches struct {
	Start  Instant
	Writes []Batch
	Views  []BatchView
}

// Batch is one batch.
type Batch struct {
	Op      int
	Value   string   // unique
	Parts   []string // what it writes, each with Value; no other batch with another set of parts writes any of them
	TS      int64    // µs, of all of its statements; unique among the batches with these parts; 0: the coordinator's
	Call    Instant
	Return  Instant
	Outcome Outcome
}

// BatchView is what one moment showed of all parts of the batches that share them.
type BatchView struct {
	Op     int
	Parts  []string
	Values []string // of Parts; "": nothing
	// Atomic: the parts are rows or cells of one partition, so that a half must never be seen. Otherwise only Settled views, made after
	// everything has been delivered, have to be whole.
	Atomic  bool
	Settled bool
	Call    Instant
	Return  Instant
}

// Check reports a view that shows a batch half: in one partition ever, over several after all was delivered. In a settled view it
// also reports an acknowledged batch that is not there although no later one replaced it, and one that was answered with "not
// applied" in any.
func (h *Batches) Check() []Violation {
	var r report
	byValue := map[string]*Batch{}
	newest := map[string]*Batch{} // acknowledged, by the first part
	for i := range h.Writes {
		b := &h.Writes[i]
		byValue[b.Value] = b
		if old := newest[b.Parts[0]]; b.Outcome == OK && (old == nil || old.TS < b.TS) {
			newest[b.Parts[0]] = b
		}
	}
	views := slices.Clone(h.Views)
	slices.SortStableFunc(views, func(a, b BatchView) int { return cmp.Compare(a.Call, b.Call) })
	for i := range views {
		v := &views[i]
		if v.Atomic || v.Settled {
			h.whole(&r, v, byValue)
		}
		if v.Settled {
			h.there(&r, v, byValue, newest[v.Parts[0]])
		}
		h.honest(&r, v, byValue)
	}
	return r.done()
}

// whole reports parts of one view that hold different batches.
func (h *Batches) whole(r *report, v *BatchView, byValue map[string]*Batch) {
	for i := range v.Values {
		if v.Values[i] != v.Values[0] {
			r.add(CheckerBatches, "%s showed %s and %s: half of %s", h.show(v), part(v, 0), part(v, i), h.of(v, i, byValue))
			return
		}
	}
}

// there reports an acknowledged batch that a settled view does not show.
func (h *Batches) there(r *report, v *BatchView, byValue map[string]*Batch, newest *Batch) {
	if newest == nil || newest.Return >= v.Call {
		return
	}
	seen := byValue[v.Values[0]]
	if v.Values[0] == "" || seen != nil && seen.TS < newest.TS {
		r.add(CheckerBatches, "%s showed %s, but %s was acknowledged", h.show(v), part(v, 0), h.batch(newest))
	}
}

func (h *Batches) honest(r *report, v *BatchView, byValue map[string]*Batch) {
	for i, value := range v.Values {
		if value == "" {
			continue
		}
		switch b := byValue[value]; {
		case b == nil:
			r.add(CheckerBatches, "%s showed %s, which no batch wrote", h.show(v), part(v, i))
		case b.Outcome == NotApplied:
			r.add(CheckerHonesty, "%s showed %s, but %s was answered with not applied", h.show(v), part(v, i), h.batch(b))
		}
	}
}

func part(v *BatchView, i int) string {
	if v.Values[i] == "" {
		return "nothing in " + v.Parts[i]
	}
	return v.Parts[i] + " = " + quote(v.Values[i])
}

// of names the batch of which part i, or the first one, is a half.
func (h *Batches) of(v *BatchView, i int, byValue map[string]*Batch) string {
	for _, value := range []string{v.Values[i], v.Values[0]} {
		if b := byValue[value]; b != nil {
			return h.batch(b)
		}
	}
	return "a batch"
}

func (h *Batches) batch(b *Batch) string {
	return fmt.Sprintf("batch %d (%s over %s, %s, in %s)", b.Op, quote(b.Value), list(b.Parts), b.Outcome, span(h.Start, b.Call, b.Return))
}

func (h *Batches) show(v *BatchView) string {
	return fmt.Sprintf("read %d in %s", v.Op, span(h.Start, v.Call, v.Return))
}
