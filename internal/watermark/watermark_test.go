package watermark

import (
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"
)

// disk is a file in memory. budget is how many bytes of the next write reach it; negative: all.
type disk struct {
	bytes  []byte
	budget int
	err    error
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(d.bytes)) {
		return 0, io.EOF
	}
	n := copy(p, d.bytes[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	if d.budget >= 0 {
		p = p[:min(d.budget, len(p))]
	}
	if need := int(off) + len(p); need > len(d.bytes) {
		d.bytes = append(d.bytes, make([]byte, need-len(d.bytes))...)
	}
	return copy(d.bytes[off:], p), d.err
}

func (d *disk) Sync() error  { return d.err }
func (d *disk) Close() error { return nil }

func open(t *testing.T, d *disk) *Watermark {
	t.Helper()
	w, err := Open(d)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestVector pins the bytes that docs/format/storage-keys.md draws.
func TestVector(t *testing.T) {
	m := Mark{Turn: 3, Beat: 0x1122, Clean: true, Suspect: true}
	raw := m.Append(nil)
	if got := hex.EncodeToString(raw); got != "484c574d01030000000000000000000300000000000011220000000089d7e50e" {
		t.Errorf("a slot is %s", got)
	}
	if got, ok := decode(raw); !ok || got != m {
		t.Errorf("%+v became %+v", m, got)
	}
	for i := range raw {
		bad := slices.Clone(raw)
		bad[i] ^= 1
		if _, ok := decode(bad); ok {
			t.Errorf("a slot with byte %d flipped decodes", i)
		}
	}
}

// TestNewestCounts: what was written last is read, whichever slot holds it.
func TestNewestCounts(t *testing.T) {
	d := &disk{budget: -1}
	w := open(t, d)
	if w.Mark() != (Mark{}) {
		t.Errorf("an empty file says %+v", w.Mark())
	}
	for beat := uint64(1); beat < 6; beat++ {
		if err := w.Write(Mark{Beat: beat, Suspect: beat == 3}); err != nil {
			t.Fatal(err)
		}
		if got := open(t, d).Mark(); got != (Mark{Turn: beat, Beat: beat, Suspect: beat == 3}) || got != w.Mark() {
			t.Errorf("beat %d: %+v", beat, got)
		}
	}
}

// TestTornWrite: a write of which any part reached the disk leaves the mark before it, or is whole.
func TestTornWrite(t *testing.T) {
	for n := range slotBytes + 1 {
		d := &disk{budget: -1}
		w := open(t, d)
		for beat := uint64(1); beat <= 2; beat++ {
			if err := w.Write(Mark{Beat: beat}); err != nil {
				t.Fatal(err)
			}
		}
		d.budget, d.err = n, errors.New("power loss")
		if err := w.Write(Mark{Beat: 0xffffffff}); err == nil || w.Mark().Beat != 2 {
			t.Fatalf("a write that failed: %v, %+v", err, w.Mark())
		}
		want := uint64(2)
		if n == slotBytes {
			want = 0xffffffff
		}
		if got := open(t, d).Mark(); got.Beat != want {
			t.Errorf("%d bytes written: %+v", n, got)
		}
	}
}

func TestLost(t *testing.T) {
	for _, c := range []struct {
		mark   Mark
		stored uint64
		lost   bool
	}{
		{Mark{}, 0, false},                 // a new store
		{Mark{}, 1, true},                  // the watermark is gone
		{Mark{Turn: 1}, 0, false},          // made, and no beat since
		{Mark{Turn: 1}, 1, false},          // power loss between beat and mark
		{Mark{Turn: 2, Beat: 5}, 4, true},  // the tail is gone
		{Mark{Turn: 2, Beat: 5}, 5, false}, // clean
		{Mark{Turn: 2, Beat: 5}, 6, false}, // power loss between beat and mark
	} {
		w := &Watermark{mark: c.mark}
		if got := w.Lost(c.stored); got != c.lost {
			t.Errorf("%+v, stored %d: lost %t", c.mark, c.stored, got)
		}
	}
}
