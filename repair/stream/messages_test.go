package stream

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/helenusdb/helenus/ring"
)

func samplePiece() piece {
	var w recordWriter
	_ = w.add([]byte("12345678k\x00\x01\x20a"), []byte("row a"))
	_ = w.add([]byte("12345678k\x00\x01\x20b"), []byte("row b"))
	return piece{number: 5, flags: pieceLast, end: []byte("12345678k\x00\x01\x20b"), records: w.buf}
}

func sampleOpen() openRequest {
	return openRequest{stream: ID{1, 2, 15: 16}, table: 1025, rg: ring.Range{Start: -5, End: math.MaxInt64}, registers: true, after: []byte("12345678k\x00\x01\x20a"), pieceSize: 1 << 20}
}

// TestGoldenMessages holds the bytes that docs/format/streaming.md names.
func TestGoldenMessages(t *testing.T) {
	q, p, m := sampleOpen(), samplePiece(), mark{300, 2, []byte("12345678k\x00\x01\x20b")}
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"open", q.append(nil), "9801c41001020000000000000000000000000010cd0401fbcf7fffffffffffffff01c40d31323334353637386b00012061ce00100000"},
		{"opened", opened{7, 4096}.append(nil), "930107cd1000"},
		{"next", appendSession(nil, 7), "920107"},
		{"piece", p.append(nil), "96010502c40d31323334353637386b00012062cfd26551d265b40015c41e000d31323334353637386b0001206105726f7720610c016205726f772062"},
		{"mark key", markKey(ID{1, 2, 15: 16}, 1025, ring.Range{Start: -5, End: ring.MinToken}), "01020000000000000000000000000010000004017ffffffffffffffb0000000000000000"},
		{"mark", m.append(nil), "01ac020231323334353637386b00012062"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, expected %s", c.what, got, c.want)
		}
	}
}

// TestMessagesRoundTrip: what is appended is decoded, also with elements of a later version behind it.
func TestMessagesRoundTrip(t *testing.T) {
	q := sampleOpen()
	if got, err := decodeOpen(q.append(nil)); err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("open: %+v %v", got, err)
	}
	o := opened{math.MaxUint64, 0}
	if got, err := decodeOpened(o.append(nil)); err != nil || got != o {
		t.Errorf("opened: %+v %v", got, err)
	}
	later := append(appendSession(nil, 9), 0xc3, 0x91, 0x01)
	later[0] += 2
	if got, err := decodeSession(later); err != nil || got != 9 {
		t.Errorf("session of a later version: %d %v", got, err)
	}
	p := samplePiece()
	got, err := decodePiece(p.append(nil))
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("piece: %+v %v", got, err)
	}
	var keys [][]byte
	if err := eachRecord(got.records, func(key, value []byte) error {
		keys = append(keys, bytes.Clone(key), bytes.Clone(value))
		return nil
	}); err != nil || len(keys) != 4 {
		t.Fatalf("records: %q %v", keys, err)
	}
	equalBytes(t, "key", keys[2], p.end)
	equalBytes(t, "value", keys[3], []byte("row b"))
	m := mark{1, 0, []byte{}}
	if got, ok := decodeMark(m.append(nil)); !ok || !reflect.DeepEqual(got, m) {
		t.Errorf("mark: %+v %v", got, ok)
	}
}

// TestPiece_BitFlips: no bit of a piece can change unnoticed.
func TestPiece_BitFlips(t *testing.T) {
	p := samplePiece()
	body := p.append(nil)
	for i := range 8 * len(body) {
		flipped := bytes.Clone(body)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := decodePiece(flipped); err == nil {
			t.Errorf("bit %d flipped: %x", i, flipped)
		}
	}
	for i := range body {
		if _, err := decodePiece(body[:i]); !errors.Is(err, errMessage) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestDecodeOpen_Refuses(t *testing.T) {
	for what, change := range map[string]func(*openRequest){
		"a range that wraps": func(q *openRequest) { q.rg = ring.Range{Start: 5, End: 4} },
		"a huge key":         func(q *openRequest) { q.after = make([]byte, endBytesMax+1) },
	} {
		q := sampleOpen()
		change(&q)
		if _, err := decodeOpen(q.append(nil)); !errors.Is(err, errMessage) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzMessages(f *testing.F) {
	q, p, m := sampleOpen(), samplePiece(), mark{300, 2, []byte("key")}
	for _, b := range [][]byte{q.append(nil), p.append(nil), m.append(nil), opened{7, 4096}.append(nil), appendSession(nil, 7), p.records} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if q, err := decodeOpen(src); err == nil {
			if again, err := decodeOpen(q.append(nil)); err != nil || !reflect.DeepEqual(again, q) {
				t.Errorf("open %x: %+v and %+v, %v", src, q, again, err)
			}
		}
		if p, err := decodePiece(src); err == nil {
			if again, err := decodePiece(p.append(nil)); err != nil || !reflect.DeepEqual(again, p) {
				t.Errorf("piece %x: %+v and %+v, %v", src, p, again, err)
			}
		}
		_, _ = decodeOpened(src)
		_, _ = decodeSession(src)
		_, _ = decodeMark(src)
		_ = eachRecord(src, func(key, value []byte) error {
			if len(key) > endBytesMax || len(value) > len(src) {
				t.Errorf("record of %d and %d bytes in %d", len(key), len(value), len(src))
			}
			return nil
		})
	})
}
