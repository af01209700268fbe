package cql

import "testing"

// TestMarkersHaveASlotEach: each occurrence of a marker has its own slot, in the order of the text.
func TestMarkersHaveASlotEach(t *testing.T) {
	s, err := Parse("SELECT json FROM ks.t WHERE a = :x AND b IN ? AND c IN (:x, :\"Y\") AND (d, e) > ? AND (d, e) IN (?, ?) LIMIT :n;;")
	if err != nil {
		t.Fatal(err)
	}
	want := []Marker{{Name: "x"}, {In: true}, {Name: "x"}, {Name: "Y"}, {}, {}, {}, {Name: "n"}}
	got := s.Markers()
	if len(got) != len(want) {
		t.Fatalf("%d markers, want %d", len(got), len(want))
	}
	for i, m := range got {
		if m.Index != i || m.Name != want[i].Name || m.In != want[i].In {
			t.Errorf("marker %d: %+v, want %+v", i, m, want[i])
		}
	}
}
