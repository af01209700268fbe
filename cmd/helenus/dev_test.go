package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDevLogger(t *testing.T) {
	for _, verbose := range []bool{false, true} {
		var b strings.Builder
		log := devLogger(&b, verbose)
		log.Info("a node has joined")
		log.Error("the disk is full")
		if out := b.String(); strings.Contains(out, "joined") != verbose || !strings.Contains(out, "the disk is full") {
			t.Errorf("verbose %v: %s", verbose, out)
		}
	}
}

func TestDevOptions(t *testing.T) {
	f, err := newFleet(t.Context(), io.Discard, devOptions{dir: t.TempDir(), subnet: "127.0.99", ephemeral: true}, []int{2, 3, 1})
	if err != nil || len(f.members) != 3 || f.members[2].addr != "127.0.99.1" {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := newFleet(t.Context(), io.Discard, devOptions{subnet: "127.0"}, []int{1}); err == nil || !strings.Contains(err.Error(), "--subnet") {
		t.Errorf("a bad subnet: %v", err)
	}
}

// TestDevResumes: a cluster that is kept has the nodes that it had at its end, in the order of their joining; another number is refused, and the right one named.
func TestDevResumes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dev-data")
	options := func(nodes int, ephemeral bool) devOptions {
		return devOptions{nodes: nodes, dir: dir, subnet: "127.0.99", ephemeral: ephemeral}
	}
	resumes := func(what string, nodes int, chosen, ephemeral bool, want ...int) {
		t.Helper()
		o := options(nodes, ephemeral)
		if got, err := o.resume(chosen); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", what, got, err, want)
		}
	}
	for _, n := range []int{0, -1, devNodesMax + 1} {
		o := options(n, false)
		if _, err := o.resume(true); err == nil || !strings.Contains(err.Error(), "--nodes must be between 1 and 9") {
			t.Errorf("%d nodes: %v", n, err)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused start has made the folder")
	}
	resumes("a new one", 5, true, false, 1, 2, 3, 4, 5)
	resumes("nothing said", devNodesDefault, false, false, 1, 2, 3, 4, 5)
	resumes("the right number", 5, true, false, 1, 2, 3, 4, 5)
	for _, n := range []int{3, 6} {
		o := options(n, false)
		if _, err := o.resume(true); err == nil || !strings.Contains(err.Error(), dir+" has 5 nodes: start it without --nodes") {
			t.Errorf("%d nodes: %v", n, err)
		}
	}
	resumes("in memory", 2, true, true, 1, 2)

	o := options(devNodesDefault, false)
	if err := o.keep([]int{3, 5, 1}); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, listFile)); err != nil || string(raw) != "3\n5\n1\n" { // as docs/format/storage-keys.md has it
		t.Errorf("%q %v", raw, err)
	}
	resumes("after nodes came and went", devNodesDefault, false, false, 3, 5, 1)
	if err := os.Remove(filepath.Join(dir, listFile)); err != nil {
		t.Fatal(err)
	}
	resumes("a folder of before there was a list", devNodesDefault, false, false, 1, 2, 3, 4, 5)
	for _, bad := range []string{"1\n1\n", "10\n", "one\n"} {
		if err := os.WriteFile(filepath.Join(dir, listFile), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := o.resume(false); err == nil || !strings.Contains(err.Error(), "is no number of a node") {
			t.Errorf("list %q: %v", bad, err)
		}
	}
}

// TestDevForgets: a node that has left goes with its folder; the others stay in the list, and its number is free again.
func TestDevForgets(t *testing.T) {
	o := devOptions{nodes: 3, dir: filepath.Join(t.TempDir(), "dev-data"), subnet: "127.0.99"}
	numbers, err := o.resume(true)
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFleet(t.Context(), io.Discard, o, numbers)
	if err != nil {
		t.Fatal(err)
	}
	for i, aside := range []bool{false, true} {
		dir := o.nodeDir(i + 1)
		f.mu.Lock()
		if err := f.forget(f.members[0], aside); err != nil {
			t.Fatal(err)
		}
		f.mu.Unlock()
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
		if _, err := os.Stat(dir + ".left"); (err == nil) != aside {
			t.Errorf("aside %v: %v", aside, err)
		}
	}
	if kept, err := o.kept(); err != nil || !slices.Equal(kept, []int{3}) {
		t.Errorf("kept %v, %v", kept, err)
	}
	if _, err := f.add(t.Context()); err == nil {
		t.Error("a node was added to a cluster that does not run")
	}
}

// TestDevNames: dev remove takes a number, an address, or the last node that is up.
func TestDevNames(t *testing.T) {
	s := devStatus{Nodes: []devNodeStatus{{2, "127.0.0.2", devUp, ""}, {3, "127.0.0.3", devUp, ""}, {1, "127.0.0.1", devUp, ""}, {4, "127.0.0.4", devFailed, "no"}}}
	for arg, want := range map[string]int{"": 3, "1": 1, "127.0.0.2": 2, "4": 4, "7": 0, "x": 0} {
		var args []string
		if arg != "" {
			args = []string{arg}
		}
		if n, err := s.named(args); n.Number != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %+v, %v", arg, n, err)
		}
	}
	if _, err := (&devStatus{}).named(nil); err == nil {
		t.Error("a node of none")
	}
}

// TestUnknownFlags: the flag that may have been meant is named, of every command.
func TestUnknownFlags(t *testing.T) {
	for args, want := range map[string]string{
		"start --data-dri /x":        "unknown flag: --data-dri, did you mean --data-dir? (helenus start --help lists them)",
		"start --seed 127.0.0.1":     "did you mean --seeds?",
		"dev --node 3":               "did you mean --nodes?",
		"dev --ephemral":             "did you mean --ephemeral?",
		"status --hots 127.0.0.1":    "did you mean --host?",
		"start --listen_address ::1": "did you mean --listen-address?",
		"dev -x":                     "unknown shorthand flag: 'x' in -x",
		"dev --nodes":                "flag needs an argument: --nodes",
	} {
		c := root()
		c.SetArgs(strings.Fields(args))
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
