package repair

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/helenusdb/helenus/repair/merkle"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// TestCut: the parts of an interval are it, in order, without a gap or an overlap, as many as were asked for where there are so many tokens.
func TestCut(t *testing.T) {
	for _, iv := range []ring.Interval{{First: ring.MinToken, Last: ring.MaxToken}, {First: -5, Last: 5}, {First: 7, Last: 7}, {First: ring.MinToken, Last: -1},
		{First: ring.MaxToken - 2, Last: ring.MaxToken}, {First: 0, Last: math.MaxInt64}} {
		for _, n := range []int{1, 2, 3, 7, 4096} {
			parts := cut(iv, n)
			if parts[0].First != iv.First || parts[len(parts)-1].Last != iv.Last || len(parts) > n {
				t.Fatalf("%v in %d: %v", iv, n, parts)
			}
			for i := range parts {
				if parts[i].First > parts[i].Last || i > 0 && parts[i].First != parts[i-1].Last+1 {
					t.Fatalf("%v in %d: %v", iv, n, parts)
				}
			}
			if tokens := uint64(iv.Last) - uint64(iv.First); tokens > 1<<40 && len(parts) != n {
				t.Errorf("%v in %d: %d parts", iv, n, len(parts))
			}
		}
	}
}

// TestSources: the fullest replica, and one more that has nearly as much.
func TestSources(t *testing.T) {
	for _, c := range []struct {
		items []uint64
		want  []int
	}{{[]uint64{100, 0, 100}, []int{0, 2}}, {[]uint64{0, 50, 100}, []int{2}}, {[]uint64{96, 0, 100}, []int{2, 0}}, {[]uint64{10, 10, 10, 0}, []int{0, 1}}, {[]uint64{0, 9}, []int{1}}} {
		l := merkle.Leaf{}
		for _, n := range c.items {
			l.Tallies = append(l.Tallies, row.Tally{Items: n})
		}
		if got := sources(&l); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v instead of %v", c.items, got, c.want)
		}
	}
}

// lopsided runs a repair between this node, which has many rows, and a peer that has none, and returns whom the peer was told to fetch from, how often this node was asked for
// pages, and what the peer was counted as having been sent.
func lopsided(t *testing.T, spec Spec, fill func(q *fillRequest) ([]byte, rpc.Status, error)) (asked []ring.HostID, pages int, r *PeerReport) {
	t.Helper()
	store := &countedStore{fakeStore: fakeStore{tally: row.Tally{Sum: 1, Items: 100_000, Bytes: 40 << 20}}}
	empty := &fakeStore{}
	synctest.Test(t, func(t *testing.T) {
		good := honest(empty, nil)
		s, _ := service(store, peerFunc(func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
			if verb != verbFill {
				return good(ctx, verb, body)
			}
			q, err := decodeFill(body)
			if err != nil {
				t.Error(err)
			}
			asked = append(asked, q.from)
			return fill(&q)
		}))
		s.o.Stream = func(context.Context, schema.Generation, ring.Interval, ring.HostID) (int64, int64, error) {
			return 0, 0, errors.New("this node lacks nothing")
		}
		running(t, s, func(ctx context.Context) {
			report, err := s.Repair(ctx, spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, reports := report.Tables[0].Peers()
			r = reports[1]
		})
	})
	return asked, store.pages, r
}

// countedStore counts how often it is read.
type countedStore struct {
	fakeStore
	pages int
}

func (c *countedStore) Read(cmd *row.Command, page *row.Page) error {
	c.pages++
	return c.fakeStore.Read(cmd, page)
}

// TestFill: a replica that lacks most of an interval is told to fetch all of it from one that has it, in parts. Where that is refused, or a build does not know how, pages are moved; a
// preview, and a pull, stream nothing.
func TestFill(t *testing.T) {
	asked, _, r := lopsided(t, Spec{}, func(*fillRequest) ([]byte, rpc.Status, error) {
		return (&fillAnswer{10, 1000}).append(nil), rpc.StatusOK, nil
	})
	if len(asked) != 3 || asked[0] != me || r.Rows.Load() != 30 || r.Bytes.Load() != 3000 || r.Traffic.Load() < 3000 {
		t.Errorf("asked of %v, %d rows and %d bytes counted", asked, r.Rows.Load(), r.Bytes.Load())
	}
	for _, status := range []rpc.Status{rpc.StatusUnknownVerb, rpc.StatusFailed, rpc.StatusNotOwner} {
		asked, pages, r := lopsided(t, Spec{}, func(*fillRequest) ([]byte, rpc.Status, error) { return nil, status, nil })
		if len(asked) != 1 || pages == 0 || r.Rows.Load() != 0 {
			t.Errorf("%v: asked %d times, %d pages read", status, len(asked), pages)
		}
	}
	if asked, pages, _ := lopsided(t, Spec{Preview: true}, nil); len(asked) != 0 || pages == 0 {
		t.Errorf("a preview asks %d times", len(asked))
	}
}
