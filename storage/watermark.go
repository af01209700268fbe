package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The watermark notices a log whose tail is missing, which Pebble cannot tell from a log that ends there (the newest 32 KiB have no
// later checksum). About once a second while there are writes the engine commits a beat, a record with a rising number, and when
// it is durable writes the number into a small file of its own. At the next start the store must hold that beat or a later one.
//
// File: two slots, written in turns, so that a torn write leaves the other. docs/format/storage-keys.md draws it.
type watermark struct {
	file vfs.File
	next int // slot to write
	mark mark

	beatAt atomic.Int64 // batches written at the last beat
}

type mark struct {
	turn    uint64 // rises with every slot written
	beat    uint64 // durable in the store
	clean   bool   // written by Close
	suspect bool   // a short tail was noticed and the node has not synced again
}

const (
	watermarkName    = "WATERMARK"
	watermarkMagic   = "HLWM"
	watermarkVersion = 1
	slotBytes        = 32
	slotStride       = 4096 // slots never share a disk block

	flagClean   = 1 << 0
	flagSuspect = 1 << 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendMark(dst []byte, m mark) []byte {
	from := len(dst)
	var flags byte
	if m.clean {
		flags |= flagClean
	}
	if m.suspect {
		flags |= flagSuspect
	}
	dst = append(dst, watermarkMagic...)
	dst = append(dst, watermarkVersion, flags, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, m.turn)
	dst = binary.BigEndian.AppendUint64(dst, m.beat)
	dst = append(dst, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[from:], castagnoli))
}

// decodeMark is false for bytes that are no whole slot of this version.
func decodeMark(src []byte) (m mark, ok bool) {
	if len(src) < slotBytes || string(src[:4]) != watermarkMagic || src[4] != watermarkVersion {
		return m, false
	}
	if binary.BigEndian.Uint32(src[28:]) != crc32.Checksum(src[:28], castagnoli) {
		return m, false
	}
	m.turn = binary.BigEndian.Uint64(src[8:])
	m.beat = binary.BigEndian.Uint64(src[16:])
	m.clean = src[5]&flagClean != 0
	m.suspect = src[5]&flagSuspect != 0
	return m, true
}

// openWatermark reads or creates the file. A mark with turn 0 means that there was no readable slot.
func openWatermark(fs vfs.FS, dir string) (*watermark, error) {
	name := fs.PathJoin(dir, watermarkName)
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("watermark: %w", err)
	}
	w := &watermark{file: f}
	for i := range 2 {
		var buf [slotBytes]byte
		if _, err := f.ReadAt(buf[:], int64(i)*slotStride); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.Join(fmt.Errorf("watermark: %w", err), f.Close())
		}
		if m, ok := decodeMark(buf[:]); ok && m.turn > w.mark.turn {
			w.mark, w.next = m, 1-i
		}
	}
	d, err := fs.OpenDir(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watermark: %w", err), f.Close())
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("watermark: %w", err), f.Close())
	}
	return w, nil
}

// write makes m durable.
func (w *watermark) write(m mark) error {
	m.turn = w.mark.turn + 1
	slot := appendMark(make([]byte, 0, slotStride), m)
	if _, err := w.file.WriteAt(slot[:slotStride], int64(w.next)*slotStride); err != nil {
		return fmt.Errorf("watermark: %w", err)
	}
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("watermark: %w", err)
	}
	w.mark, w.next = m, 1-w.next
	return nil
}

func (w *watermark) close() error { return w.file.Close() }

var beatKey = []byte{spaceEngine, 'b'}

// checkTail compares the store with the watermark and starts a new beat.
func (e *Engine) checkTail(existed bool) error {
	var stored uint64
	v, closer, err := e.db.Get(beatKey)
	switch {
	case err == nil:
		if len(v) == 8 {
			stored = binary.BigEndian.Uint64(v)
		}
		if err := closer.Close(); err != nil {
			return err
		}
	case !errors.Is(err, pebble.ErrNotFound):
		return fmt.Errorf("beat: %w", err)
	}
	w := e.water
	short := existed && (stored < w.mark.beat || w.mark.turn == 0 && stored > 0)
	if short {
		e.opts.Logger.Error("storage: the log is shorter than what was acknowledged", "beat", stored, "watermark", w.mark.beat)
	}
	e.suspect.Store(short || w.mark.suspect)
	w.mark.beat = max(stored, w.mark.beat)
	return e.beat(false)
}

// beat commits the next beat, waits until it is durable and writes the watermark.
func (e *Engine) beat(clean bool) error {
	e.beats <- struct{}{}
	defer func() { <-e.beats }()
	written := e.opts.Metrics.Batches.Load()
	n := e.water.mark.beat + 1
	if err := e.db.Set(beatKey, binary.BigEndian.AppendUint64(nil, n), pebble.Sync); err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	e.water.beatAt.Store(written)
	return e.water.write(mark{beat: n, clean: clean, suspect: e.suspect.Load()})
}

// beatIfWritten beats unless nothing was written since the last one, or the disk is full.
func (e *Engine) beatIfWritten() error {
	if e.opts.Metrics.Batches.Load() == e.water.beatAt.Load() || e.reserve.exhausted() {
		return nil
	}
	return e.beat(false)
}
