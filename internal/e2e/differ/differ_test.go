package differ

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestExpandMakesEveryCombination(t *testing.T) {
	got := expand("a %{b|c} %{{1: 2}|d}")
	if want := []string{"a b {1: 2}", "a b d", "a c {1: 2}", "a c d"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

func TestParseStep(t *testing.T) {
	s, err := ParseStep("@page=1,20 @prep @[int 5; null; list<int> [1, 2]; text 'a ; ]'] @mask=a,b SELECT 1")
	if err != nil {
		t.Fatal(err)
	}
	if s.Text != "SELECT 1" || !reflect.DeepEqual(s.pages, []int32{1, 20}) || !s.prep || len(s.params.Values) != 4 || len(s.masked) != 2 {
		t.Errorf("%+v", s)
	}
	if got := string(s.params.Values[3].Bytes); got != "a ; ]" {
		t.Errorf("%q", got)
	}
	for _, bad := range []string{"@nosuch SELECT 1", "@page=x SELECT 1", "@[nosuch 5] SELECT 1", "@cl=FOUR SELECT 1"} {
		if _, err := ParseStep(bad); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestGoldenRoundTrip(t *testing.T) {
	g := Golden{{Source: "a\nb\n", Answer: "rows\n | '> x'\n"}, {Source: "c\n", Answer: ""}, {Source: "c\n", Answer: "> void\n= \n"}}
	name := filepath.Join(t.TempDir(), "g")
	if err := g.Write(name); err != nil {
		t.Fatal(err)
	}
	got, err := ReadGolden(name)
	if err != nil || !reflect.DeepEqual(got, g) {
		t.Errorf("%q %v", got, err)
	}
}

// TestCompareNamesEveryDifference: nothing passes because an answer is missing, and what is meant to differ is pinned too.
func TestCompareNamesEveryDifference(t *testing.T) {
	f, err := ParseFile("x", "S1\n@differs=why S2\nS3\n")
	if err != nil {
		t.Fatal(err)
	}
	answers := func(list ...string) (g Golden) {
		for i, a := range list {
			g = append(g, Recorded{Source: f.Steps[i].Source + "\n", Answer: a})
		}
		return g
	}
	theirs, ours := answers("a\n", "b\n", javaException+"x\n"), answers("a\n", "c\n", "d\n")
	purpose := ours.OnPurpose(&f, theirs)
	if len(purpose) != 2 || len(Compare(&f, theirs, purpose, ours)) != 0 {
		t.Errorf("%q", Compare(&f, theirs, purpose, ours))
	}
	for _, other := range []Golden{answers("z\n", "c\n", "d\n"), answers("a\n", "z\n", "d\n"), answers("a\n", "c\n", "z\n"), answers("a\n", "c\n")} {
		if len(Compare(&f, theirs, purpose, other)) != 1 {
			t.Errorf("%q passes", other)
		}
	}
	if len(Compare(&f, theirs[:2], purpose, ours)) != 1 {
		t.Error("a step without a golden answer passes")
	}
}

// TestCorpus: the corpus parses, has answers to everything, and docs/compat.md names every difference.
func TestCorpus(t *testing.T) {
	files, err := ReadCorpus("testdata")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../../docs/compat.md")
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	for i := range files {
		f := &files[i]
		steps += len(f.Steps)
		for _, s := range f.Steps {
			if s.Differs != "" && !strings.Contains(string(doc), "`"+s.Differs+"`") {
				t.Errorf("%s.cql:%d: docs/compat.md does not name %s", f.Name, s.Line, s.Differs)
			}
		}
		g, err := ReadGolden(filepath.Join("testdata", f.Name+".golden"))
		if err != nil || len(g) != len(f.Steps) {
			t.Errorf("%s: %d steps, %d answers: %v", f.Name, len(f.Steps), len(g), err)
		}
	}
	if steps < 1500 {
		t.Errorf("only %d statements", steps)
	}
}

// TestRandomScriptsFollowFromTheirSeed, and never change anything but their own table.
func TestRandomScriptsFollowFromTheirSeed(t *testing.T) {
	script := func(seed uint64) string {
		g := &generator{rng: rand.New(rand.NewPCG(seed, 1))}
		g.makeTable()
		g.conditional = seed%2 == 0
		out := []string{g.create}
		for range 200 {
			out = append(out, g.write(), g.read())
		}
		for _, text := range out {
			st, err := ParseStep(text)
			if err != nil || !Harmless(st.Text) || !strings.Contains(st.Text, "$t") {
				t.Fatalf("%s: %v", text, err)
			}
		}
		return strings.Join(out, "\n")
	}
	for seed := range uint64(20) {
		if first, second := script(seed), script(seed); first != second {
			t.Fatalf("seed %d has two scripts", seed)
		}
	}
}
