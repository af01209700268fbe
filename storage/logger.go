package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleLogger passes Pebble's messages on. Fatalf ends the process: Pebble calls it when a commit or a MANIFEST sync has failed
// and must not be survived.
type pebbleLogger struct{ e *Engine }

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) {
	if l.e.opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
		l.e.opts.Logger.Debug("pebble", "message", fmt.Sprintf(format, args...))
	}
}

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.e.opts.Logger.Error("pebble", "message", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.e.fail(fmt.Errorf("storage: pebble: "+format, args...))
}

// events returns what the engine wants to hear of Pebble; everything else is silent.
func (e *Engine) events() *pebble.EventListener {
	m := e.opts.Metrics
	return &pebble.EventListener{
		BackgroundError: e.backgroundError,
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			m.Corruptions.Add(1)
			e.opts.Logger.Error("storage: damaged data", "path", i.Path, "error", i.Details)
			if calledBy(compacting) {
				e.pause(damagedPause)
			}
		},
		DiskSlow: func(i pebble.DiskSlowInfo) {
			m.SlowDisk.Add(1)
			e.opts.Logger.Warn("storage: slow disk", "path", i.Path, "operation", i.OpType.String(), "duration", i.Duration)
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			m.WriteStalls.Add(1)
			e.opts.Logger.Warn("storage: writes are stalled", "reason", i.Reason)
		},
		WriteStallEnd: func() { e.opts.Logger.Info("storage: writes go on") },
	}
}

// backgroundError decides about a failed flush or compaction, which Pebble tries again: a full disk refuses writes until space is
// freed, damage is reported (the data it concerns cannot be read, everything else can), anything else is a disk that fails.
func (e *Engine) backgroundError(err error) {
	m := e.opts.Metrics
	m.BackgroundErrors.Add(1)
	switch {
	case errors.Is(err, pebble.ErrClosed) || errors.Is(err, pebble.ErrCancelledCompaction):
	case errors.Is(err, syscall.ENOSPC):
		e.reserve.empty()
		e.opts.Logger.Error("storage: the disk is full, writes are refused", "error", err)
	case pebble.IsCorruptionError(err):
		e.opts.Logger.Error("storage: background work met damaged data", "error", err)
		if calledBy(lookingAtTables) {
			e.pause(damagedPause)
		}
	default:
		e.fail(fmt.Errorf("storage: background work: %w", err))
	}
}

// damagedPause is how long Pebble's collector of table statistics, or a compaction, is held up when it met damaged data. Both would ask for the same table again at once, and keep a
// core busy until the file is replaced: compactions keep away from the damaged span by themselves, but not those within L0. Reads are never held up.
const damagedPause = 10 * time.Second

// pause waits, or until the engine is closed.
func (e *Engine) pause(d time.Duration) {
	select {
	case <-e.ctx.Done():
	case <-time.After(d):
	}
}

// What of Pebble is held up: the collector when it reports that it has failed, a compaction when it meets the damage. There neither holds a lock; when a compaction reports that it has failed it does.
const (
	lookingAtTables = ".(*DB).collectTableStats"
	compacting      = ".(*DB).compactAndWrite"
)

// calledBy tells whether it is called, at some remove, by a function whose name ends so: Pebble does not say otherwise who meets damage.
func calledBy(function string) bool {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, function) {
			return true
		}
		if !more {
			return false
		}
	}
}
