package check

import (
	"strings"
	"testing"
	"time"
)

var rf3 = Topology{RF: 3, In: [DCsMax]int{3}}

func replicas(n int) Acks { return Acks{All: n} }

const (
	one    = 1
	quorum = 2
	all    = 3
)

// at is an instant in milliseconds.
func at(ms int64) Instant { return Instant(ms * int64(time.Millisecond)) }

// put is an acknowledged write of k with a client's timestamp, in [call, ret] milliseconds.
func put(value string, ts, call, ret int64, acks int) Write {
	return Write{Op: int(ts), Register: "k", Value: value, TS: ts, Acks: replicas(acks), Call: at(call), Return: at(ret)}
}

func (w Write) del() Write          { w.Value, w.Delete = "", true; return w }
func (w Write) was(o Outcome) Write { w.Outcome = o; return w }
func (w Write) expires(s int64) Write {
	w.Expires = s
	return w
}
func (w Write) server(node int) Write { w.TS, w.Node = 0, node; return w }

// get is a read of k; "" is nothing.
func get(value string, call, ret int64, acks int) Read {
	return Read{Op: int(call), Register: "k", Value: value, Null: value == "", Acks: replicas(acks), Call: at(call), Return: at(ret)}
}

func (r Read) now(s int64) Read { r.Now = s; return r }
func (r Read) settled() Read    { r.Settled = true; return r }
func (r Read) ts(ts int64) Read { r.TS = ts; return r }

type registersCase struct {
	name   string
	writes []Write
	reads  []Read
	skew   time.Duration
	want   string // checker; "": legal
	says   string // part of the text
}

func (c *registersCase) run(t *testing.T) {
	h := Registers{Topology: rf3, Skew: c.skew, Writes: c.writes, Reads: c.reads}
	found := h.Check()
	if c.want == "" {
		if len(found) > 0 {
			t.Errorf("a legal history is reported: %v", found)
		}
		return
	}
	if len(found) == 0 {
		t.Fatalf("not caught, want %s", c.want)
	}
	for _, v := range found {
		if v.Checker != c.want || !strings.Contains(v.What, c.says) {
			t.Errorf("found %v, want %s with %q", v, c.want, c.says)
		}
	}
}

// TestRegistersLegal: every anomaly that last write wins and weak levels allow is none.
func TestRegistersLegal(t *testing.T) {
	for _, c := range []registersCase{
		{name: "nothing"},
		{name: "read your write", writes: []Write{put("a", 1, 0, 1, quorum)}, reads: []Read{get("a", 2, 3, quorum)}},
		{name: "concurrent read sees nothing", writes: []Write{put("a", 1, 0, 5, quorum)}, reads: []Read{get("", 2, 3, quorum)}},
		{name: "answer and call at one instant are concurrent", writes: []Write{put("a", 1, 0, 2, quorum)}, reads: []Read{get("", 2, 3, quorum)}},
		{name: "W+R=RF is stale", writes: []Write{put("a", 1, 0, 1, quorum)}, reads: []Read{get("", 2, 3, one)}},
		{name: "ONE and ONE go back", writes: []Write{put("a", 1, 0, 1, all), put("b", 2, 2, 3, one)},
			reads: []Read{get("b", 4, 5, one), get("a", 6, 7, one)}},
		{name: "a later write with an earlier timestamp loses", writes: []Write{put("new", 9, 0, 1, quorum), put("old", 5, 2, 3, quorum)},
			reads: []Read{get("new", 4, 5, quorum)}},
		{name: "an unknown write shows up late", writes: []Write{put("a", 1, 0, 1, quorum), put("b", 2, 2, 3, quorum).was(Unknown)},
			reads: []Read{get("a", 4, 5, quorum), get("a", 6, 7, quorum), get("b", 8, 9, quorum), get("b", 10, 11, quorum)}},
		{name: "an unknown write never shows up", writes: []Write{put("b", 2, 2, 3, quorum).was(Unknown)}, reads: []Read{get("", 4, 5, all).settled()}},
		{name: "an unknown deletion takes effect late", writes: []Write{put("a", 1, 0, 1, quorum), put("", 2, 2, 3, quorum).del().was(Unknown)},
			reads: []Read{get("a", 4, 5, quorum), get("", 6, 7, quorum), get("", 8, 9, quorum)}},
		{name: "a deletion and a newer write", writes: []Write{put("a", 1, 0, 1, quorum), put("", 2, 2, 3, quorum).del(), put("c", 3, 4, 5, quorum)},
			reads: []Read{get("c", 6, 7, quorum)}},
		{name: "a deletion with an old timestamp deletes nothing", writes: []Write{put("a", 5, 0, 1, quorum), put("", 2, 2, 3, quorum).del()},
			reads: []Read{get("a", 6, 7, quorum)}},
		{name: "of equal timestamps the larger value wins", writes: []Write{put("z", 5, 0, 1, quorum), put("b", 5, 2, 3, quorum)}, reads: []Read{get("z", 4, 5, quorum)}},
		{name: "of equal timestamps the deletion wins", writes: []Write{put("", 5, 0, 1, quorum).del(), put("b", 5, 2, 3, quorum)}, reads: []Read{get("", 4, 5, quorum)}},
		{name: "expired", writes: []Write{put("a", 1, 0, 1, quorum).expires(10)}, reads: []Read{get("a", 2, 3, quorum).now(9), get("", 4, 5, quorum).now(10)}},
		{name: "a clock that goes back shows it again", writes: []Write{put("a", 1, 0, 1, quorum).expires(10)},
			reads: []Read{get("", 4, 5, quorum).now(10), get("a", 6, 7, quorum).now(9)}},
		{name: "an expired overwrite hides what was before", writes: []Write{put("a", 1, 0, 1, quorum), put("b", 2, 2, 3, quorum).expires(10)},
			reads: []Read{get("", 4, 5, quorum).now(11)}},
		{name: "an unknown overwrite that expires", writes: []Write{put("a", 1, 0, 1, quorum), put("b", 2, 2, 3, quorum).expires(10).was(Unknown)},
			reads: []Read{get("a", 4, 5, quorum).now(9), get("", 6, 7, quorum).now(10)}},
		{name: "a weak read shows what a weak write did", writes: []Write{put("a", 1, 0, 1, one)}, reads: []Read{get("a", 2, 3, one), get("", 4, 5, one)}},
		{name: "the coordinator's clock is behind", skew: 10 * time.Second, writes: []Write{put("a", 1, 20000, 20001, quorum).server(1), put("b", 2, 20002, 20003, quorum).server(2)},
			reads: []Read{get("a", 20004, 20005, quorum).ts(24_000_000)}},
		{name: "timestamps of one coordinator rise", skew: 10 * time.Second, writes: []Write{put("a", 1, 20000, 20001, quorum).server(1), put("b", 2, 20002, 20003, quorum).server(1)},
			reads: []Read{get("a", 20001, 20002, quorum).ts(24_000_000), get("b", 20004, 20005, quorum).ts(24_000_001)}},
		{name: "local quorums of different data centres", writes: []Write{{Register: "k", Value: "a", TS: 1, Acks: Acks{All: 1, In: [DCsMax]int{1}}, Return: at(1)}},
			reads: []Read{{Register: "k", Null: true, Acks: Acks{All: 1, In: [DCsMax]int{0, 1}}, Call: at(2), Return: at(3)}}},
	} {
		t.Run(c.name, c.run)
	}
}

// TestRegistersCaught: each kind of violation is found and told from the others.
func TestRegistersCaught(t *testing.T) {
	for _, c := range []registersCase{
		{name: "lost", writes: []Write{put("a", 1, 0, 1, quorum)}, reads: []Read{get("", 2, 3, quorum)}, want: CheckerDurability, says: "write 1 of k"},
		{name: "lost at ALL and ONE", writes: []Write{put("a", 1, 0, 1, all)}, reads: []Read{get("", 2, 3, one)}, want: CheckerDurability},
		{name: "lost at ONE and ALL", writes: []Write{put("a", 1, 0, 1, one)}, reads: []Read{get("", 2, 3, all)}, want: CheckerDurability},
		{name: "a hint of ANY was lost", writes: []Write{put("a", 1, 0, 1, 0)}, reads: []Read{get("", 2, 3, all).settled()}, want: CheckerDurability},
		{name: "stale", writes: []Write{put("a", 1, 0, 1, quorum), put("b", 2, 2, 3, quorum)}, reads: []Read{get("a", 4, 5, quorum)}, want: CheckerDurability, says: "= \"b\""},
		{name: "stale although the newer one was acknowledged first", writes: []Write{put("b", 9, 0, 1, quorum), put("a", 1, 2, 3, quorum)},
			reads: []Read{get("a", 4, 5, quorum)}, want: CheckerDurability},
		{name: "the smaller value of equal timestamps", writes: []Write{put("z", 5, 0, 1, quorum), put("b", 5, 2, 3, quorum)}, reads: []Read{get("b", 4, 5, quorum)},
			want: CheckerDurability},
		{name: "a live value against a deletion of the same timestamp", writes: []Write{put("", 5, 0, 1, quorum).del(), put("b", 5, 2, 3, quorum)},
			reads: []Read{get("b", 4, 5, quorum)}, want: CheckerResurrection},
		{name: "an older deletion deletes", writes: []Write{put("a", 5, 0, 1, quorum), put("", 2, 2, 3, quorum).del()}, reads: []Read{get("", 4, 5, quorum)},
			want: CheckerDurability},
		{name: "a refused deletion deletes", writes: []Write{put("a", 1, 0, 1, quorum), put("", 2, 2, 3, quorum).del().was(NotApplied)},
			reads: []Read{get("", 4, 5, quorum)}, want: CheckerDurability},
		{name: "a deletion that is only to come", writes: []Write{put("a", 1, 0, 1, quorum), put("", 2, 8, 9, quorum).del()}, reads: []Read{get("", 4, 5, quorum)},
			want: CheckerDurability},
		{name: "nobody wrote it", reads: []Read{get("a", 2, 3, one)}, want: CheckerDurability, says: "nobody"},
		{name: "before it was written", writes: []Write{put("a", 1, 6, 7, quorum)}, reads: []Read{get("a", 2, 3, one)}, want: CheckerDurability, says: "before it was written"},
		{name: "another timestamp", writes: []Write{put("a", 1, 0, 1, quorum)}, reads: []Read{get("a", 2, 3, one).ts(7)}, want: CheckerDurability, says: "timestamp 7"},
		{name: "two timestamps of the coordinator", writes: []Write{put("a", 1, 0, 1, quorum).server(0)}, skew: time.Hour,
			reads: []Read{get("a", 2, 3, one).ts(7), get("a", 4, 5, one).ts(8)}, want: CheckerDurability, says: "timestamp 8"},
		{name: "deleted and there", writes: []Write{put("a", 1, 0, 1, quorum), put("", 2, 2, 3, quorum).del()}, reads: []Read{get("a", 4, 5, quorum)},
			want: CheckerResurrection, says: "deletion 2"},
		{name: "gone and back", writes: []Write{put("a", 1, 0, 1, quorum), put("", 2, 2, 3, quorum).del().was(Unknown)},
			reads: []Read{get("", 4, 5, quorum), get("a", 6, 7, quorum)}, want: CheckerResurrection, says: "found nothing"},
		{name: "expired and there", writes: []Write{put("a", 1, 0, 1, quorum).expires(10)}, reads: []Read{get("a", 2, 3, one).now(10)}, want: CheckerResurrection, says: "expired"},
		{name: "expired too early", writes: []Write{put("a", 1, 0, 1, quorum).expires(10)}, reads: []Read{get("", 2, 3, quorum).now(9)}, want: CheckerDurability},
		{name: "reads go back", writes: []Write{put("a", 1, 0, 1, quorum), put("b", 2, 2, 3, quorum).was(Unknown)},
			reads: []Read{get("b", 4, 5, quorum), get("a", 6, 7, quorum)}, want: CheckerMonotonic, says: "read 4"},
		{name: "reads at ONE and ALL go back", writes: []Write{put("a", 1, 0, 1, all), put("b", 2, 2, 3, quorum).was(Unknown)},
			reads: []Read{get("b", 4, 5, one), get("a", 6, 7, all)}, want: CheckerMonotonic},
		{name: "found, then nothing", writes: []Write{put("a", 1, 0, 1, quorum).was(Unknown)}, reads: []Read{get("a", 4, 5, quorum), get("", 6, 7, quorum)},
			want: CheckerMonotonic},
		{name: "refused and there", writes: []Write{put("a", 1, 0, 1, quorum).was(NotApplied)}, reads: []Read{get("a", 4, 5, one)}, want: CheckerHonesty, says: "not applied"},
		{name: "a coordinator's timestamps go back", skew: 10 * time.Second, writes: []Write{put("a", 1, 20000, 20001, quorum).server(1), put("b", 2, 22002, 22003, quorum).server(1)},
			reads: []Read{get("a", 20001, 20002, quorum).ts(24_000_000), get("a", 22004, 22005, quorum).ts(24_000_000)}, want: CheckerDurability},
		{name: "lost beyond any clock skew", skew: time.Second, writes: []Write{put("a", 1, 20000, 20001, quorum).server(1), put("b", 2, 32002, 32003, quorum).server(2)},
			reads: []Read{get("a", 33004, 33005, quorum)}, want: CheckerDurability},
		{name: "local quorums of one data centre", writes: []Write{{Register: "k", Value: "a", TS: 1, Acks: Acks{All: 2, In: [DCsMax]int{2}}, Return: at(1)}},
			reads: []Read{{Register: "k", Null: true, Acks: Acks{All: 2, In: [DCsMax]int{2}}, Call: at(2), Return: at(3)}}, want: CheckerDurability},
	} {
		t.Run(c.name, c.run)
	}
}

func TestViolationsAreCounted(t *testing.T) {
	h := Registers{Topology: rf3}
	for i := range int64(20) {
		h.Reads = append(h.Reads, get("x", i, i+1, one))
	}
	found := h.Check()
	if len(found) != perCheckerMax || !strings.Contains(found[0].What, "(and 12 more)") {
		t.Errorf("%d violations, the first %v", len(found), found[0])
	}
}

func TestOverlap(t *testing.T) {
	two := Topology{RF: 6, In: [DCsMax]int{3, 3}}
	local := func(dc int) (a Acks) { a.All, a.In[dc] = 2, 2; return a }
	each := Acks{All: 4, In: [DCsMax]int{2, 2}}
	for _, c := range []struct {
		a, b Acks
		want bool
	}{{replicas(4), replicas(3), true}, {replicas(3), replicas(3), false}, {local(0), local(0), true}, {local(0), local(1), false}, {each, local(1), true}} {
		if got := two.Overlap(c.a, c.b); got != c.want || two.Overlap(c.b, c.a) != got {
			t.Errorf("%v and %v overlap: %v", c.a, c.b, got)
		}
	}
}
