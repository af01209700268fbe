package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// once runs a seed in a process of its own and returns its report.
func once(t *testing.T, binary string, env string, args ...string) *Report {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report")
	cmd := exec.Command(binary, append(args, "-test.run=^TestSeed$", "-sim.report="+report)...)
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", env, strings.Join(args, " "), err, out)
	}
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	r := new(Report)
	if err := json.Unmarshal(b, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// repeatTries is how many seeds of a scenario may differ before the test fails. Of those of this length about four in five are one
// run to the bit, and the others differ in what several goroutines of one node do in the same instant (docs/testing.md names it).
// Anything that makes runs differ by itself (a map's order, a shared generator, the real clock) makes all of them differ.
const repeatTries = 4

// TestOneSeedOneRun: the same seed gives the same trace of messages, answers and faults, whatever the scheduler does: with one
// and with two processors and under the race detector.
func TestOneSeedOneRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	span := "-sim.for=15s"
	if testing.Short() {
		span = "-sim.for=8s"
	}
	racing := raceBinary(t)
	for _, scenario := range []string{"registers", "crashes"} {
		var differences []string
		for seed := range repeatTries {
			args := []string{fmt.Sprintf("-sim.seed=%d", 7+seed), "-sim.scenario=" + scenario, "-sim.workloads=registers,deletes", span}
			want := once(t, self, "GOMAXPROCS=1", args...)
			if len(want.Faults) == 0 || want.Events < 1000 {
				t.Errorf("%s, seed %d: %d events and faults %v show little", scenario, want.Seed, want.Events, want.Faults)
			}
			differs := difference(want, once(t, self, "GOMAXPROCS=2", args...), "GOMAXPROCS=2")
			if differs == "" && racing != "" {
				differs = difference(want, once(t, racing, "GOMAXPROCS=2", args...), "-race")
			}
			if differs == "" {
				differences = nil
				break
			}
			t.Log(differs)
			differences = append(differences, differs)
		}
		if len(differences) > 0 {
			t.Errorf("%s: none of %d seeds is one run:\n%s", scenario, repeatTries, strings.Join(differences, "\n"))
		}
	}
}

// difference says how two runs of a seed differ, "" when they do not.
func difference(want, got *Report, how string) string {
	if want.Trace == got.Trace && want.Events == got.Events {
		return ""
	}
	return fmt.Sprintf("%s, seed %d: trace %s of %d events, with %s %s of %d", want.Scenario, want.Seed, want.Trace, want.Events, how, got.Trace, got.Events)
}

// raceBinary builds this test with the race detector; "" when that cannot be done, or takes too long.
func raceBinary(t *testing.T) string {
	t.Helper()
	if testing.Short() || os.Getenv("SIM_RACE") == "" {
		return ""
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Log("NOTICE: no C compiler, which the race detector needs")
		return ""
	}
	binary := filepath.Join(t.TempDir(), "race.test")
	cmd := exec.Command("go", "test", "-race", "-c", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go test -race -c: %v\n%s", err, out)
	}
	return binary
}
