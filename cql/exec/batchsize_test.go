package exec

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// TestGather: mutations of one partition of a keyspace stand together in the order in which it was first written to, those
// of one table keep their order, and nothing else changes; the number is Cassandra's number of mutations.
func TestGather(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	keyspaceOf := func(g schema.Generation) string { return fmt.Sprint("ks", g%2) }
	for range 2000 {
		muts := make([]row.Mutation, random.IntN(12))
		for i := range muts {
			k := byte(random.IntN(3))
			muts[i] = row.Mutation{Generation: schema.Generation(random.IntN(4)), Token: 7, Key: []byte{k}, Fragment: []byte{byte(i)}}
		}
		var want []row.Mutation // the dumb way
		n := 0
		for i := range muts {
			same := func(m row.Mutation) bool {
				return string(m.Key) == string(muts[i].Key) && keyspaceOf(m.Generation) == keyspaceOf(muts[i].Generation)
			}
			if slices.ContainsFunc(want, same) {
				continue
			}
			n++
			for _, m := range muts {
				if same(m) {
					want = append(want, m)
				}
			}
		}
		show := func(ms []row.Mutation) (out string) {
			for _, m := range ms {
				out += fmt.Sprint(m.Generation, " ", string(m.Key), string(m.Fragment), " ")
			}
			return out
		}
		got := slices.Clone(muts)
		if g := gather(got, keyspaceOf); g != n || show(got) != show(want) {
			t.Fatalf("%s\n got %d %s\nwant %d %s", show(muts), g, show(got), n, show(want))
		}
	}
}

// TestJavaSet: the order in which Java shows a HashSet of strings (recorded from OpenJDK 17 for the larger one).
func TestJavaSet(t *testing.T) {
	for _, x := range []struct {
		list []string
		want string
	}{
		{nil, "[]"},
		{[]string{"ks.t"}, "[ks.t]"},
		{[]string{"diff_logged.g", "diff_logged.u"}, "[diff_logged.u, diff_logged.g]"},
		{[]string{"diff_logged.u", "diff_logged.t", "diff_logged.w", "diff_logged.x", `diff_logged."Mixed"`},
			`[diff_logged.u, diff_logged.t, diff_logged.x, diff_logged.w, diff_logged."Mixed"]`},
		{javaTables(), javaTablesShown},
	} {
		if got := javaSet(x.list); got != x.want {
			t.Errorf("got  %s\nwant %s", got, x.want)
		}
	}
}

// javaTables are enough for the table of the set to have grown twice.
func javaTables() (out []string) {
	for i := range 30 {
		out = append(out, fmt.Sprintf("shop.t%d", i*i))
	}
	return out
}

const javaTablesShown = "[shop.t0, shop.t1, shop.t36, shop.t9, shop.t4, shop.t169, shop.t400, shop.t225, shop.t324, shop.t841, shop.t625, shop.t361, shop.t49, shop.t121, shop.t484, shop.t100, shop.t144, shop.t441, shop.t289, shop.t784, shop.t64, shop.t25, shop.t529, shop.t729, shop.t81, shop.t576, shop.t676, shop.t196, shop.t16, shop.t256]"
