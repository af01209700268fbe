package ring

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

var (
	sinkToken    Token
	sinkReplicas []int32
)

// evenRing has nodes in 3 racks with 16 random tokens each.
func evenRing(t testing.TB, nodes int) *Ring {
	rng := rand.New(rand.NewPCG(1, uint64(nodes)))
	all := make([]Node, nodes)
	for i := range all {
		all[i] = Node{ID: hostID(i), DC: "dc1", Rack: fmt.Sprint("r", i%3)}
		for range 16 {
			all[i].Tokens = append(all[i].Tokens, Token(rng.Uint64()))
		}
	}
	return mustRing(t, all)
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	key := []byte("some partition key of usual size")
	p := evenRing(t, 30).Placement(network(DCReplication{"dc1", 3}))
	components := [][]byte{key, key}
	buf := AppendCompositeKey(nil, components)
	parts := make([][]byte, 0, 2)
	for name, f := range map[string]func(){
		"Murmur3.Token":      func() { sinkToken = Murmur3{}.Token(key) },
		"XXHash.Token":       func() { sinkToken = XXHash{}.Token(key) },
		"Replicas":           func() { sinkReplicas = p.Replicas(sinkToken) },
		"AppendCompositeKey": func() { buf = AppendCompositeKey(buf[:0], components) },
		"SplitCompositeKey":  func() { parts, _ = SplitCompositeKey(parts[:0], buf, 2) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %g times", name, n)
		}
	}
}

func BenchmarkToken(b *testing.B) {
	for _, p := range []Partitioner{Murmur3{}, XXHash{}} {
		for _, size := range []int{8, 16, 31, 100} {
			b.Run(fmt.Sprintf("%T/%d", p, size), func(b *testing.B) {
				key := make([]byte, size)
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					key[0] = byte(i)
					sinkToken = p.Token(key)
				}
			})
		}
	}
}

func BenchmarkReplicas(b *testing.B) {
	for _, nodes := range []int{3, 30, 300} {
		b.Run(fmt.Sprint(nodes, "nodes"), func(b *testing.B) {
			p := evenRing(b, nodes).Placement(network(DCReplication{"dc1", 3}))
			t := uint64(1)
			for b.Loop() {
				t *= 0x9e3779b97f4a7c15
				sinkReplicas = p.Replicas(Token(t))
			}
		})
	}
}

func BenchmarkPlacement(b *testing.B) {
	for _, nodes := range []int{3, 30, 300} {
		b.Run(fmt.Sprint(nodes, "nodes"), func(b *testing.B) {
			r := evenRing(b, nodes)
			for b.Loop() {
				r.Placement(network(DCReplication{"dc1", 3}))
			}
		})
	}
}
