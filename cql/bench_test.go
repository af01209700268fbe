package cql

import "testing"

const (
	benchInsert = "INSERT INTO ks.users (id, name, email, created, tags) VALUES (?, ?, ?, ?, ?) USING TTL ?"
	benchSelect = "SELECT id, name, writetime(email) FROM ks.users WHERE id = 550e8400-e29b-41d4-a716-446655440000 AND bucket IN (1, 2, 3) LIMIT 100"
)

func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{"insert": benchInsert, "select": benchSelect} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for range b.N {
				if _, err := Parse(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestParseAllocations guards the cost of statements that are not prepared.
func TestParseAllocations(t *testing.T) {
	for text, limit := range map[string]float64{benchInsert: 22, benchSelect: 22} {
		got := testing.AllocsPerRun(100, func() {
			if _, err := Parse(text); err != nil {
				t.Fatal(err)
			}
		})
		if got > limit {
			t.Errorf("%s: %v allocations, at most %v wanted", text, got, limit)
		}
	}
}
