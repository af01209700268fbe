package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/internal/sim"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// TestJudge: a bug is caught by the checker that must, or by one that its plan lists, in a process that has reached it; anything else is only counted.
func TestJudge(t *testing.T) {
	mine, listed := violation{check.CheckerDurability, "lost"}, violation{check.CheckerMonotonic, "back"}
	for _, c := range []struct {
		name   string
		found  []violation
		struck int64
		want   string
		others int
	}{
		{"nothing", nil, 5, "", 0},
		{"its own", []violation{mine}, 5, check.CheckerDurability, 0},
		{"a listed one", []violation{listed}, 5, check.CheckerMonotonic, 0},
		{"the first of those", []violation{listed, mine}, 5, check.CheckerMonotonic, 0},
		{"its place was not reached", []violation{mine}, 0, "", 1},
		{"another checker", []violation{{check.CheckerHonesty, "seen"}}, 5, "", 1},
		{"no progress", []violation{{"progress", "not within 3m0s"}}, 5, "", 1},
		{"a node that ended", []violation{{"fatal", "node 1"}}, 5, "", 1},
		{"the simulator's own", []violation{{"simulator", "setup"}}, 5, "", 1},
		{"a panic", []violation{{noReport, "panic"}}, 5, "", 1},
		{"among others", []violation{{"fatal", "node 1"}, mine, {"progress", "not"}}, 5, check.CheckerDurability, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o outcome
			o.report.Violations, o.report.Struck = c.found, map[string]int64{"bug": c.struck}
			p := plan{checkers: []string{check.CheckerDurability, check.CheckerMonotonic}}
			others := map[string]int{}
			got := ""
			if v := o.judge(&p, "bug", others); v != nil {
				got = v.Checker
			}
			n := 0
			for _, k := range others {
				n += k
			}
			if got != c.want || n != c.others {
				t.Errorf("caught by %q, others %v", got, others)
			}
		})
	}
	p := plan{test: test{"node", "TestX"}}
	for _, c := range []struct {
		v    violation
		want bool
	}{{violation{"node TestX", "broken"}, true}, {violation{noReport, "panic"}, false}} {
		o := outcome{}
		o.report.Violations = []violation{c.v}
		if got := o.judge(&p, "bug", map[string]int{}) != nil; got != c.want {
			t.Errorf("%v counts: %v", c.v, got)
		}
	}
}

// TestChoose: all that are planted are hunted, and a rotation comes to each of them.
func TestChoose(t *testing.T) {
	all, err := choose("", 0, 0)
	if err != nil || len(all) < 70 {
		t.Fatalf("%d bugs, %v", len(all), err)
	}
	seen := map[string]bool{}
	for day := range (len(all) + 7) / 8 {
		some, err := choose("", 8, day)
		if err != nil || len(some) != 8 {
			t.Fatalf("day %d: %d bugs, %v", day, len(some), err)
		}
		for i := range some {
			seen[some[i].Name] = true
		}
	}
	if len(seen) != len(all) {
		t.Errorf("a rotation comes to %d of %d", len(seen), len(all))
	}
	if some, err := choose("tie-by-arrival,page-skips-row", 0, 0); err != nil || len(some) != 2 || some[1].Bug != planted.PageSkipsRow {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := choose("tie-by-arrival,nothing", 0, 0); err == nil {
		t.Error("a bug that does not exist is hunted")
	}
}

// TestReport: a bug that got away, and one whose seed fails without it too, are failures.
func TestReport(t *testing.T) {
	caught := Result{Name: "a", Caught: 1, Hunts: 1}
	for _, c := range []struct {
		all  []Result
		want string
	}{
		{[]Result{caught}, ""},
		{[]Result{caught, {Name: "b", Hunts: 1}}, "not caught: b"},
		{[]Result{{Name: "c", Caught: 1, Hunts: 1, Control: "seed 1: honesty: seen"}}, "fails without the bug too: c: seed 1: honesty: seen"},
	} {
		got := ""
		if err := report(c.all, ""); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestPlans: each plan names scenarios and tests that exist, and no checker that a run can fail by without any bug.
func TestPlans(t *testing.T) {
	checkers := []string{check.CheckerDurability, check.CheckerResurrection, check.CheckerMonotonic, check.CheckerLinearizable, check.CheckerCounters, check.CheckerBatches,
		check.CheckerPages, check.CheckerConvergence, check.CheckerHonesty, check.CheckerBounded}
	for _, e := range planted.Catalogue() {
		p := plans[e.Bug].withDefaults(&e)
		for _, s := range p.scenarios {
			if _, err := sim.ScenarioNamed(s); err != nil {
				t.Errorf("%s: %v", e.Name, err)
			}
		}
		for _, c := range p.checkers {
			if !slices.Contains(checkers, c) {
				t.Errorf("%s is caught by %q, which is no checker", e.Name, c)
			}
		}
		if p.test.pkg != "" && !defined(t, p.test) {
			t.Errorf("%s: a test of %v does not exist", e.Name, p.test)
		}
	}
}

// defined tells whether a package has all the tests that a plan names.
func defined(t *testing.T, want test) bool {
	t.Helper()
	dir := "../../../../" + want.pkg
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_test.go") {
			b, err := os.ReadFile(dir + "/" + f.Name())
			if err != nil {
				t.Fatal(err)
			}
			text.Write(b)
		}
	}
	return !slices.ContainsFunc(strings.Split(want.run, "|"), func(name string) bool { return !strings.Contains(text.String(), "\nfunc "+name+"(t ") })
}

// TestTable: the table of docs/testing.md has each bug, with what it does and who may find it.
func TestTable(t *testing.T) {
	b, err := os.ReadFile("../../../../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "<!-- the table of planted bugs begins -->\n")
	rest, _, _ = strings.Cut(rest, "<!-- and ends -->")
	rows := strings.Split(strings.TrimSpace(rest), "\n")
	all := planted.Catalogue()
	if len(rows) != 2+len(all) {
		t.Fatalf("%d rows for %d bugs", len(rows)-2, len(all))
	}
	for i := range all {
		e := &all[i]
		p := plans[e.Bug].withDefaults(e)
		want := strings.Join([]string{"", "`" + e.Name + "`", e.What, e.Scenario, strings.Join(p.checkers, " or "), ""}, " | ")
		if row := rows[2+i]; !strings.HasPrefix(row, strings.TrimPrefix(want, " ")) {
			t.Errorf("the table says\n%s\nwant\n%s", row, want)
		} else if p.test.pkg != "" && !strings.Contains(row, "| "+p.test.pkg+" `Test") {
			t.Errorf("%s is found by a test of %s, says the plan, and the table: %s", e.Name, p.test.pkg, row)
		}
	}
}
