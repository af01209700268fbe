package schema

import "testing"

// Generations of stored system tables are part of every key on disk: they never change.
func TestTracesAreStored(t *testing.T) {
	c := Bootstrap()
	for name, want := range map[string]Generation{"events": 16, "sessions": 17} {
		table, ok := c.Table(TracesKeyspace, name)
		if !ok || table.Virtual || table.Generation != want {
			t.Errorf("%s.%s: virtual %v, generation %d, want %d", TracesKeyspace, name, table.Virtual, table.Generation, want)
		}
		if found, _ := c.TableByGeneration(want); found != table {
			t.Errorf("generation %d is not %s", want, name)
		}
	}
}
