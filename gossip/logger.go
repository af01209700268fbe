package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// newLogger returns a logger for memberlist. It is quiet: what matters to an operator is logged by this package when a
// node changes, and a peer that is down makes memberlist complain several times a second. So memberlist's own lines are
// all at Debug, with their level as an attribute.
func newLogger(l *slog.Logger) *log.Logger { return log.New(logWriter{l}, "", 0) }

type logWriter struct{ log *slog.Logger }

// Write implements io.Writer for lines such as "[WARN] memberlist: text".
func (w logWriter) Write(line []byte) (int, error) {
	if !w.log.Enabled(context.Background(), slog.LevelDebug) {
		return len(line), nil
	}
	level := []byte("INFO")
	text := bytes.TrimSpace(line)
	if rest, ok := bytes.CutPrefix(text, []byte("[")); ok {
		if name, after, ok := bytes.Cut(rest, []byte("] ")); ok {
			level, text = name, after
		}
	}
	text = bytes.TrimPrefix(text, []byte("memberlist: "))
	w.log.Debug("memberlist", "level", string(level), "text", string(text))
	return len(line), nil
}
