package formation

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/ring"
)

func host(i int) ring.HostID { return ring.HostID{0: byte(i + 1), 15: byte(i + 1)} }

func addr(i, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), uint16(port))
}

func hello(i int, change func(*Hello)) *Hello {
	h := &Hello{Host: host(i), Internode: addr(i, 7000), FirstSeed: addr(0, 7000), ClusterName: "test", Generation: 1}
	if change != nil {
		change(h)
	}
	return h
}

func of(stage Stage, cluster byte) func(*Hello) {
	return func(h *Hello) { h.Stage, h.ClusterID = stage, [16]byte{cluster} }
}

func TestDecide(t *testing.T) {
	seeds := []netip.AddrPort{addr(0, 7000), addr(1, 7000), addr(2, 7000)}
	const early, late = time.Second, 5 * time.Second
	cases := []struct {
		name    string
		self    *Hello
		answers []*Hello
		asking  time.Duration
		want    Action
		why     string
	}{
		{"alone, early", hello(0, nil), []*Hello{nil, nil, nil}, early, Wait, "waiting for seed 10.0.0.2:7000"},
		{"alone, late", hello(0, nil), []*Hello{nil, nil, nil}, late, Found, ""},
		{"all are empty", hello(0, nil), []*Hello{nil, hello(1, nil), hello(2, nil)}, 0, Found, ""},
		{"one is silent", hello(0, nil), []*Hello{nil, hello(1, nil), nil}, early, Wait, "10.0.0.3:7000"},
		{"not the first", hello(1, nil), []*Hello{hello(0, nil), nil, hello(2, nil)}, late, Wait, "waiting for 10.0.0.1:7000"},
		{"not the first, alone", hello(1, nil), []*Hello{nil, nil, nil}, late, Wait, "waiting for 10.0.0.1:7000"},
		{"no seed at all", hello(7, nil), []*Hello{nil, nil, nil}, late, Wait, "waiting for 10.0.0.1:7000"},
		{"a member", hello(1, nil), []*Hello{hello(0, of(Member, 1)), nil, nil}, 0, Join, ""},
		{"the first seed sees a member", hello(0, nil), []*Hello{nil, nil, hello(2, of(Member, 1))}, late, Join, ""},
		{"a joining node is no way in", hello(0, nil), []*Hello{nil, hello(1, of(Joining, 1)), nil}, late, Wait, "is joining a cluster"},
		{"two clusters", hello(0, nil), []*Hello{nil, hello(1, of(Member, 1)), hello(2, of(Member, 2))}, 0, Refuse, "two different clusters"},
		{"other name, empty", hello(0, nil), []*Hello{nil, hello(1, func(h *Hello) { h.ClusterName = "x" }), nil}, 0, Refuse, `cluster "x"`},
		{"other name, member", hello(1, nil), []*Hello{hello(0, func(h *Hello) { of(Member, 1)(h); h.ClusterName = "x" }), nil, nil}, 0, Refuse, `cluster "x"`},
		{"own host id elsewhere", hello(0, nil), []*Hello{nil, hello(1, func(h *Hello) { h.Host = host(0) }), nil}, 0, Refuse, "two processes have one identity"},
		{"other first seed", hello(0, nil), []*Hello{nil, hello(1, func(h *Hello) { h.FirstSeed = addr(1, 7000) }), nil}, late, Refuse, "same seed list"},
		{"a member's first seed may differ", hello(1, nil), []*Hello{hello(0, func(h *Hello) { of(Member, 1)(h); h.FirstSeed = addr(9, 7000) }), nil, nil}, 0, Join, ""},
		{"pledged: never founds", hello(0, of(Joining, 1)), []*Hello{nil, hello(1, nil), hello(2, nil)}, late, Wait, "begun to join"},
		{"pledged: joins again", hello(0, of(Joining, 1)), []*Hello{nil, hello(1, of(Member, 1)), nil}, 0, Join, ""},
		{"pledged: joins no other", hello(0, of(Joining, 1)), []*Hello{nil, hello(1, of(Member, 2)), nil}, 0, Refuse, "another cluster"},
		{"itself by another address", hello(0, func(h *Hello) { h.Internode, h.FirstSeed = addr(8, 7000), addr(0, 7000) }),
			[]*Hello{hello(0, func(h *Hello) { h.Internode, h.FirstSeed = addr(8, 7000), addr(0, 7000) }), hello(1, nil), hello(2, nil)}, 0, Found, ""},
	}
	for _, c := range cases {
		d := Decide(c.self, seeds, c.answers, c.asking, 3*time.Second)
		if d.Action != c.want || !strings.Contains(d.Reason, c.why) || (d.Action == Wait || d.Action == Refuse) == (d.Reason == "") || (d.Action == Join) != (len(d.Through) > 0) {
			t.Errorf("%s: got %+v, want action %d %q", c.name, d, c.want, c.why)
		}
	}
}

// TestDecideNeverFoundsBesideACluster: whatever the others answer, who sees a sign of a cluster founds none, and who is
// not the first seed never does.
func TestDecideNeverFoundsBesideACluster(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	seeds := []netip.AddrPort{addr(0, 7000), addr(1, 7000), addr(2, 7000)}
	founded := 0
	for range 20000 {
		me := r.IntN(4)
		self := hello(me, nil)
		if r.IntN(4) == 0 {
			of(Joining, 1)(self)
		}
		answers := make([]*Hello, 3)
		sign := self.Stage != Empty
		for i := range answers {
			if i == me || r.IntN(3) == 0 {
				continue
			}
			answers[i] = hello(i, nil)
			if r.IntN(4) == 0 {
				of(Stage(1+r.IntN(2)), byte(1+r.IntN(2)))(answers[i])
				sign = true
			}
		}
		d := Decide(self, seeds, answers, time.Duration(r.IntN(6))*time.Second, 3*time.Second)
		if d.Action == Found && (sign || me != 0) {
			t.Fatalf("node %d founds beside %+v", me, answers)
		}
		if d.Action == Found {
			founded++
		}
	}
	if founded == 0 {
		t.Error("nobody ever founded")
	}
}

func TestHelloGolden(t *testing.T) {
	for _, c := range []struct {
		h    *Hello
		want string
	}{
		{hello(0, nil), "0100" + "0100000000000000000000000000000" + "1" + "040a0000011b58" + "040a0000011b58" + "00000000000000000000000000000000" + "0000000000000001" + "74657374"},
		{hello(1, of(Member, 0xc1)), "0102" + "0200000000000000000000000000000" + "2" + "040a0000021b58" + "040a0000011b58" + "c1000000000000000000000000000000" + "0000000000000001" + "74657374"},
	} {
		raw := c.h.Append(nil)
		if hex.EncodeToString(raw) != c.want {
			t.Errorf("got %x, want %s", raw, c.want)
		}
		if got, err := DecodeHello(raw); err != nil || *got != *c.h {
			t.Errorf("%+v became %+v: %v", c.h, got, err)
		}
		for n := range len(raw) - len(c.h.ClusterName) {
			if _, err := DecodeHello(raw[:n]); err == nil {
				t.Errorf("its first %d bytes decode", n)
			}
		}
	}
}

func FuzzDecodeHello(f *testing.F) {
	f.Add(hello(0, nil).Append(nil))
	f.Add(hello(1, of(Member, 3)).Append(nil))
	f.Add(hello(1, func(h *Hello) { h.Internode = netip.MustParseAddrPort("[fe80::1]:7000") }).Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := DecodeHello(raw)
		if err != nil {
			return
		}
		if again := h.Append(nil); !bytes.Equal(again, raw) {
			t.Fatalf("%x became %x", raw, again)
		}
	})
}
