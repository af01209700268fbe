package watermark

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Name is what the file is called, beside the store.
const Name = "WATERMARK"

// File is what a watermark is kept in.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
}

// Mark is what one slot of the file says.
type Mark struct {
	Turn    uint64 // rises with every slot written; 0: there was no readable slot
	Beat    uint64 // durable in the store
	Clean   bool   // written by a clean stop
	Suspect bool   // a short store was noticed and has not been mended
}

// Watermark is an open file of two slots, written in turns, so that a torn write leaves the other. It belongs to one
// goroutine. docs/format/storage-keys.md draws the file.
type Watermark struct {
	file File
	next int // slot to write
	mark Mark
}

const (
	magic      = "HLWM"
	version    = 1
	slotBytes  = 32
	slotStride = 4096 // slots never share a disk block

	flagClean   = 1 << 0
	flagSuspect = 1 << 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the slot that says m.
func (m Mark) Append(dst []byte) []byte {
	from := len(dst)
	var flags byte
	if m.Clean {
		flags |= flagClean
	}
	if m.Suspect {
		flags |= flagSuspect
	}
	dst = append(dst, magic...)
	dst = append(dst, version, flags, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, m.Turn)
	dst = binary.BigEndian.AppendUint64(dst, m.Beat)
	dst = append(dst, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[from:], castagnoli))
}

// decode is false for bytes that are no whole slot of this version.
func decode(src []byte) (m Mark, ok bool) {
	if len(src) < slotBytes || string(src[:4]) != magic || src[4] != version {
		return m, false
	}
	if binary.BigEndian.Uint32(src[28:]) != crc32.Checksum(src[:28], castagnoli) {
		return m, false
	}
	m.Turn = binary.BigEndian.Uint64(src[8:])
	m.Beat = binary.BigEndian.Uint64(src[16:])
	m.Clean = src[5]&flagClean != 0
	m.Suspect = src[5]&flagSuspect != 0
	return m, true
}

// Open reads the slots of f, which it owns from now on, also when it fails. The caller has made f's name durable, or does
// so before it counts on it.
func Open(f File) (*Watermark, error) {
	w := &Watermark{file: f}
	for i := range 2 {
		var buf [slotBytes]byte
		if _, err := f.ReadAt(buf[:], int64(i)*slotStride); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.Join(fmt.Errorf("watermark: %w", err), f.Close())
		}
		if m, ok := decode(buf[:]); ok && m.Turn > w.mark.Turn {
			w.mark, w.next = m, 1-i
		}
	}
	return w, nil
}

// Mark returns what the file says.
func (w *Watermark) Mark() Mark { return w.mark }

// Lost tells whether a store that holds the beat stored, 0 when it holds none, is older than what was durable in it: its
// end is gone, or the watermark is.
func (w *Watermark) Lost(stored uint64) bool {
	return stored < w.mark.Beat || w.mark.Turn == 0 && stored > 0
}

// Write makes m durable; its turn does not matter.
func (w *Watermark) Write(m Mark) error {
	m.Turn = w.mark.Turn + 1
	slot := m.Append(make([]byte, 0, slotStride))
	if _, err := w.file.WriteAt(slot[:slotStride], int64(w.next)*slotStride); err != nil {
		return fmt.Errorf("watermark: %w", err)
	}
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("watermark: %w", err)
	}
	w.mark, w.next = m, 1-w.next
	return nil
}

// Close closes the file.
func (w *Watermark) Close() error { return w.file.Close() }
