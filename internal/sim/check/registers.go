package check

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Registers is the history of registers: single cells, or rows that are written and deleted as a whole, under last write wins. A
// deletion of many rows is one Write for each of them. Operations may be in any order.
type Registers struct {
	Topology Topology
	Start    Instant       // of the run, for texts
	Skew     time.Duration // no node's clock is further from true time; only server timestamps need it
	Writes   []Write
	Reads    []Read
}

// Write is an upsert or a deletion of one register.
type Write struct {
	Op       int // number of the operation, for texts
	Register string
	Value    string // unique in its register
	Delete   bool   // then Value is empty
	TS       int64  // the client's timestamp in µs; 0: the coordinator's
	Node     int    // the coordinator
	Level    string // for texts
	Acks     Acks
	Call     Instant
	Return   Instant // of an unknown one: when the client gave up
	Outcome  Outcome
	Expires  int64 // seconds: reads with a Now from there on do not see it; 0: never
}

// Read is a read of one register that was answered.
type Read struct {
	Op       int
	Register string
	Value    string
	Null     bool  // there is nothing
	TS       int64 // WRITETIME of the value in µs; 0: not asked for
	Node     int
	Level    string
	Acks     Acks
	Settled  bool // made when all hints were delivered and all replicas asked: every acknowledged write counts, at any level
	Call     Instant
	Return   Instant
	Now      int64 // seconds: the request's now, which decides what has expired; 0 when nothing expires
}

// Check reports
//
//   - durability: an acknowledged write that a later read with W + R > RF does not find although nothing overwrote or deleted it, a
//     value that nobody wrote, and a value with another timestamp than it was written with;
//   - resurrection: what an acknowledged deletion covers, or what a read no longer found, or what has expired, seen again;
//   - monotonic: a version that an earlier read with R + R > RF had already found overwritten;
//   - honesty: a value whose write was answered with "not applied".
//
// A write's timestamp, when the coordinator gave it, is known from reads that show it, or else within the clock skew; one
// coordinator's timestamps rise, also across its restarts.
func (h *Registers) Check() []Violation {
	var r report
	c := registerCheck{h: h, report: &r}
	c.prepare()
	for i := range c.registers {
		c.register(c.registers[i])
	}
	return r.done()
}

// version is a write with what is known of its timestamp.
type version struct {
	*Write
	lo, hi int64 // µs: the timestamp lies in between; equal when it is known
}

// dies tells whether the version, if it was applied at all, hides at a read what it supersedes and itself.
func (v *version) dies(now int64) bool {
	return v.Delete || v.Expires != 0 && now >= v.Expires
}

// olderThan tells whether v certainly loses against w.
func (v *version) olderThan(w *version) bool {
	if v.hi != w.lo || v.lo != w.hi {
		return v.hi < w.lo
	}
	if v.Delete != w.Delete { // equal timestamps: a deletion wins, then the larger value
		return w.Delete
	}
	return v.Value < w.Value
}

// register is the history of one register.
type register struct {
	name   string
	writes []*version
	reads  []*Read
	value  map[string]*version
}

type registerCheck struct {
	h         *Registers
	report    *report
	index     map[string]*register
	registers []*register // in order of appearance
}

// prepare groups the operations and bounds the timestamps.
func (c *registerCheck) prepare() {
	c.index = map[string]*register{}
	versions := make([]version, len(c.h.Writes))
	for i := range c.h.Writes {
		w := &c.h.Writes[i]
		v := &versions[i]
		v.Write, v.lo, v.hi = w, w.TS, w.TS
		if w.TS == 0 {
			v.bound(c.h.Skew)
		}
		g := c.of(w.Register)
		g.writes = append(g.writes, v)
		if !w.Delete {
			g.value[w.Value] = v
		}
	}
	for i := range c.h.Reads {
		r := &c.h.Reads[i]
		g := c.of(r.Register)
		g.reads = append(g.reads, r)
		if v := g.value[r.Value]; !r.Null && v != nil && r.TS != 0 && v.TS == 0 && v.lo != v.hi {
			v.lo, v.hi = r.TS, r.TS
		}
	}
	riseByNode(versions)
}

func (c *registerCheck) of(name string) *register {
	g := c.index[name]
	if g == nil {
		g = &register{name: name, value: map[string]*version{}}
		c.index[name] = g
		c.registers = append(c.registers, g)
	}
	return g
}

// leadMax is by how much a coordinator's timestamps may lead its clock: see internal/hlc.
const leadMax = int64(time.Second / time.Microsecond)

// bound gives the interval in which a coordinator chose the timestamp of v, whose clock is not further from true time than skew.
func (v *version) bound(skewMax time.Duration) {
	skew := skewMax.Microseconds()
	v.lo, v.hi = int64(v.Call)/1000-skew, math.MaxInt64
	if v.Outcome == OK {
		v.hi = int64(v.Return)/1000 + skew + leadMax + 1
	}
}

// riseByNode raises the lower bounds: a coordinator gives rising timestamps, so a write that begins when another was acknowledged by
// the same one is newer.
func riseByNode(versions []version) {
	var byCall, byReturn []*version
	for i := range versions {
		if v := &versions[i]; v.TS == 0 {
			byCall = append(byCall, v)
			if v.Outcome == OK {
				byReturn = append(byReturn, v)
			}
		}
	}
	slices.SortStableFunc(byCall, func(a, b *version) int { return cmp.Compare(a.Call, b.Call) })
	slices.SortStableFunc(byReturn, func(a, b *version) int { return cmp.Compare(a.Return, b.Return) })
	newest, next := map[int]int64{}, 0
	for _, v := range byCall {
		for ; next < len(byReturn) && byReturn[next].Return < v.Call; next++ {
			w := byReturn[next]
			newest[w.Node] = max(newest[w.Node], w.lo)
		}
		if floor := newest[v.Node] + 1; v.lo < floor {
			v.lo = floor // above hi when a timestamp that was seen has gone back: then it is older than what it followed
		}
	}
}

// killer is a version that may make a register empty, from the instant on at which it may have been applied.
type killer struct {
	from Instant
	hi   int64 // the largest timestamp of this and all earlier killers
}

// floor is the newest version that a later operation has to reckon with, and what says so.
type floor struct {
	version
	by   *Read // the read that found it; nil: its own acknowledgement
	dead bool  // by found that this version had gone
}

// beats tells whether f is the stronger one of two floors.
func (f *floor) beats(o *floor) bool {
	switch {
	case o.Write == nil:
		return true
	case f.lo != o.lo:
		return f.lo > o.lo
	case f.dead != o.dead:
		return f.dead
	}
	return o.olderThan(&f.version)
}

// floors are those of one level.
type floors struct {
	acks              Acks
	acked, read, gone floor
}

// pass goes over the reads of one register in the order of their calls.
type pass struct {
	*registerCheck
	g       *register
	levels  []*floors
	deaths  []killer   // deletions, by the instant of their calls
	expired []*version // those that may expire
	gone    map[*Read]floor
}

func (c *registerCheck) register(g *register) {
	p := &pass{registerCheck: c, g: g, gone: map[*Read]floor{}}
	p.killers()
	acked := slices.DeleteFunc(slices.Clone(g.writes), func(v *version) bool { return v.Outcome != OK })
	slices.SortStableFunc(acked, func(a, b *version) int { return cmp.Compare(a.Return, b.Return) })
	byCall, byReturn := slices.Clone(g.reads), slices.Clone(g.reads)
	slices.SortStableFunc(byCall, func(a, b *Read) int { return cmp.Compare(a.Call, b.Call) })
	slices.SortStableFunc(byReturn, func(a, b *Read) int { return cmp.Compare(a.Return, b.Return) })
	w, q := 0, 0
	for _, r := range byCall {
		for ; w < len(acked) && acked[w].Return < r.Call; w++ {
			p.acked(acked[w])
		}
		for ; q < len(byReturn) && byReturn[q].Return < r.Call; q++ {
			p.found(byReturn[q])
		}
		p.read(r)
	}
}

// killers collects what may empty the register.
func (p *pass) killers() {
	for _, v := range p.g.writes {
		switch {
		case v.Outcome == NotApplied:
		case v.Delete:
			p.deaths = append(p.deaths, killer{v.Call, v.hi})
		case v.Expires != 0:
			p.expired = append(p.expired, v)
		}
	}
	slices.SortStableFunc(p.deaths, func(a, b killer) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(p.deaths); i++ {
		p.deaths[i].hi = max(p.deaths[i].hi, p.deaths[i-1].hi)
	}
}

func (p *pass) level(a Acks) *floors {
	for _, l := range p.levels {
		if l.acks == a {
			return l
		}
	}
	l := &floors{acks: a}
	p.levels = append(p.levels, l)
	return l
}

// acked takes note of an acknowledged write.
func (p *pass) acked(v *version) {
	l := p.level(v.Acks)
	if f := (floor{version: *v}); f.beats(&l.acked) {
		l.acked = f
	}
}

// found takes note of what a read established: it repairs the replicas that it asked before it answers.
func (p *pass) found(r *Read) {
	l := p.level(r.Acks)
	if f, ok := p.gone[r]; ok && f.beats(&l.gone) {
		l.gone = f
	}
	if v := p.g.value[r.Value]; !r.Null && v != nil && v.Outcome != NotApplied {
		if f := (floor{version: *v, by: r}); f.beats(&l.read) {
			l.read = f
		}
	}
}

// reckon returns the floors that a read has to reckon with.
func (p *pass) reckon(r *Read) (acked, read, gone floor) {
	for _, l := range p.levels {
		if !r.Settled && !p.h.Topology.Overlap(l.acks, r.Acks) {
			continue
		}
		if l.acked.Write != nil && l.acked.beats(&acked) {
			acked = l.acked
		}
		if l.read.Write != nil && l.read.beats(&read) {
			read = l.read
		}
		if l.gone.Write != nil && l.gone.beats(&gone) {
			gone = l.gone
		}
	}
	return acked, read, gone
}

func (p *pass) read(r *Read) {
	acked, read, gone := p.reckon(r)
	if r.Null {
		p.nothing(r, &acked, &read)
		return
	}
	v := p.g.value[r.Value]
	if v == nil {
		p.report.add(CheckerDurability, "%s, which nobody wrote", p.showRead(r))
		return
	}
	p.source(r, v)
	switch {
	case acked.Write == nil || !v.olderThan(&acked.version):
	case acked.Delete:
		p.report.add(CheckerResurrection, "%s, written by %s; before that, %s", p.showRead(r), p.showWrite(v), p.showWrite(&acked.version))
	default:
		p.report.add(CheckerDurability, "%s, written by %s; before that, %s", p.showRead(r), p.showWrite(v), p.showWrite(&acked.version))
	}
	if read.Write != nil && v.olderThan(&read.version) {
		p.report.add(CheckerMonotonic, "%s, written by %s; before that, %s, written by %s", p.showRead(r), p.showWrite(v), p.showRead(read.by), p.showWrite(&read.version))
	}
	if gone.Write != nil && v.hi <= gone.lo {
		p.report.add(CheckerResurrection, "%s, written by %s; before that, %s, when %s was superseded", p.showRead(r), p.showWrite(v), p.showRead(gone.by), p.showWrite(&gone.version))
	}
}

// source looks at whether the value may be seen at all.
func (p *pass) source(r *Read, v *version) {
	switch {
	case v.Outcome == NotApplied:
		p.report.add(CheckerHonesty, "%s, but %s", p.showRead(r), p.showWrite(v))
	case v.Call >= r.Return:
		p.report.add(CheckerDurability, "%s before it was written by %s", p.showRead(r), p.showWrite(v))
	case v.Expires != 0 && r.Now >= v.Expires:
		p.report.add(CheckerResurrection, "%s at second %d, but %s expired at %d", p.showRead(r), r.Now, p.showWrite(v), v.Expires)
	}
	if r.TS != 0 && v.TS != 0 && r.TS != v.TS {
		p.report.add(CheckerDurability, "%s with timestamp %d, but %s", p.showRead(r), r.TS, p.showWrite(v))
	} else if r.TS != 0 && v.TS == 0 && r.TS != v.lo && r.TS != v.hi {
		p.report.add(CheckerDurability, "%s with timestamp %d, which another read showed with %d; it is %s", p.showRead(r), r.TS, v.hi, p.showWrite(v))
	}
}

// nothing looks at a read that found nothing.
func (p *pass) nothing(r *Read, acked, read *floor) {
	strongest := acked
	if read.Write != nil && read.beats(strongest) {
		strongest = read
	}
	if strongest.Write == nil {
		return
	}
	if !strongest.dies(r.Now) && !p.killed(r, &strongest.version) {
		if strongest.by == nil {
			p.report.add(CheckerDurability, "%s; before that, %s", p.showRead(r), p.showWrite(&strongest.version))
		} else {
			p.report.add(CheckerMonotonic, "%s; before that, %s, written by %s", p.showRead(r), p.showRead(strongest.by), p.showWrite(&strongest.version))
		}
		return
	}
	// It is gone for good, unless it was the request's own clock that made it so.
	if p.expirable(r, &strongest.version) {
		return
	}
	f := *strongest
	f.by, f.dead = r, true
	p.gone[r] = f
}

// killed tells whether something may have emptied the register after v when r was answered.
func (p *pass) killed(r *Read, v *version) bool {
	n, _ := slices.BinarySearchFunc(p.deaths, r.Return, func(k killer, at Instant) int { return cmp.Compare(k.from, at) })
	return n > 0 && p.deaths[n-1].hi >= v.lo || p.expirable(r, v)
}

// expirable tells whether v or something after it may have expired for r.
func (p *pass) expirable(r *Read, v *version) bool {
	return slices.ContainsFunc(p.expired, func(k *version) bool {
		return k.Call < r.Return && k.hi >= v.lo && k.dies(r.Now)
	})
}

func (c *registerCheck) showWrite(v *version) string {
	what := fmt.Sprintf("write %d of %s = %s", v.Op, v.Register, quote(v.Value))
	if v.Delete {
		what = fmt.Sprintf("deletion %d of %s", v.Op, v.Register)
	}
	var ts string
	switch {
	case v.TS != 0:
		ts = fmt.Sprintf("at timestamp %d", v.TS)
	case v.lo == v.hi:
		ts = fmt.Sprintf("at timestamp %d of the coordinator", v.lo)
	default:
		ts = fmt.Sprintf("at a timestamp of the coordinator from %d on", v.lo)
	}
	if v.Expires != 0 {
		ts += fmt.Sprintf(" until second %d", v.Expires)
	}
	return fmt.Sprintf("%s %s was %s at %s by node %d in %s", what, ts, v.Outcome, v.Level, v.Node, span(c.h.Start, v.Call, v.Return))
}

func (c *registerCheck) showRead(r *Read) string {
	what := "found nothing in " + r.Register
	if !r.Null {
		what = fmt.Sprintf("showed %s = %s", r.Register, quote(r.Value))
	}
	return fmt.Sprintf("read %d at %s by node %d in %s %s", r.Op, r.Level, r.Node, span(c.h.Start, r.Call, r.Return), what)
}
