package check

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// expect compares what was found with the one checker that should have, "" for none.
func expect(t *testing.T, found []Violation, checker string) {
	t.Helper()
	if checker == "" && len(found) > 0 {
		t.Errorf("a legal history is reported: %v", found)
	}
	if checker != "" && len(found) == 0 {
		t.Errorf("not caught, want %s", checker)
	}
	for _, v := range found {
		if checker != "" && v.Checker != checker {
			t.Errorf("found %v, want %s", v, checker)
		}
	}
}

func TestCounters(t *testing.T) {
	add := func(delta, call, ret int64, o Outcome) Add {
		return Add{Counter: "c", Delta: delta, Acks: replicas(quorum), Call: at(call), Return: at(ret), Outcome: o}
	}
	see := func(value, call, ret int64, acks int) CounterRead {
		return CounterRead{Counter: "c", Value: value, Acks: replicas(acks), Call: at(call), Return: at(ret)}
	}
	weak := Add{Counter: "c", Delta: 7, Acks: replicas(one), Call: at(0), Return: at(1)}
	settled := see(0, 8, 9, all)
	settled.Settled = true
	for _, c := range []struct {
		name  string
		adds  []Add
		reads []CounterRead
		want  string
	}{
		{"nothing", nil, []CounterRead{see(0, 0, 1, quorum)}, ""},
		{"acknowledged", []Add{add(5, 0, 1, OK), add(-2, 2, 3, OK)}, []CounterRead{see(3, 4, 5, quorum)}, ""},
		{"lost", []Add{add(5, 0, 1, OK), add(2, 2, 3, OK)}, []CounterRead{see(5, 4, 5, quorum)}, CheckerCounters},
		{"twice", []Add{add(5, 0, 1, OK)}, []CounterRead{see(10, 4, 5, quorum)}, CheckerCounters},
		{"twice at ONE", []Add{add(5, 0, 1, OK)}, []CounterRead{see(10, 4, 5, one)}, CheckerCounters},
		{"an unknown one is in it", []Add{add(5, 0, 1, Unknown)}, []CounterRead{see(5, 4, 5, quorum)}, ""},
		{"an unknown one is not in it", []Add{add(5, 0, 1, Unknown)}, []CounterRead{see(0, 4, 5, quorum)}, ""},
		{"an unknown one is in it twice", []Add{add(5, 0, 1, Unknown)}, []CounterRead{see(10, 4, 5, quorum)}, CheckerCounters},
		{"a refused one is in it", []Add{add(5, 0, 1, NotApplied)}, []CounterRead{see(5, 4, 5, quorum)}, CheckerCounters},
		{"under way", []Add{add(5, 3, 6, OK)}, []CounterRead{see(5, 4, 5, quorum), see(0, 4, 5, quorum)}, ""},
		{"only to come", []Add{add(5, 8, 9, OK)}, []CounterRead{see(5, 4, 5, quorum)}, CheckerCounters},
		{"a weak read is stale", []Add{add(5, 0, 1, OK)}, []CounterRead{see(0, 4, 5, one)}, ""},
		{"a weak write is lost in the end", []Add{weak}, []CounterRead{settled}, CheckerCounters},
		{"goes back", []Add{add(5, 0, 1, Unknown)}, []CounterRead{see(5, 2, 3, quorum), see(0, 4, 5, quorum)}, CheckerMonotonic},
		{"goes back at ONE", []Add{add(5, 0, 1, Unknown)}, []CounterRead{see(5, 2, 3, one), see(0, 4, 5, one)}, ""},
		{"goes back by a decrement", []Add{add(5, 0, 1, Unknown), add(-5, 0, 1, Unknown)}, []CounterRead{see(5, 2, 3, quorum), see(0, 4, 5, quorum)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, (&Counters{Topology: rf3, Adds: c.adds, Reads: c.reads}).Check(), c.want)
		})
	}
}

func TestBatches(t *testing.T) {
	parts := []string{"g/0", "g/1"}
	batch := func(value string, ts int64, o Outcome) Batch {
		return Batch{Value: value, Parts: parts, TS: ts, Call: at(0), Return: at(1), Outcome: o}
	}
	see := func(a, b string) BatchView {
		return BatchView{Parts: parts, Values: []string{a, b}, Call: at(2), Return: at(3)}
	}
	atomic := func(v BatchView) BatchView { v.Atomic = true; return v }
	settled := func(v BatchView) BatchView { v.Settled = true; return v }
	for _, c := range []struct {
		name  string
		write []Batch
		view  BatchView
		want  string
	}{
		{"whole", []Batch{batch("x", 1, OK)}, atomic(settled(see("x", "x"))), ""},
		{"half of several partitions while it is under way", []Batch{batch("x", 1, Unknown)}, see("x", ""), ""},
		{"half of several partitions in the end", []Batch{batch("x", 1, Unknown)}, settled(see("x", "")), CheckerBatches},
		{"half of one partition", []Batch{batch("x", 1, Unknown)}, atomic(see("x", "")), CheckerBatches},
		{"half old, half new", []Batch{batch("x", 1, OK), batch("y", 2, Unknown)}, settled(see("x", "y")), CheckerBatches},
		{"nothing of an unknown one", []Batch{batch("x", 1, Unknown)}, settled(see("", "")), ""},
		{"nothing of an acknowledged one", []Batch{batch("x", 1, OK)}, settled(see("", "")), CheckerBatches},
		{"an older one", []Batch{batch("x", 1, Unknown), batch("y", 2, OK)}, settled(see("x", "x")), CheckerBatches},
		{"a newer unknown one", []Batch{batch("x", 1, OK), batch("y", 2, Unknown)}, settled(see("y", "y")), ""},
		{"refused", []Batch{batch("x", 1, NotApplied)}, see("x", ""), CheckerHonesty},
		{"of nobody", nil, see("x", "x"), CheckerBatches},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, (&Batches{Writes: c.write, Views: []BatchView{c.view}}).Check(), c.want)
		})
	}
}

// TestBatches_CoordinatorsTimestamps: where coordinators give the timestamps it is the order of one coordinator's answers, true time beyond the
// clock skew, or a timestamp that was shown that tells which batch is the last.
func TestBatches_CoordinatorsTimestamps(t *testing.T) {
	parts := []string{"g/0", "g/1"}
	batch := func(value string, node int, call, ret int64, o Outcome) Batch {
		return Batch{Value: value, Parts: parts, Node: node, Call: at(call), Return: at(ret), Outcome: o}
	}
	see := func(value string, stamps ...int64) BatchView {
		return BatchView{Parts: parts, Values: []string{value, value}, Stamps: stamps, Call: at(20_000), Return: at(20_001), Settled: true}
	}
	early := func(v BatchView) BatchView { v.Settled, v.Call, v.Return = false, at(5), at(6); return v }
	x, y := batch("x", 0, 0, 1, OK), batch("y", 0, 2, 3, OK)
	for _, c := range []struct {
		name  string
		write []Batch
		views []BatchView
		want  string
	}{
		{"the last of one coordinator", []Batch{x, y}, []BatchView{see("y")}, ""},
		{"the last one is lost", []Batch{x, y}, []BatchView{see("x")}, CheckerBatches},
		{"in whatever order they are told", []Batch{y, x}, []BatchView{see("x")}, CheckerBatches},
		{"side by side", []Batch{x, batch("y", 0, 1, 3, OK)}, []BatchView{see("x")}, ""},
		{"of two coordinators within the skew", []Batch{x, batch("y", 1, 2, 3, OK)}, []BatchView{see("x")}, ""},
		{"of two coordinators beyond the skew", []Batch{x, batch("y", 1, 9000, 9001, OK)}, []BatchView{see("x")}, CheckerBatches},
		{"an open one may come late", []Batch{batch("x", 0, 0, 1, Unknown), y}, []BatchView{see("x")}, ""},
		{"an open one that is known to be older", []Batch{batch("x", 0, 0, 1, Unknown), batch("y", 1, 9000, 9001, OK)}, []BatchView{see("x", 500, 500)}, CheckerBatches},
		{"shown to be newer", []Batch{x, batch("y", 1, 2, 3, OK)}, []BatchView{early(see("y", 700, 700)), see("x", 500, 500)}, CheckerBatches},
		{"shown to be older", []Batch{x, batch("y", 1, 2, 3, OK)}, []BatchView{early(see("y", 300, 300)), see("x", 500, 500)}, ""},
		{"not begun when it was looked at", []Batch{x, batch("y", 0, 30_000, 30_001, OK)}, []BatchView{see("x")}, ""},
		{"two timestamps", []Batch{x}, []BatchView{see("x", 500, 501)}, CheckerBatches},
		{"another timestamp later", []Batch{x}, []BatchView{early(see("x", 500, 500)), see("x", 501, 501)}, CheckerBatches},
		{"not asked for", []Batch{x}, []BatchView{early(see("x", 500, 0)), see("x", 0, 500)}, ""},
		{"not the client's timestamp", []Batch{{Value: "x", Parts: parts, TS: 7, Call: at(0), Return: at(1)}}, []BatchView{see("x", 7, 8)}, CheckerBatches},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, (&Batches{Skew: time.Second, Writes: c.write, Views: c.views}).Check(), c.want)
		})
	}
}

func scanOf(rows ...string) *Scan {
	s := &Scan{Call: at(2), Return: at(3)}
	tokens := map[string]int64{"a": -5, "b": 0, "c": 9}
	for i, r := range rows {
		p, c, _ := strings.Cut(r, "/")
		row := ScanRow{Page: i / 2, Partition: p, Token: tokens[p], Register: r, Value: "v" + r}
		_, _ = fmt.Sscan(c, &row.Clust)
		s.Rows = append(s.Rows, row)
	}
	return s
}

func TestPages(t *testing.T) {
	reverse := func(s *Scan) *Scan { s.Reverse = true; return s }
	limit := func(s *Scan, n, per int) *Scan { s.Limit, s.PerPart = n, per; return s }
	for _, c := range []struct {
		name string
		scan *Scan
		want string
	}{
		{"empty", scanOf(), ""},
		{"in order", scanOf("a/1", "a/2", "b/0", "c/7"), ""},
		{"twice", scanOf("a/1", "a/2", "a/2", "b/0"), CheckerPages},
		{"out of order", scanOf("a/2", "a/1"), CheckerPages},
		{"backwards", reverse(scanOf("a/2", "a/1")), ""},
		{"backwards out of order", reverse(scanOf("a/1", "a/2")), CheckerPages},
		{"partitions out of order", scanOf("b/1", "a/2"), CheckerPages},
		{"back to a partition", scanOf("a/1", "b/1", "a/2"), CheckerPages},
		{"within the limits", limit(scanOf("a/1", "a/2", "b/0"), 3, 2), ""},
		{"beyond the limit", limit(scanOf("a/1", "a/2", "b/0"), 2, 0), CheckerPages},
		{"beyond the limit of a partition", limit(scanOf("a/1", "a/2", "a/3"), 0, 2), CheckerPages},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, c.scan.Check(), c.want) })
	}
}

// TestPagesAgainstModel: a row that a scan skips, or shows although it is deleted, contradicts the registers.
func TestPagesAgainstModel(t *testing.T) {
	var h Registers
	h.Topology = rf3
	for _, r := range []string{"a/1", "a/2", "b/1"} {
		w := put("v"+r, 1, 0, 1, quorum)
		w.Register = r
		h.Writes = append(h.Writes, w)
	}
	gone := put("", 2, 1, 1, quorum).del()
	gone.Register = "b/1"
	h.Writes = append(h.Writes, gone)
	known := []string{"a/1", "a/2", "b/1"}
	everything := func(string) bool { return true }
	for _, c := range []struct {
		name    string
		scan    *Scan
		covered func(string) bool
		want    string
	}{
		{"right", scanOf("a/1", "a/2"), everything, ""},
		{"skipped", scanOf("a/1"), everything, CheckerPages},
		{"not come that far", scanOf("a/1"), func(r string) bool { return r < "a/2" }, ""},
		{"deleted", scanOf("a/1", "a/2", "b/1"), everything, CheckerPages},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.Reads = c.scan.Reads(Read{Acks: replicas(quorum)}, known, c.covered)
			expect(t, AsPages(h.Check()), c.want)
		})
	}
}

func TestConverged(t *testing.T) {
	r := func(rows ...string) Replica {
		out := Replica{Name: fmt.Sprint(len(rows))}
		for _, row := range rows {
			k, v, _ := strings.Cut(row, "=")
			out.Rows = append(out.Rows, ReplicaRow{k, v})
		}
		return out
	}
	for _, c := range []struct {
		name string
		all  []Replica
		want int
	}{
		{"none", nil, 0},
		{"equal", []Replica{r("a=1", "b=2"), r("a=1", "b=2")}, 0},
		{"one lacks the last", []Replica{r("a=1", "b=2"), r("a=1")}, 1},
		{"one lacks the first", []Replica{r("b=2"), r("a=1", "b=2")}, 1},
		{"other content", []Replica{r("a=1"), r("a=1"), r("a=2")}, 1},
		{"everything", []Replica{r("a=1", "c=1"), r("b=1", "c=2")}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			if found := Converged("t", c.all); len(found) != c.want {
				t.Errorf("found %v", found)
			}
		})
	}
	if len(Quiet("t", "k", 0)) != 0 || len(Quiet("t", "k", 2)) != 1 {
		t.Error("Quiet")
	}
}

// cas builds a history of one partition, each operation in [2i, 2i+1] milliseconds unless it says otherwise.
type cas []CAS

func (h cas) add(o CAS) cas {
	o.Op, o.Partition = len(h), "p"
	if o.Call == 0 {
		o.Call, o.Return = at(int64(2*len(h)+1)), at(int64(2*len(h)+2))
	}
	return append(h, o)
}

func (h cas) insert(v string, applied bool) cas {
	return h.add(CAS{Kind: CASInsert, Value: v, Applied: applied})
}

func (h cas) update(from, to string, applied bool) cas {
	return h.add(CAS{Kind: CASUpdate, Expect: from, Value: to, Applied: applied})
}

func (h cas) push(v, x string, applied bool) cas {
	return h.add(CAS{Kind: CASAppend, Expect: v, Value: x, Applied: applied})
}

func (h cas) del(applied bool) cas { return h.add(CAS{Kind: CASDelete, Applied: applied}) }

func (h cas) see(v, l string) cas {
	return h.add(CAS{Kind: CASRead, Applied: true, Shown: true, ListToo: true, State: CASRow{v != "", v, l}})
}

// was changes the outcome of the last one.
func (h cas) was(o Outcome) cas {
	h[len(h)-1].Outcome = o
	return h
}

// shows makes the last one an answer that shows the row without its list.
func (h cas) shows(v string) cas {
	last := &h[len(h)-1]
	last.Shown, last.State = true, CASRow{Exists: v != "", V: v}
	return h
}

// during moves the last one to [call, ret] milliseconds.
func (h cas) during(call, ret int64) cas {
	h[len(h)-1].Call, h[len(h)-1].Return = at(call), at(ret)
	return h
}

func TestLinearize(t *testing.T) {
	start := cas{}.insert("a", true)
	for _, c := range []struct {
		name string
		h    cas
		want string
	}{
		{"in order", start.update("a", "b", true).update("a", "c", false).shows("b").see("b", "").del(true).see("", "").insert("d", true), ""},
		{"inserted twice", start.insert("b", true), CheckerLinearizable},
		{"deleted twice", start.del(true).del(true), CheckerLinearizable},
		{"lost update", start.update("a", "b", true).update("a", "c", true), CheckerLinearizable},
		{"stale serial read", start.update("a", "b", true).see("a", ""), CheckerLinearizable},
		{"lost", start.see("", ""), CheckerLinearizable},
		{"falsely not applied", start.update("a", "b", false), CheckerLinearizable},
		{"falsely not applied, and it was", start.update("a", "b", false).shows("a").see("b", ""), CheckerLinearizable},
		{"not applied shows what is not there", start.update("x", "b", false).shows("y"), CheckerLinearizable},
		{"no row", cas{}.update("x", "b", false).shows(""), ""},
		{"refused and seen", start.update("a", "b", true).was(NotApplied).see("b", ""), CheckerLinearizable},
		{"refused", start.update("a", "b", true).was(NotApplied).see("a", ""), ""},
		{"unknown and seen late", start.update("a", "b", true).was(Unknown).see("a", "").see("a", "").see("b", ""), ""},
		{"unknown and never seen", start.update("a", "b", true).was(Unknown).see("a", "").see("a", ""), ""},
		{"unknown, seen and lost", start.update("a", "b", true).was(Unknown).see("b", "").see("a", ""), CheckerLinearizable},
		{"unknown and twice", start.update("a", "b", true).was(Unknown).see("b", "").update("b", "a2", true).update("a2", "a", true).see("b", ""), CheckerLinearizable},
		{"unknown read says nothing", start.see("x", "").was(Unknown).see("a", ""), ""},
		{"concurrent", start.update("a", "b", true).during(10, 20).update("b", "c", true).during(11, 21).see("c", "").during(12, 19), ""},
		{"concurrent, but only one can", start.update("a", "b", true).during(10, 20).update("a", "c", true).during(11, 21), CheckerLinearizable},
		{"list", start.push("a", "x", true).push("a", "y", true).see("a", "x,y").update("a", "b", true).push("a", "z", false).shows("b").see("b", "x,y"), ""},
		{"list element lost", start.push("a", "x", true).push("a", "y", true).see("a", "y"), CheckerLinearizable},
		{"list element twice", start.push("a", "x", true).see("a", "x,x"), CheckerLinearizable},
		{"list out of order", start.push("a", "x", true).push("a", "y", true).see("a", "y,x"), CheckerLinearizable},
		{"list survives its row", start.push("a", "x", true).del(true).insert("b", true).see("b", "x"), CheckerLinearizable},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, searched, undecided := Linearize(0, c.h, 100_000)
			if undecided > 0 || searched != 1 {
				t.Errorf("%d of %d undecided", undecided, searched)
			}
			expect(t, found, c.want)
		})
	}
}

// TestLinearizeGivesUp: a search that is too long is counted, and many of them are a violation.
func TestLinearizeGivesUp(t *testing.T) {
	h := cas{}.insert("a", true).update("a", "b", true).update("b", "c", true)
	if found, searched, undecided := Linearize(0, h, 1); len(found) != 0 || searched != 1 || undecided != 1 {
		t.Errorf("%d of %d undecided, found %v", undecided, searched, found)
	}
	for _, c := range []struct {
		searched, undecided int
		want                string
	}{{0, 0, ""}, {1, 1, ""}, {2, 2, CheckerBounded}, {40, 2, ""}, {40, 3, CheckerBounded}, {1000, 50, ""}, {1000, 51, CheckerBounded}} {
		expect(t, Decided(c.searched, c.undecided), c.want)
	}
}

// TestLinearizeExplains: the text names the first answer that cannot be, not the last one.
func TestLinearizeExplains(t *testing.T) {
	h := cas{}.insert("a", true).update("a", "b", true).see("a", "").see("b", "").update("b", "c", true)
	found, _, _ := Linearize(0, h, 100_000)
	if len(found) != 1 || !strings.Contains(found[0].What, "no order explains op 2 serial read") {
		t.Errorf("found %v", found)
	}
}

// TestLinearizeRandom: random histories of a register that really is linearizable, with open operations, are legal; one answer
// changed is caught when it is about a value that the row never had at that time.
func TestLinearizeRandom(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 50
	}
	for seed := range uint64(rounds) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		h := randomCAS(rnd)
		if found, _, undecided := Linearize(0, h, 1_000_000); len(found) > 0 || undecided > 0 {
			t.Fatalf("seed %d: undecided %d, found %v", seed, undecided, found)
		}
		for i := range h {
			if h[i].Kind == CASRead && h[i].Outcome == OK {
				h[i].State = CASRow{true, "never", ""}
				if found, _, _ := Linearize(0, h, 1_000_000); len(found) == 0 {
					t.Fatalf("seed %d: a wrong read %d is not caught", seed, i)
				}
				break
			}
		}
	}
}

// randomCAS runs clients one step at a time on a row that is linearizable: each takes effect at one instant between call and answer.
func randomCAS(rnd *rand.Rand) []CAS {
	var h []CAS
	var row CASRow
	busy := [5]int64{} // until when each client's operation lasts
	for now := int64(1); len(h) < 60; now++ {
		c := rnd.IntN(len(busy))
		if busy[c] >= now {
			continue
		}
		o := CAS{Op: len(h), Partition: "p", Kind: CASKind(rnd.IntN(5)), Expect: row.V, Value: fmt.Sprint("x", len(h)), Call: at(10 * now)}
		if o.Kind == CASInsert || o.Kind == CASRead {
			o.Expect = ""
		}
		if rnd.IntN(12) == 0 { // unknown: it happened at once, or never
			o.Outcome, o.Return = Unknown, at(10*now+5)
			if rnd.IntN(2) == 0 {
				_, row = row.apply(&o)
			}
		} else {
			o.Applied, row = row.apply(&o)
			busy[c] = now + rnd.Int64N(4)
			o.Return = at(10*busy[c] + 5)
			o.Shown = o.Kind == CASRead || !o.Applied && !(o.Kind == CASDelete && o.Expect == "")
			o.State, o.ListToo = row, o.Kind == CASRead
		}
		h = append(h, o)
	}
	return h
}
