package planted

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCatalogue: every bug is described once, in order, and its place, where it has one, asks for it.
func TestCatalogue(t *testing.T) {
	all := Catalogue()
	if len(all) != int(bugs) || len(all) < 40 {
		t.Fatalf("%d entries for %d bugs", len(all), bugs)
	}
	asked := callSites(t)
	name := regexp.MustCompile(`^[a-z-]+$`)
	for i, e := range all {
		if int(e.Bug) != i || !name.MatchString(e.Name) || e.What == "" || e.Scenario == "" || e.Checker == "" || e.Workload == "" {
			t.Errorf("entry %d: %+v", i, e)
		}
		if b, ok := Named(e.Name); !ok || b != e.Bug {
			t.Errorf("Named(%s) is %v %v", e.Name, b, ok)
		}
		if placed := e.Where != ""; placed != (asked[constant(t, e.Bug)] > 0) {
			t.Errorf("%s is said to be planted in %q, and %d places ask for it", e.Name, e.Where, asked[constant(t, e.Bug)])
		}
	}
	if _, ok := Named("nothing"); ok {
		t.Error("a bug that does not exist has been found")
	}
}

// constant returns the name of a bug's constant.
func constant(t *testing.T, b Bug) string {
	t.Helper()
	src, err := os.ReadFile("planted.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(src), "const (")
	block, _, _ := strings.Cut(rest, ")")
	fields := strings.Fields(strings.Replace(block, "Bug = iota", "", 1))
	return fields[b]
}

// callSites counts the places that ask for each constant.
func callSites(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	call := regexp.MustCompile(`planted\.On\(planted\.(\w+)\)`)
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "." && d.Name() != ".." {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Base(filepath.Dir(path)) == "planted" {
			return nil
		}
		src, err := os.ReadFile(path)
		for _, m := range call.FindAllStringSubmatch(string(src), -1) {
			out[m[1]]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestNothingIsLeft: the binary that users run has no symbol of this package, nor what only planted bugs call.
func TestNothingIsLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binary")
	}
	binary := filepath.Join(t.TempDir(), "helenus")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/helenus").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	symbols, err := exec.Command("go", "tool", "nm", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(symbols), "coordinator.(*Burst).Write") {
		t.Fatal("the list of symbols is not what it should be")
	}
	for line := range strings.Lines(string(symbols)) {
		if strings.Contains(line, "internal/planted") || strings.Contains(line, "coordinator.restamp") || strings.Contains(line, "commitLate") || strings.Contains(line, "hints.(*Hints).forget") {
			t.Errorf("left over: %s", line)
		}
	}
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"HELENUS_PLANTED", "hint-restamped"} {
		if strings.Contains(string(text), s) {
			t.Errorf("the binary contains %q", s)
		}
	}
}
