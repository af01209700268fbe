package main

import (
	"io"
	"os"
	"path/filepath"
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
	nodes, err := devNodes(devOptions{nodes: 3, dir: t.TempDir(), subnet: "127.0.99", ephemeral: true})
	if err != nil || len(nodes) != 3 {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
	if _, err := devNodes(devOptions{nodes: 3, subnet: "127.0"}); err == nil || !strings.Contains(err.Error(), "--subnet") {
		t.Errorf("a bad subnet: %v", err)
	}
}

// TestDevResumes: a cluster that is kept has as many nodes as it was made with, whether or not that is said; another number is
// refused, and the right one named.
func TestDevResumes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dev-data")
	resume := func(nodes int, chosen, ephemeral bool) (int, error) {
		o := devOptions{nodes: nodes, dir: dir, subnet: "127.0.99", ephemeral: ephemeral}
		err := o.resume(chosen)
		return o.nodes, err
	}
	for _, n := range []int{0, -1, devNodesMax + 1} {
		if _, err := resume(n, true, false); err == nil || !strings.Contains(err.Error(), "--nodes must be between 1 and 9") {
			t.Errorf("%d nodes: %v", n, err)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused start has made the folder")
	}
	if n, err := resume(5, true, false); n != 5 || err != nil {
		t.Fatalf("a new one: %d, %v", n, err)
	}
	if n, err := resume(devNodesDefault, false, false); n != 5 || err != nil {
		t.Errorf("nothing said: %d, %v", n, err)
	}
	if n, err := resume(5, true, false); n != 5 || err != nil {
		t.Errorf("the right number: %d, %v", n, err)
	}
	for _, n := range []int{3, 6} {
		if _, err := resume(n, true, false); err == nil || !strings.Contains(err.Error(), dir+" was made with --nodes 5") {
			t.Errorf("%d nodes: %v", n, err)
		}
	}
	if n, err := resume(2, true, true); n != 2 || err != nil {
		t.Errorf("in memory: %d, %v", n, err)
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
