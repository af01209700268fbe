package nodetool

import (
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/node"
)

// TestRepairStatus: what is printed says when, how long ago, and why not.
func TestRepairStatus(t *testing.T) {
	at := func(n int64) *int64 { return &n }
	s := node.RepairStatus{Within: 86400, Tables: []node.RepairTableStatus{
		{Keyspace: "shop", Table: "carts", Mode: "timeout", Ranges: 16, Repaired: 3, Newest: at(1000), Why: "its turn has not come yet"},
		{Keyspace: "shop", Table: "orders", Mode: "repair", Ranges: 16, Repaired: 16, Newest: at(100_000), Oldest: at(10_000), Kept: 2},
	}}
	var b strings.Builder
	RepairStatus(&b, &s, time.Unix(110_000, 0))
	want := `Keyspace  Table   Ranges  Repaired  Last repaired             Oldest  Tombstones kept  Why                      
shop      carts   16      3         1970-01-01T00:16:40.000Z  never   -                its turn has not come yet
shop      orders  16      16        1970-01-02T03:46:40.000Z  1d3h    in 2                                      
The ranges that the node is the first replica of; each is repaired every 1d0h.
`
	if b.String() != want {
		t.Errorf("%s\ninstead of\n%s", b.String(), want)
	}
	b.Reset()
	RepairStatus(&b, &node.RepairStatus{}, time.Unix(0, 0))
	if !strings.Contains(b.String(), "repair_within is 0") {
		t.Error(b.String())
	}
	for d, want := range map[time.Duration]string{-5: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 3700 * time.Second: "1h1m"} {
		if got := age(d); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
}
