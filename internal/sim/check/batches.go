package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Batches is the history of batches. Each batch writes its own value to all of its parts, which are cells or rows.
type Batches struct {
	Start  Instant
	Skew   time.Duration // no node's clock is further from true time; only timestamps of coordinators need it
	Writes []Batch
	Views  []BatchView
}

// Batch is one batch.
type Batch struct {
	Op      int
	Value   string   // unique
	Parts   []string // what it writes, each with Value; no other batch with another set of parts writes any of them
	TS      int64    // µs, of all of its statements; unique among the batches with these parts; 0: the coordinator's
	Node    int      // the coordinator
	Call    Instant
	Return  Instant
	Outcome Outcome
}

// BatchView is what one moment showed of all parts of the batches that share them.
type BatchView struct {
	Op     int
	Parts  []string
	Values []string // of Parts; "": nothing
	Stamps []int64  // WRITETIME of Values in µs; 0: not asked for, also nil
	// Atomic: the parts are rows or cells of one partition, so that a half must never be seen. Otherwise only Settled views, made after
	// everything has been delivered, have to be whole.
	Atomic  bool
	Settled bool
	Call    Instant
	Return  Instant
}

// Check reports a view that shows a batch half: in one partition ever, over several after all was delivered; a value with another
// timestamp than its batch has; and one that was answered with "not applied" in any. In a settled view it also reports an acknowledged
// batch that is not there although no later one replaced it.
//
// A batch's timestamp, when the coordinator gave it, is known from views that show it, or else within the clock skew; one
// coordinator's timestamps rise, also across its restarts.
func (h *Batches) Check() []Violation {
	var r report
	c := batchCheck{h: h, report: &r, byValue: map[string]*dated{}, acked: map[string][]*dated{}}
	views := slices.Clone(h.Views)
	slices.SortStableFunc(views, func(a, b BatchView) int { return cmp.Compare(a.Call, b.Call) })
	c.date(views)
	for i := range views {
		v := &views[i]
		if v.Atomic || v.Settled {
			c.whole(v)
		}
		if v.Settled {
			c.there(v)
		}
		c.honest(v)
	}
	return r.done()
}

// dated is a batch with what is known of its timestamp.
type dated struct {
	*Batch
	version *version
	shown   bool // a view has shown the timestamp that a coordinator gave it
}

type batchCheck struct {
	h       *Batches
	report  *report
	byValue map[string]*dated
	acked   map[string][]*dated // by the first part
}

// date bounds the timestamps of all batches.
func (c *batchCheck) date(views []BatchView) {
	writes, versions := make([]Write, len(c.h.Writes)), make([]version, len(c.h.Writes))
	for i := range c.h.Writes {
		b, v := &c.h.Writes[i], &versions[i]
		writes[i] = Write{Value: b.Value, TS: b.TS, Node: b.Node, Call: b.Call, Return: b.Return, Outcome: b.Outcome}
		v.Write, v.lo, v.hi = &writes[i], b.TS, b.TS
		if b.TS == 0 {
			v.bound(c.h.Skew)
		}
		d := &dated{Batch: b, version: v}
		c.byValue[b.Value] = d
		if b.Outcome == OK {
			c.acked[b.Parts[0]] = append(c.acked[b.Parts[0]], d)
		}
	}
	for i := range views {
		c.stamps(&views[i])
	}
	riseByNode(versions)
}

// stamps takes note of the timestamps that a view shows, and reports those that are not the batch's.
func (c *batchCheck) stamps(v *BatchView) {
	for i, ts := range v.Stamps {
		b := c.byValue[v.Values[i]]
		switch {
		case ts == 0 || b == nil:
		case b.TS == 0 && !b.shown:
			b.shown, b.version.lo, b.version.hi = true, ts, ts
		case ts != b.version.lo:
			c.report.add(CheckerBatches, "%s showed %s with timestamp %d, but that of %s is %d", c.show(v), part(v, i), ts, c.batch(b.Batch), b.version.lo)
		}
	}
}

// replaces tells whether b, which was acknowledged, has certainly taken the place of a, if a was ever applied: by their timestamps, or
// because the coordinator that gave them both had acknowledged a when b began.
func (b *dated) replaces(a *dated) bool {
	sameClock := a.TS == 0 && b.TS == 0 && a.Node == b.Node
	return a.version.olderThan(b.version) || sameClock && a.Outcome == OK && a.Return < b.Call
}

// whole reports parts of one view that hold different batches.
func (c *batchCheck) whole(v *BatchView) {
	for i := range v.Values {
		if v.Values[i] != v.Values[0] {
			c.report.add(CheckerBatches, "%s showed %s and %s: half of %s", c.show(v), part(v, 0), part(v, i), c.of(v, i))
			return
		}
	}
}

// there reports an acknowledged batch that a settled view does not show.
func (c *batchCheck) there(v *BatchView) {
	seen := c.byValue[v.Values[0]]
	for _, b := range c.acked[v.Parts[0]] {
		if b.Return < v.Call && (v.Values[0] == "" || seen != nil && b.replaces(seen)) {
			c.report.add(CheckerBatches, "%s showed %s, but %s was acknowledged", c.show(v), part(v, 0), c.batch(b.Batch))
			return
		}
	}
}

func (c *batchCheck) honest(v *BatchView) {
	for i, value := range v.Values {
		if value == "" {
			continue
		}
		switch b := c.byValue[value]; {
		case b == nil:
			c.report.add(CheckerBatches, "%s showed %s, which no batch wrote", c.show(v), part(v, i))
		case b.Outcome == NotApplied:
			c.report.add(CheckerHonesty, "%s showed %s, but %s was answered with not applied", c.show(v), part(v, i), c.batch(b.Batch))
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
func (c *batchCheck) of(v *BatchView, i int) string {
	for _, value := range []string{v.Values[i], v.Values[0]} {
		if b := c.byValue[value]; b != nil {
			return c.batch(b.Batch)
		}
	}
	return "a batch"
}

func (c *batchCheck) batch(b *Batch) string {
	return fmt.Sprintf("batch %d (%s over %s, %s by node %d, in %s)", b.Op, quote(b.Value), list(b.Parts), b.Outcome, b.Node, span(c.h.Start, b.Call, b.Return))
}

func (c *batchCheck) show(v *BatchView) string {
	return fmt.Sprintf("read %d in %s", v.Op, span(c.h.Start, v.Call, v.Return))
}
