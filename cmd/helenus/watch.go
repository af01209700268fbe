package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/helenusdb/helenus/internal/nodetool"
	"github.com/helenusdb/helenus/node"
)

const (
	watchEvery  = 500 * time.Millisecond
	watchCall   = 10 * time.Second // one look
	watchSilent = time.Minute      // how long nobody answers before the command gives up: a node may be starting again
)

// screen shows lines that change: on a terminal in place, elsewhere when those of the title have changed, or a while has passed.
type screen struct {
	w     io.Writer
	live  bool
	title int      // lines
	drawn int      // lines on the terminal
	last  []string // what was printed last, when not live
	at    time.Time
}

const printEvery = 5 * time.Second

// newScreen shows on w; quiet shows nothing.
func newScreen(w io.Writer, quiet bool, title int) *screen {
	if quiet {
		return &screen{w: io.Discard}
	}
	f, ok := w.(*os.File)
	return &screen{w: w, title: title, live: ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))}
}

func (s *screen) show(lines []string) {
	title := func(of []string) []string { return of[:min(s.title, len(of))] }
	switch {
	case s.live:
		if s.drawn > 0 {
			fmt.Fprintf(s.w, "\x1b[%dA\x1b[J", s.drawn)
		}
		s.drawn = len(lines)
	case len(lines) == 0, slices.Equal(lines, s.last), slices.Equal(title(lines), title(s.last)) && time.Since(s.at) < printEvery:
		return
	}
	s.last, s.at = lines, time.Now()
	for _, line := range lines {
		fmt.Fprintln(s.w, line)
	}
}

// await shows how the operations go on until each has ended. An error says which were aborted, or that it stopped to wait while they go on.
func await(c *cobra.Command, t *target, ops []node.OperationStatus) error {
	q := url.Values{}
	for _, o := range ops {
		raw, err := json.Marshal(o)
		if err != nil {
			return err
		}
		q.Add("of", string(raw))
	}
	shown := newScreen(c.ErrOrStderr(), t.json, 2)
	var got received
	for heard := time.Now(); ; {
		s, raw, err := look(c.Context(), t, q)
		switch {
		case err == nil:
			heard = time.Now()
			got.note(s)
			shown.show(nodetool.Movement(s))
			if ended(s.Outcomes, len(ops)) {
				if !t.json {
					got.print(c.OutOrStdout())
				}
				return conclude(c.OutOrStdout(), t, ops, s, raw)
			}
		case c.Context().Err() == nil && time.Since(heard) > watchSilent:
			return fmt.Errorf("%w; %s", err, goesOn(ops))
		}
		if pauseWatch(c.Context()) {
			return errors.New(goesOn(ops))
		}
	}
}

// look asks a node how operations stand.
func look(ctx context.Context, t *target, q url.Values) (*node.Operations, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, watchCall)
	defer cancel()
	s := new(node.Operations)
	raw, err := t.call(ctx, http.MethodGet, "operations", q, s)
	return s, raw, err
}

func pauseWatch(ctx context.Context) (ended bool) {
	select {
	case <-time.After(watchEvery):
		return false
	case <-ctx.Done():
		return true
	}
}

func ended(outcomes []string, of int) bool {
	return len(outcomes) == of && !slices.Contains(outcomes, node.OutcomeUnderWay)
}

// goesOn says what becomes of operations for which nobody waits any more.
func goesOn(ops []node.OperationStatus) string {
	return fmt.Sprintf("stopped waiting: operation %d goes on (helenus operations shows it, helenus abort %d ends it before reads have moved)", ops[0].ID, ops[0].ID)
}

// conclude prints how the operations have ended; an error names those that were aborted.
func conclude(w io.Writer, t *target, ops []node.OperationStatus, s *node.Operations, raw []byte) error {
	if t.json {
		if _, err := w.Write(raw); err != nil {
			return err
		}
	}
	var aborted []error
	for i, o := range ops {
		switch {
		case s.Outcomes[i] == node.OutcomeAborted:
			aborted = append(aborted, fmt.Errorf("the %s was aborted", nodetool.OperationName(o)))
		case !t.json:
			fmt.Fprintf(w, "The %s is done\n", nodetool.OperationName(o))
		}
	}
	return errors.Join(aborted...)
}

// received is what nodes were seen to be sent. The zero value has seen nothing.
type received struct {
	order []string // addresses
	last  map[string]node.FillStatus
}

func (r *received) note(s *node.Operations) {
	for _, n := range s.Nodes {
		was, known := r.last[n.Address]
		switch {
		case n.Bytes <= was.Bytes:
			continue
		case r.last == nil:
			r.last = map[string]node.FillStatus{}
		}
		if !known {
			r.order = append(r.order, n.Address)
		}
		r.last[n.Address] = n.FillStatus
	}
}

func (r *received) print(w io.Writer) {
	for _, addr := range r.order {
		f := r.last[addr]
		fmt.Fprintf(w, "%s was sent %s in %d ranges\n", addr, nodetool.Size(float64(f.Bytes)), f.RangesTotal)
	}
}

// summary prints what has moved, and the cluster as it is now.
func (r *received) summary(c *cobra.Command, t *target, title string) error {
	var s node.Status
	if _, err := t.call(c.Context(), http.MethodGet, "status", nil, &s); err != nil {
		return err
	}
	w := c.OutOrStdout()
	r.print(w)
	fmt.Fprintln(w, title)
	return nodetool.Status(w, &s, "")
}
