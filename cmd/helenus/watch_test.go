package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/helenusdb/helenus/node"
)

// answers serves one answer after another at every path, the last one for ever.
func answers(t *testing.T, seen func(r *http.Request), values ...any) (host string) {
	t.Helper()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen(r)
		i := min(int(n.Add(1)), len(values)) - 1
		if err := json.NewEncoder(w).Encode(values[i]); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// command runs the program with arguments and returns what it prints.
func command(ctx context.Context, in string, args ...string) (out, errs string, err error) {
	var o, e bytes.Buffer
	c := root()
	c.SetArgs(args)
	c.SetIn(strings.NewReader(in))
	c.SetOut(&o)
	c.SetErr(&e)
	err = c.ExecuteContext(ctx)
	return o.String(), e.String(), err
}

var (
	leaves   = node.OperationStatus{ID: 41, Kind: "decommission", Address: "10.0.0.2", HostID: "x"}
	underWay = node.Operations{Phase: "filling", Operations: []node.OperationStatus{leaves}, Started: []node.OperationStatus{leaves}, Outcomes: []string{node.OutcomeUnderWay},
		Nodes: []node.NodeProgress{{Address: "10.0.0.3", Up: true, FillStatus: node.FillStatus{RangesDone: 3, RangesTotal: 4, Bytes: 2048}}}}
	over    = node.Operations{Phase: "none", Outcomes: []string{node.OutcomeDone}}
	aborted = node.Operations{Phase: "none", Outcomes: []string{node.OutcomeAborted}}
)

// TestWaits: a decommission is waited for as nodetool does it, its progress is shown on the way, and the exit status tells how it ended.
func TestWaits(t *testing.T) {
	var asked []string
	seen := func(r *http.Request) { asked = append(asked, r.Method+" "+r.URL.Query().Get("of")) }
	out, errs, err := command(t.Context(), "", "decommission", "a", "b", "--host", answers(t, seen, underWay, underWay, over))
	if err != nil || !strings.Contains(out, "The decommission of 10.0.0.2 (operation 41) is done") || !strings.Contains(out, "10.0.0.3 was sent 2 KiB in 4 ranges") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{"filling: ", "75%", "3 of 4 ranges", "2 KiB"} {
		if !strings.Contains(errs, want) {
			t.Errorf("the progress lacks %q:\n%s", want, errs)
		}
	}
	if len(asked) != 3 || !strings.HasPrefix(asked[0], "POST") || !strings.Contains(asked[2], `"id":41`) {
		t.Errorf("asked %q", asked)
	}
	nothing := func(*http.Request) {}
	if _, _, err := command(t.Context(), "", "removenode", "a", "--host", answers(t, nothing, underWay, aborted)); err == nil || !strings.Contains(err.Error(), "was aborted") {
		t.Errorf("aborted: %v", err)
	}
	if out, errs, err := command(t.Context(), "", "decommission", "--wait=false", "--host", answers(t, nothing, underWay)); err != nil || errs != "" || !strings.Contains(out, "decommission") {
		t.Errorf("at once: %v\n%s%s", err, out, errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	host := answers(t, func(r *http.Request) {
		if r.Method == http.MethodGet {
			cancel()
		}
	}, underWay)
	if _, _, err := command(ctx, "", "decommission", "--host", host); err == nil || !strings.Contains(err.Error(), "operation 41 goes on") {
		t.Errorf("Ctrl-C: %v", err)
	}
	out, errs, err = command(t.Context(), "", "operations", "--wait", "--json", "--host", answers(t, nothing, underWay, over))
	if err != nil || errs != "" || json.Unmarshal([]byte(out), &node.Operations{}) != nil {
		t.Errorf("JSON: %v\n%s%s", err, out, errs)
	}
}

// TestForceAsks: force says what is given up, and does nothing unless it is told yes.
func TestForceAsks(t *testing.T) {
	preview := node.ForcePreview{Operation: leaves, Losses: []node.ForcedLoss{{Keyspace: "shop", Ranges: 12, Gone: 2, Down: []string{"10.0.0.7"}}}}
	for _, c := range []struct {
		in, flag string
		forced   bool
	}{{"yes\n", "", true}, {"no\n", "", false}, {"y\n", "", false}, {"", "", false}, {"", "--yes", true}} {
		posts, gets := 0, 0
		host := answers(t, func(r *http.Request) {
			if r.Method == http.MethodPost {
				posts++
			} else {
				gets++
			}
		}, preview, over)
		args := []string{"force", "41", "--host", host}
		if c.flag != "" {
			args = append(args, c.flag)
		}
		_, errs, err := command(t.Context(), c.in, args...)
		if (err == nil) != c.forced || (posts == 1) != c.forced || posts > 1 {
			t.Errorf("%+v: %v, %d posts", c, err, posts)
		}
		if c.flag == "" && (gets != 1 || !strings.Contains(errs, "keyspace shop: 12 ranges") || !strings.Contains(errs, "of 2 of them none is up. Down: 10.0.0.7")) {
			t.Errorf("%+v: it says\n%s", c, errs)
		}
	}
}

// TestScreen: away from a terminal lines are printed when their title has changed, not with every number.
func TestScreen(t *testing.T) {
	var b bytes.Buffer
	s := newScreen(&b, false, 1)
	for _, lines := range [][]string{{"a", "1"}, {"a", "2"}, {"b", "3"}, nil, {"b", "3"}} {
		s.show(lines)
	}
	if got := b.String(); got != "a\n1\nb\n3\n" {
		t.Errorf("%q", got)
	}
}
