//go:build planted

package planted

import (
	"os"
	"strings"
	"sync/atomic"
)

// The set is one word for On to look at; bugs are few.
var (
	active = fromEnvironment()
	struck [bugs]atomic.Int64
)

func fromEnvironment() *[(bugs + 63) / 64]atomic.Uint64 {
	var set [(bugs + 63) / 64]atomic.Uint64
	for _, name := range strings.Split(os.Getenv("HELENUS_PLANTED"), ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		b, ok := Named(name)
		if !ok {
			panic("HELENUS_PLANTED: there is no planted bug " + name)
		}
		set[b/64].Or(1 << (b % 64))
	}
	return &set
}

// On reports whether a bug is planted, and counts that its place was reached.
func On(b Bug) bool {
	if active[b/64].Load()&(1<<(b%64)) == 0 {
		return false
	}
	struck[b].Add(1)
	return true
}

// Set plants these bugs and no others. It is for tests, before they start nodes.
func Set(all ...Bug) {
	for i := range active {
		active[i].Store(0)
	}
	for _, b := range all {
		struck[b].Store(0)
		active[b/64].Or(1 << (b % 64))
	}
}

// Strikes returns how often the place of each planted bug was reached since it was planted, by name.
func Strikes() map[string]int64 {
	out := map[string]int64{}
	for _, e := range Catalogue() {
		if active[e.Bug/64].Load()&(1<<(e.Bug%64)) != 0 {
			out[e.Name] = Struck(e.Bug)
		}
	}
	return out
}

// Struck returns how often a planted bug's place was reached.
func Struck(b Bug) int64 { return struck[b].Load() }
