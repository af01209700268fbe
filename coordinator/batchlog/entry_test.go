package batchlog

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/helenusdb/helenus/ring"
)

func TestIDsSortByTime(t *testing.T) {
	a, b := ring.HostID{9}, ring.HostID{1}
	ids := []ID{NewID(time.UnixMicro(1), a, 7), NewID(time.UnixMicro(255), a, 1), NewID(time.UnixMicro(256), b, 1), NewID(time.UnixMicro(256), b, 2), NewID(time.UnixMicro(256), a, 1)}
	for i, id := range ids {
		if i > 0 && bytes.Compare(ids[i-1][:], id[:]) >= 0 {
			t.Errorf("%x is not before %x", ids[i-1], id)
		}
	}
	if id := ids[1]; !id.Time().Equal(time.UnixMicro(255)) || id.Coordinator() != a {
		t.Errorf("%s %s", id.Time(), id.Coordinator())
	}
}

func TestRoundTrip(t *testing.T) {
	id := NewID(time.UnixMicro(1_700_000_000_123_456), ring.HostID{3}, 8)
	got, mutations, err := DecodeStore(append(id[:len(id):len(id)], "mutations"...))
	if err != nil || got != id || string(mutations) != "mutations" {
		t.Errorf("%x %q %v", got, mutations, err)
	}
	received, mutations, err := decodeValue(AppendValue(nil, time.UnixMicro(77), []byte("mutations")))
	if err != nil || !received.Equal(time.UnixMicro(77)) || string(mutations) != "mutations" {
		t.Errorf("%s %q %v", received, mutations, err)
	}
	ids, err := DecodeRemove(nil, append(id[:len(id):len(id)], id[:]...))
	if err != nil || len(ids) != 2 || ids[0] != id || ids[1] != id {
		t.Errorf("%x %v", ids, err)
	}
	newer := AppendValue(nil, time.UnixMicro(77), []byte("mutations"))
	newer[0]++
	if _, _, err := decodeValue(newer); !errors.Is(err, errNewer) {
		t.Errorf("a newer version: %v", err)
	}
}

// FuzzDecode: what comes over the wire, or from a disk, is told apart or refused, and is never more than it was.
func FuzzDecode(f *testing.F) {
	id := NewID(time.UnixMicro(1_700_000_000_123_456), ring.HostID{3}, 8)
	f.Add([]byte{})
	f.Add(id[:])
	f.Add(append(id[:len(id):len(id)], "mutations"...))
	f.Add(AppendValue(nil, time.UnixMicro(77), []byte("mutations")))
	f.Add(bytes.Repeat(id[:], removesMax+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, mutations, err := DecodeStore(b); err == nil && (len(mutations) == 0 || !bytes.Equal(append(id[:len(id):len(id)], mutations...), b)) {
			t.Errorf("store: %x is not %x and %x", b, id, mutations)
		}
		if ids, err := DecodeRemove(nil, b); err == nil {
			var again []byte
			for _, id := range ids {
				again = append(again, id[:]...)
			}
			if len(ids) == 0 || len(ids) > removesMax || !bytes.Equal(again, b) {
				t.Errorf("remove: %x is not %x", b, ids)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Errorf("remove: %v", err)
		}
		if received, mutations, err := decodeValue(b); err == nil && (len(mutations) == 0 || !bytes.Equal(AppendValue(nil, received, mutations), b)) {
			t.Errorf("value: %x is not %s and %x", b, received, mutations)
		}
	})
}
