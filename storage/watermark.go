package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/internal/watermark"
)

// watermarks notices a log whose tail is missing, which Pebble cannot tell from a log that ends there (the newest 32 KiB have no
// later checksum). About once a second while there are writes the engine commits a beat and, when it is durable, writes its number
// into a small file. At the next start the store must hold that beat or a later one.
type watermarks struct {
	*watermark.Watermark
	last   uint64       // newest beat committed; holders of Engine.beats
	beatAt atomic.Int64 // batches written at the last beat
}

// openWatermark reads or creates the file and makes its name durable.
func openWatermark(fs vfs.FS, dir string) (*watermarks, error) {
	f, err := fs.OpenReadWrite(fs.PathJoin(dir, watermark.Name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("watermark: %w", err)
	}
	d, err := fs.OpenDir(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watermark: %w", err), f.Close())
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("watermark: %w", err), f.Close())
	}
	w, err := watermark.Open(f)
	if err != nil {
		return nil, err
	}
	return &watermarks{Watermark: w}, nil
}

var beatKey = []byte{spaceEngine, 'b'}

// checkTail compares the store with the watermark and starts a new beat.
func (e *Engine) checkTail(existed bool) error {
	stored, err := e.storedBeat()
	if err != nil {
		return err
	}
	before := e.water.Mark()
	short := existed && e.water.Lost(stored) && !planted.On(planted.WatermarkIgnored)
	if short {
		e.opts.Logger.Error("storage: the log is shorter than what was acknowledged", "beat", stored, "watermark", before.Beat)
	}
	e.suspect.Store(short || before.Suspect)
	e.water.last = max(stored, before.Beat)
	if before.Turn == 0 { // before the first beat: a power loss between the two must not look like a lost watermark
		if err := e.water.Write(watermark.Mark{Suspect: e.suspect.Load()}); err != nil {
			return err
		}
	}
	return e.beat(false)
}

func (e *Engine) storedBeat() (uint64, error) {
	v, closer, err := e.db.Get(beatKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("beat: %w", err)
	}
	stored := uint64(0)
	if len(v) == 8 {
		stored = binary.BigEndian.Uint64(v)
	}
	return stored, closer.Close()
}

// beat commits the next beat, waits until it is durable and writes the watermark.
func (e *Engine) beat(clean bool) error {
	e.beats <- struct{}{}
	defer func() { <-e.beats }()
	written := e.opts.Metrics.Batches.Load()
	n := e.water.last + 1
	if err := e.db.Set(beatKey, binary.BigEndian.AppendUint64(nil, n), pebble.Sync); err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	e.water.last = n
	e.water.beatAt.Store(written)
	return e.water.Write(watermark.Mark{Beat: n, Clean: clean, Suspect: e.suspect.Load()})
}

// beatIfWritten beats unless nothing was written since the last one, or the disk is full.
func (e *Engine) beatIfWritten() error {
	if e.opts.Metrics.Batches.Load() == e.water.beatAt.Load() || e.reserve.exhausted() {
		return nil
	}
	return e.beat(false)
}
