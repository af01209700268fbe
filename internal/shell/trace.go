package shell

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/helenusdb/helenus/cql/types"
)

// traceWait is how long a trace may take to be complete, tracePause the first pause between two looks; it doubles.
const (
	traceWait  = 10 * time.Second
	tracePause = 3 * time.Millisecond
	traceAsk   = 500 * time.Millisecond // the longest pause
)

func uuidText(id [16]byte) string { return string(types.Uuid.AppendString(nil, id[:])) }

func parseUUID(text string) (id [16]byte, ok bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 || len(text) != 36 {
		return id, false
	}
	return [16]byte(b), true
}

// traceSession is a row of system_traces.sessions.
type traceSession struct {
	coordinator, client, request string
	started                      time.Time
	duration                     time.Duration
	complete                     bool
}

func (s *Shell) traceSession(ctx context.Context, id [16]byte) (t traceSession, found bool, err error) {
	r, err := s.query(ctx, "SELECT coordinator, client, request, started_at, duration FROM system_traces.sessions WHERE session_id = "+uuidText(id))
	if err != nil || !r.Rows.Next() {
		return t, false, err
	}
	t = traceSession{coordinator: inetText(r.Rows.Value(0)), client: inetText(r.Rows.Value(1)), request: string(r.Rows.Value(2))}
	ms, _ := types.DecodeTimestamp(r.Rows.Value(3))
	us, _ := types.DecodeInt(r.Rows.Value(4))
	t.started, t.duration = time.UnixMilli(ms), time.Duration(us)*time.Microsecond
	t.complete = len(r.Rows.Value(3)) > 0 && len(r.Rows.Value(4)) > 0
	return t, true, nil
}

func inetText(v []byte) string {
	a, ok := netip.AddrFromSlice(v)
	if !ok {
		return "null"
	}
	return a.Unmap().String()
}

// printTrace prints a session and its events as cqlsh does; with wait it first waits until the session has ended.
func (s *Shell) printTrace(ctx context.Context, id [16]byte, wait bool) error {
	t, found, err := s.traceSession(ctx, id)
	pause := tracePause
	for end := time.Now().Add(traceWait); err == nil && wait && !t.complete; pause = min(2*pause, traceAsk) {
		if time.Now().After(end) {
			fmt.Fprintf(s.o.Err, "Statement trace did not complete within %d seconds; trace data may be incomplete.\n", int(traceWait.Seconds()))
			break
		}
		select {
		case <-ctx.Done():
			return cause(ctx)
		case <-time.After(pause):
		}
		t, found, err = s.traceSession(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("fetch the trace: %w", err)
	}
	if !found {
		return fmt.Errorf("Session %s wasn't found.", uuidText(id))
	}
	rows, err := s.traceEvents(ctx, id, &t)
	if err != nil {
		return fmt.Errorf("fetch the trace: %w", err)
	}
	color := s.o.Color && s.capture == nil
	title := coloredCell("Tracing session: ", magenta, color)
	fmt.Fprintf(s.out, "\n%s%s\n\n", title.colored, uuidText(id))
	tab := &table{w: s.out, terminal: s.o.Lines != nil}
	for _, name := range []string{"activity", "timestamp", "source", "source_elapsed", "client"} {
		tab.header = append(tab.header, coloredCell(name, magenta, color))
	}
	tab.page(rows)
	fmt.Fprintln(s.out)
	return nil
}

// traceEvents returns the rows to print: the request, its events, its end.
func (s *Shell) traceEvents(ctx context.Context, id [16]byte, t *traceSession) (rows [][]cell, err error) {
	const layout = "2006-01-02 15:04:05.000000"
	row := func(activity string, at time.Time, source, elapsed string) {
		rows = append(rows, []cell{plainCell(escape(activity)), plainCell(at.Format(layout)), plainCell(source), plainCell(elapsed), plainCell(t.client)})
	}
	row(t.request, t.started, t.coordinator, "0")
	r, err := s.query(ctx, "SELECT event_id, activity, source, source_elapsed, thread FROM system_traces.events WHERE session_id = "+uuidText(id))
	if err != nil {
		return nil, err
	}
	for r.Rows.Next() {
		elapsed := "--"
		if us, err := types.DecodeInt(r.Rows.Value(3)); err == nil {
			elapsed = strconv.Itoa(int(us))
		}
		row(fmt.Sprintf("%s [%s]", r.Rows.Value(1), r.Rows.Value(4)), uuidTime(r.Rows.Value(0)), inetText(r.Rows.Value(2)), elapsed)
	}
	if t.complete {
		row("Request complete", t.started.Add(t.duration), t.coordinator, strconv.FormatInt(t.duration.Microseconds(), 10))
	}
	return rows, r.Rows.Err()
}

// uuidTime returns the time in a time uuid (RFC 9562, version 1).
func uuidTime(v []byte) time.Time {
	if len(v) != 16 {
		return time.Time{}
	}
	const unixEpoch = 0x01b21dd213814000 // in 100 ns since 1582-10-15
	ticks := int64(binary.BigEndian.Uint16(v[6:])&0x0fff)<<48 | int64(binary.BigEndian.Uint16(v[4:]))<<32 | int64(binary.BigEndian.Uint32(v))
	since := ticks - unixEpoch
	return time.Unix(since/1e7, since%1e7*100)
}
