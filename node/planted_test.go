//go:build planted

package node

import (
	"testing"

	"github.com/helenusdb/helenus/internal/planted"
)

// TestTombstones_Planted: each of the planted bugs brings back what was deleted, so the tests above would find it.
func TestTombstones_Planted(t *testing.T) {
	for _, c := range []struct {
		bug   planted.Bug
		first int
		run   func(*testing.T, int) (int, int)
	}{{planted.PurgeWithHintPending, 168, hintPending}, {planted.PurgeWithReplicaDown, 171, replicaDown}} {
		planted.Set(c.bug)
		if _, alive := c.run(t, c.first); alive == 0 {
			t.Errorf("bug %d is not found: no row is back", c.bug)
		}
		planted.Set()
	}
}
