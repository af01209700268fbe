package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/helenusdb/helenus/ring"
)

func hostID(n int) (id ring.HostID) {
	binary.BigEndian.PutUint32(id[:], uint32(n))
	id[15] = 1
	return id
}

var epoch = time.Unix(1_700_000_000, 0)

func at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

func life(n int, generation int64) State {
	return State{ID: hostID(n), Generation: generation, Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(n+1))}
}

func testView() *view {
	self := life(0, 5)
	self.Alive = true
	return newView(self, 100)
}

// drain delivers everything into a list of "up 1/2" lines.
func drain(v *view) (out []string) {
	line := func(what string) func(State) {
		return func(st State) {
			out = append(out, fmt.Sprintf("%s %d/%d", what, binary.BigEndian.Uint32(st.ID[:4]), st.Generation))
		}
	}
	e := Events{Up: line("up"), Down: line("down"), Update: line("update")}
	for {
		old, known, now, ok := v.next()
		if !ok {
			return out
		}
		e.deliver(old, known, now)
	}
}

func expect(t *testing.T, v *view, want ...string) {
	t.Helper()
	if got := drain(v); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestLateMessageAboutAFormerLifeChangesNothing(t *testing.T) { // M8
	v := testView()
	v.up(life(1, 1), at(0))
	v.up(life(1, 2), at(1))
	expect(t, v, "up 1/2")
	v.down(hostID(1), 1, at(2))
	v.up(life(1, 1), at(3))
	expect(t, v)
	if st, ok := v.snapshot().state(hostID(1)); !ok || !st.Alive || st.Generation != 2 {
		t.Errorf("state %+v", st)
	}
	if err := v.admit(hostID(1), 1); !errors.Is(err, errStale) {
		t.Error(err)
	}
}

func TestRestartBeforeConvictionIsDownThenUp(t *testing.T) { // M12, M13
	v := testView()
	v.up(life(1, 1), at(0))
	expect(t, v, "up 1/1")
	moved := life(1, 2)
	moved.Addr = netip.MustParseAddrPort("10.0.0.9:7000")
	v.up(moved, at(1))
	expect(t, v, "down 1/1", "up 1/2")
	if st, _ := v.snapshot().state(hostID(1)); st.Addr != moved.Addr || !st.Since.Equal(at(1)) {
		t.Errorf("state %+v", st)
	}
}

func TestUpdatesKeepSince(t *testing.T) {
	v := testView()
	v.up(life(1, 1), at(0))
	expect(t, v, "up 1/1")
	changed := life(1, 1)
	changed.Meta.Epoch = 9
	v.up(changed, at(5))
	expect(t, v, "update 1/1")
	v.up(changed, at(6))
	expect(t, v)
	if st, _ := v.snapshot().state(hostID(1)); !st.Since.Equal(at(0)) || st.Meta.Epoch != 9 {
		t.Errorf("state %+v", st)
	}
}

func TestConvictionsAfterAPauseAreHeld(t *testing.T) { // M11
	v := testView()
	v.up(life(1, 1), at(0))
	v.up(life(2, 1), at(0))
	expect(t, v, "up 1/1", "up 2/1")
	v.hold(at(40))
	v.down(hostID(1), 1, at(35))
	v.down(hostID(2), 1, at(35))
	v.tick(at(36))
	expect(t, v)
	if !v.snapshot().alive(hostID(1)) {
		t.Error("held node is not alive")
	}
	v.up(life(1, 1), at(37)) // it refutes
	v.tick(at(40))
	expect(t, v, "down 2/1")
	if n := v.snapshot(); !n.alive(hostID(1)) || n.alive(hostID(2)) {
		t.Error("who refuted is down, or who did not is alive")
	}
}

func TestFarewellIsNotHeld(t *testing.T) {
	v := testView()
	leaving := life(1, 1)
	leaving.Meta.Phase = Draining
	v.up(leaving, at(0))
	expect(t, v, "up 1/1")
	v.hold(at(40))
	v.down(hostID(1), 1, at(1))
	expect(t, v, "down 1/1")
	if st, _ := v.snapshot().state(hostID(1)); !st.Left || st.Alive || !st.Since.Equal(at(1)) {
		t.Errorf("state %+v", st)
	}
	v.up(life(1, 2), at(2))
	if st, _ := v.snapshot().state(hostID(1)); st.Left || !st.Alive {
		t.Errorf("state %+v", st)
	}
}

func TestForget(t *testing.T) {
	v := testView()
	v.up(life(1, 1), at(0))
	expect(t, v, "up 1/1")
	v.forget(hostID(1))
	if _, ok := v.snapshot().state(hostID(1)); ok {
		t.Error("still known before the event is delivered")
	}
	expect(t, v, "down 1/1")
	if len(v.records) != 0 {
		t.Error("record is kept")
	}
	v.forget(hostID(1))
	v.up(life(1, 1), at(1))
	expect(t, v, "up 1/1")
	v.forget(hostID(1))
	v.up(life(1, 2), at(2)) // heard again before delivery
	expect(t, v, "down 1/1", "up 1/2")
}

func TestNewerLifeOfTheLocalNode(t *testing.T) {
	v := testView()
	v.up(life(0, 4), at(0))
	if _, ok := v.takeRival(); ok || !errors.Is(v.admit(hostID(0), 4), errStale) {
		t.Error("a former life of the local node matters")
	}
	v.up(life(0, 6), at(0))
	v.up(life(0, 6), at(0))
	if st, ok := v.takeRival(); !ok || st.Generation != 6 {
		t.Errorf("rival %+v, %v", st, ok)
	}
	v.up(life(0, 6), at(1))
	if _, ok := v.takeRival(); ok {
		t.Error("the same rival is reported twice")
	}
	if !v.snapshot().alive(hostID(0)) {
		t.Error("the local node is not alive to itself")
	}
}

func TestMembersAreBounded(t *testing.T) {
	v := newView(life(0, 1), 3)
	for i := 1; i < 10; i++ {
		v.up(life(i, 1), at(0))
	}
	if len(v.records) != 3 || !errors.Is(v.admit(hostID(9), 1), errTooMany) {
		t.Errorf("%d records", len(v.records))
	}
	v.up(life(1, 2), at(1)) // a known one may come back
	if st, _ := v.snapshot().state(hostID(1)); st.Generation != 2 {
		t.Errorf("state %+v", st)
	}
}

// Whatever the order of messages, the newest life wins, and its state is that of its last message (M10).
func TestMessagesInAnyOrderConverge(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		v := testView()
		newest := int64(0)
		alive := map[int64]bool{}
		told, toldAlive := int64(0), false
		e := Events{
			Up: func(st State) {
				if toldAlive {
					t.Fatalf("seed %d: up while up", seed)
				}
				told, toldAlive = st.Generation, true
			},
			Down: func(st State) {
				if !toldAlive || st.Generation != told || st.Alive {
					t.Fatalf("seed %d: down of %d while %d is %v", seed, st.Generation, told, toldAlive)
				}
				toldAlive = false
			},
		}
		deliver := func() {
			for {
				old, known, now, ok := v.next()
				if !ok {
					return
				}
				e.deliver(old, known, now)
			}
		}
		for i := range 40 {
			g := 1 + rng.Int64N(5)
			if rng.IntN(2) == 0 {
				v.up(life(1, g), at(i))
				newest = max(newest, g)
				alive[g] = true
			} else {
				v.down(hostID(1), g, at(i))
				alive[g] = false
			}
			if rng.IntN(3) == 0 {
				deliver()
			}
		}
		deliver()
		if st, _ := v.snapshot().state(hostID(1)); st.Generation != newest || st.Alive != alive[newest] || st.Alive != toldAlive {
			t.Fatalf("seed %d: %+v, newest %d alive %v, told %v", seed, st, newest, alive[newest], toldAlive)
		}
	}
}

func TestMemberName(t *testing.T) {
	id, g, err := parseMemberName(memberName(hostID(3), 77))
	if err != nil || id != hostID(3) || g != 77 {
		t.Errorf("%s %d %v", id, g, err)
	}
	host := hostID(3).String()
	for _, bad := range []string{"", host, host + "/", host + "/x", host + "/-1", host + "/+1", host + "/01", host[1:] + "/1", host + "/1/1"} {
		if _, _, err := parseMemberName(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
