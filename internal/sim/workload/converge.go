package workload

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// content is a row as text.
func content(values [][]byte) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte('|')
		}
		if v == nil {
			b.WriteString("null")
			continue
		}
		fmt.Fprintf(&b, "%q", v)
	}
	return b.String()
}

func sortRows(replicas []check.Replica) {
	for i := range replicas {
		slices.SortFunc(replicas[i].Rows, func(a, b check.ReplicaRow) int { return cmp.Compare(a.Key, b.Key) })
	}
}

const (
	quietReads = 2
	traceWait  = 200 * time.Millisecond // simulated, for the trace to be written everywhere
)

// quiet makes a read at ALL, for the repairs that it brings, and looks at the traces of some more: none of them may find digests that
// differ.
func (w *worker) quiet(ctx context.Context, table, key string, q *request) []check.Violation {
	if w.must(ctx, "a read at ALL", q) == nil {
		return nil
	}
	mismatches := 0
	for range quietReads {
		traced := *q
		traced.traced = true
		a := w.must(ctx, "a traced read at ALL", &traced)
		if a == nil || !sleep(ctx, traceWait) {
			return nil
		}
		events := w.must(ctx, "reading a trace", &request{text: "SELECT activity FROM system_traces.events WHERE session_id = ?",
			values: []protocol.Value{{Bytes: a.traceID[:]}}, level: protocol.All})
		if events == nil {
			return nil
		}
		for i := range events.rows {
			if strings.Contains(string(events.rows[i][0]), "igest mismatch") {
				mismatches++
				break
			}
		}
	}
	if mismatches < quietReads {
		return nil
	}
	return check.Quiet(table, key, mismatches)
}
