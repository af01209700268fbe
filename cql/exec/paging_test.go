package exec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/row"
)

// fixedSchema is a cluster with a secret and nothing else.
type fixedSchema struct {
	Schema
	state meta.State
}

func (f *fixedSchema) Current() *meta.State { return &f.state }

func stateOp(secret byte, id byte, values ...protocol.Value) *op {
	x := &Executor{o: Options{Schema: &fixedSchema{state: meta.State{Secret: [32]byte{secret}}}}}
	o := &op{x: x, stmt: &stmt{id: protocol.StatementID{id}}}
	o.args.Values = values
	return o
}

const goldenState = "010008e8070c01010000000000000007036b657902636b084a67155c49011a328aafaef722a3188a"

// The format is drawn in docs/format/paging-state.md.
func TestPagingStateGolden(t *testing.T) {
	o := stateOp(1, 2, protocol.Value{Bytes: []byte{3}}, protocol.Value{State: protocol.Null})
	st := plan.State{Command: 4, Remaining: 500, Partition: 6, At: row.Position{Kind: row.InPartition, Token: 7, Key: []byte("key"), Clustering: []byte("ck"), Rows: 8}}
	got := o.sealState(&st)
	if h := hex.EncodeToString(got); h != goldenState {
		t.Errorf("got %s", h)
	}
	var back plan.State
	if err := o.openState(got, &back); err != nil || !reflect.DeepEqual(back, st) {
		t.Errorf("%+v %v", back, err)
	}
	for _, other := range []*op{
		stateOp(9, 2, protocol.Value{Bytes: []byte{3}}, protocol.Value{State: protocol.Null}),
		stateOp(1, 9, protocol.Value{Bytes: []byte{3}}, protocol.Value{State: protocol.Null}),
		stateOp(1, 2, protocol.Value{Bytes: []byte{3}}, protocol.Value{State: protocol.Unset}),
		stateOp(1, 2, protocol.Value{Bytes: []byte{4}}, protocol.Value{State: protocol.Null}),
		stateOp(1, 2, protocol.Value{Bytes: []byte{3}}),
	} {
		if err := other.openState(got, &back); !errors.Is(err, errState) {
			t.Errorf("taken by another statement, cluster or with other values: %v", err)
		}
	}
	if _, err := o.open(got, stateDescribe); !errors.Is(err, errState) {
		t.Errorf("taken by DESCRIBE: %v", err)
	}
}

// Whatever is sealed is what comes back; whatever was not sealed is refused. The content behind the MAC is decoded with
// care all the same: it may be of another version.
func FuzzPagingState(f *testing.F) {
	o := stateOp(1, 2)
	f.Add(o.sealState(&plan.State{Remaining: -1, At: row.Position{Kind: row.AfterPartition, Key: []byte("k")}}), true)
	f.Add([]byte{stateVersion, stateSelect, 0, 0, 0}, true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal {
			b = o.seal(bytes.Clone(b))
		}
		var st plan.State
		if o.openState(b, &st) != nil {
			return
		}
		var again plan.State
		if err := o.openState(o.sealState(&st), &again); err != nil || !reflect.DeepEqual(st, again) {
			t.Fatalf("%+v, again %+v: %v", st, again, err)
		}
	})
}

// The cache against a plain map: what it holds is what was put last, its sums are right, and it stays within its bound.
func TestCacheModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var size, count atomic.Int64
	const bound = 10_000
	c := newCache(bound, &size, &count, func(k uint64) uint8 { return uint8(k) })
	model := map[uint64]*stmt{}
	for range 20_000 {
		k := uint64(rnd.IntN(200))
		switch rnd.IntN(4) {
		case 0, 1:
			s := &stmt{size: int64(rnd.IntN(600) + 1)}
			c.put(k, s)
			model[k] = s
		case 2:
			if s := c.get(k); s != nil && s != model[k] {
				t.Fatal("a statement that was replaced")
			}
		case 3:
			if s := c.get(k); s != nil {
				c.drop(k, s)
				if c.drop(k, s) || c.get(k) != nil {
					t.Fatal("dropped twice or still there")
				}
			}
		}
		var sum, n int64
		c.all(func(k uint64, s *stmt) {
			if model[k] != s {
				t.Fatal("not what was put last")
			}
			sum, n = sum+s.size, n+1
		})
		if sum != size.Load() || n != count.Load() || sum > bound {
			t.Fatalf("%d statements of %d bytes, counted %d of %d", n, sum, count.Load(), size.Load())
		}
		if len(c.ring) > 64+2*int(n) {
			t.Fatalf("%d slots for %d statements", len(c.ring), n)
		}
	}
	if c.put(1, &stmt{size: bound}); c.get(1) != nil && c.get(1).size == bound {
		t.Error("a statement larger than a quarter of the cache is held")
	}
}
