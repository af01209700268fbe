package storage

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// The vectors of docs/format/storage-keys.md.
func TestKeyVectors(t *testing.T) {
	row := append(appendPartition(nil, spaceRows, 0x01020304, -2, []byte("k\x00y")), kindRow)
	row = append(row, 0x40, 'c')
	for _, v := range []struct {
		name string
		got  []byte
		want string
	}{
		{"row", row, "52010203047ffffffffffffffe6b00ff79000120" + "4063"},
		{"static", append(appendPartition(nil, spaceRows, 1, 0, []byte("k")), kindStatic), "520000000180000000000000006b000110"},
		{"markers", appendPartition(nil, spaceMarkers, 1, 5, []byte{0}), "4d00000001800000000000000500ff0001"},
		{"death", appendDeath(nil, deathExpiry, 5000, row), "44010203040200000004" + "7ffffffffffffffe6b00ff79000120" + "4063"},
		{"truncation", appendTruncationKey(nil, 7), "597400000007"},
	} {
		if got := hex.EncodeToString(v.got); got != v.want {
			t.Errorf("%s: %s, want %s", v.name, got, v.want)
		}
	}
}

func TestKeysKeepTheOrder(t *testing.T) {
	type k struct {
		gen   schema.Generation
		token ring.Token
		key   string
		kind  byte
		ck    string
	}
	ordered := []k{
		{1, ring.MinToken, "z", kindRow, "a"},
		{1, -1, "a", kindStatic, ""},
		{1, -1, "a", kindRow, ""},
		{1, -1, "a", kindRow, "\x00"},
		{1, -1, "a", kindRow, "b"},
		{1, -1, "a\x00", kindRow, ""},
		{1, -1, "a\x00\x00", kindRow, ""},
		{1, -1, "a\x00\x01", kindRow, ""},
		{1, -1, "a\x00\xff", kindRow, ""},
		{1, -1, "a\x01", kindRow, ""},
		{1, -1, "ab", kindRow, ""},
		{1, 0, "\x00", kindRow, ""},
		{1, ring.MaxToken, "a", kindRow, ""},
		{2, -5, "a", kindStatic, ""},
	}
	c := newComparer().EnsureDefaults()
	var last []byte
	for i, x := range ordered {
		prefix := appendPartition(nil, spaceRows, x.gen, x.token, []byte(x.key))
		key := append(append(slices.Clone(prefix), x.kind), x.ck...)
		if i > 0 && c.Compare(last, key) >= 0 {
			t.Errorf("%x is not below %x", last, key)
		}
		if n := split(key); n != len(prefix) {
			t.Errorf("split(%x) = %d, want %d", key, n, len(prefix))
		}
		if split(prefix) != len(prefix) {
			t.Errorf("split of the prefix %x", prefix)
		}
		if next := immediateSuccessor(nil, prefix); bytes.Compare(next, append(slices.Clone(prefix), 0xFF, 0xFF)) <= 0 {
			t.Errorf("successor %x of %x", next, prefix)
		}
		last = key
	}
}

func FuzzPartition(f *testing.F) {
	f.Add(uint32(1), int64(-1), []byte("a\x00b"))
	f.Add(uint32(0), int64(0), []byte{0, 0xFF, 0, 1})
	f.Fuzz(func(t *testing.T, gen uint32, token int64, key []byte) {
		enc := appendPartition(nil, spaceRows, schema.Generation(gen), ring.Token(token), key)
		p, n, err := decodePartition(nil, append(slices.Clone(enc), kindRow, 'x'))
		if err != nil || n != len(enc) || uint32(p.generation) != gen || int64(p.token) != token || !bytes.Equal(p.key, key) {
			t.Fatalf("%x: %+v %d %v", enc, p, n, err)
		}
		if split(append(enc, kindRow, 0, 1)) != n {
			t.Fatal("split")
		}
		decodePartition(nil, key) // outside bytes
		split(key)
		appendDeathKey(nil, key)
	})
}
