package main

import (
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
