//go:build planted

package planted

import "testing"

func TestSet(t *testing.T) {
	defer Set()
	for _, b := range []Bug{0, 5, bugs - 1} {
		if On(b) {
			t.Errorf("%d is on before it is planted", b)
		}
	}
	Set(5, bugs-1)
	if On(0) || !On(5) || !On(bugs-1) || !On(5) || Struck(5) != 2 || Struck(0) != 0 {
		t.Errorf("5 was reached %d times", Struck(5))
	}
	name := Catalogue()[5].Name
	if got := Strikes(); len(got) != 2 || got[name] != 2 {
		t.Errorf("the strikes are %v", got)
	}
	Set()
	if On(5) {
		t.Error("5 is still on")
	}
}
