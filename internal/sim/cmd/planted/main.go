package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/helenusdb/helenus/internal/planted"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		os.Exit(1)
	}
}

func run() error {
	var h hunt
	only := flag.String("only", "", "these bugs, with commas; empty: all that are planted")
	rotate := flag.Int("rotate", 0, "only so many, others each day; 0: all")
	day := flag.Int("day", int(time.Now().Unix()/(24*60*60)), "the day of -rotate")
	out := flag.String("json", "", "write the report to this file")
	flag.DurationVar(&h.budget, "budget", time.Minute, "machine time for each hunt")
	flag.IntVar(&h.hunts, "hunts", 1, "hunts for each bug, with other seeds; the report has their median")
	flag.Uint64Var(&h.first, "first", 1, "first seed")
	flag.IntVar(&h.parallel, "parallel", runtime.GOMAXPROCS(0), "hunts at a time")
	flag.StringVar(&h.binary, "binary", "", "test binary of internal/sim with the tag planted; empty: it is built")
	flag.Parse()
	bugs, err := choose(*only, *rotate, *day)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if h.dir, err = os.MkdirTemp("", "planted"); err != nil {
		return err
	}
	defer os.RemoveAll(h.dir)
	if err := h.build(ctx, bugs); err != nil {
		return err
	}
	return report(h.all(ctx, bugs), *out)
}

// build builds the test binaries that the hunts run, so that no hunt's machine time has a compiler in it.
func (h *hunt) build(ctx context.Context, bugs []planted.Entry) error {
	h.tests = map[string]string{}
	for i := range bugs {
		pkg := plans[bugs[i].Bug].test.pkg
		if pkg == "" && h.binary != "" || h.tests[pkg] != "" {
			continue
		}
		file := filepath.Join(h.dir, strings.ReplaceAll(pkg, "/", "-")+".test")
		from := pkg
		if from == "" {
			from = "internal/sim"
		}
		c := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "planted", "-o", file, "./"+from)
		c.Stderr = os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("build of %s: %w", from, err)
		}
		h.tests[pkg] = file
	}
	if h.binary == "" {
		h.binary = h.tests[""]
	}
	return nil
}

// choose returns the bugs to hunt: those that are planted somewhere.
func choose(only string, rotate, day int) ([]planted.Entry, error) {
	all := slices.DeleteFunc(planted.Catalogue(), func(e planted.Entry) bool { return e.Where == "" })
	if only != "" {
		all = nil
		for _, name := range strings.Split(only, ",") {
			b, ok := planted.Named(name)
			if !ok {
				return nil, fmt.Errorf("there is no planted bug %q", name)
			}
			all = append(all, planted.Catalogue()[b])
		}
	}
	if rotate <= 0 || rotate >= len(all) {
		return all, nil
	}
	var out []planted.Entry
	for i := range rotate {
		out = append(out, all[(day*rotate+i)%len(all)])
	}
	return out, nil
}

// report writes the results and fails when a bug got away, or when a seed that caught one fails without it too.
func report(results []Result, file string) error {
	var missed, doubtful []string
	for i := range results {
		switch {
		case results[i].Control != "":
			doubtful = append(doubtful, results[i].Name+": "+results[i].Control)
		case results[i].Caught < results[i].Hunts:
			missed = append(missed, results[i].Name)
		}
	}
	fmt.Printf("%d planted bugs, %d caught in each hunt\n", len(results), len(results)-len(missed)-len(doubtful))
	if file != "" {
		if err := write(results, file); err != nil {
			return err
		}
	}
	var errs []error
	if len(missed) > 0 {
		errs = append(errs, errors.New("not caught: "+strings.Join(missed, ", ")))
	}
	if len(doubtful) > 0 {
		errs = append(errs, errors.New("fails without the bug too: "+strings.Join(doubtful, "; ")))
	}
	return errors.Join(errs...)
}
