package gossip

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func fullMeta() NodeMeta {
	m := NodeMeta{
		Epoch: 300, DC: "dc1", Rack: "rack1", LoadBytes: 1 << 40, Phase: Normal, Version: "5.0.8",
		Internode: netip.MustParseAddrPort("10.1.2.3:7000"), Native: netip.MustParseAddrPort("[2001:db8::1]:9042"),
		Admin: netip.MustParseAddrPort("127.0.0.1:7199"),
	}
	copy(m.SchemaVersion[:], "0123456789abcdef")
	return m
}

// The golden bytes are those of docs/format/gossip-meta.md.
func TestMetaGolden(t *testing.T) {
	const want = "01" + "0102ac02" + "0203646331" + "03057261636b31" + "04060a0102031b58" +
		"051220010db8000000000000000000000001" + "2352" + "06067f0000011c1f" + "0706808080808020" +
		"081030313233343536373839616263646566" + "090101" + "0a05352e302e38"
	if got := hex.EncodeToString(AppendMeta(nil, fullMeta())); got != want {
		t.Errorf("encoding\n%s, want\n%s", got, want)
	}
}

func TestMetaRoundTrip(t *testing.T) {
	for _, m := range []NodeMeta{{}, fullMeta(), {DC: "ü"}, {Native: netip.MustParseAddrPort("0.0.0.0:0")}, {Phase: 255}} {
		b := AppendMeta([]byte("x"), m)[1:]
		if got, err := DecodeMeta(b); err != nil || got != m {
			t.Errorf("%+v -> %+v, %v", m, got, err)
		}
	}
}

func TestLargestMetaFits(t *testing.T) {
	m := fullMeta()
	m.Epoch, m.LoadBytes = 1<<64-1, 1<<64-1
	m.DC, m.Rack, m.Version = strings.Repeat("d", MetaNameMax), strings.Repeat("r", MetaNameMax), strings.Repeat("v", MetaVersionMax)
	m.Internode, m.Admin = m.Native, m.Native
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	m.Phase = 255
	if n := len(AppendMeta(nil, m)); n != 369 || n > MetaBytesMax {
		t.Errorf("largest encoding has %d bytes, docs/format/gossip-meta.md says 369", n)
	}
}

func TestMetaRefusals(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": {}, "version": {2}, "tag alone": {1, 1}, "cut": {1, 2, 3, 'a'}, "number": {1, 1, 1, 0x80}, "long number": {1, 1, 2, 1, 1},
		"address": {1, 4, 3, 1, 2, 3}, "schema": {1, 8, 1, 0}, "phase": {1, 9, 2, 0x80, 0x02}, "huge": make([]byte, 513),
		"long name": append([]byte{1, 2, 97}, bytes.Repeat([]byte{'a'}, 97)...),
	} {
		if _, err := DecodeMeta(b); !errors.Is(err, ErrMeta) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m, err := DecodeMeta([]byte{1, 200, 2, 7, 7, 1, 1, 5}); err != nil || m.Epoch != 5 {
		t.Errorf("unknown field is not skipped: %+v, %v", m, err)
	}
	for _, m := range []NodeMeta{
		{DC: strings.Repeat("x", 97)}, {Rack: strings.Repeat("x", 97)}, {Version: strings.Repeat("x", 65)},
		{Native: netip.MustParseAddrPort("[fe80::1%eth0]:1")},
	} {
		if err := m.Validate(); !errors.Is(err, ErrMeta) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(AppendMeta(nil, fullMeta()))
	f.Add([]byte{1, 200, 2, 7, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMeta(b)
		if err != nil {
			return
		}
		if again, err := DecodeMeta(AppendMeta(nil, m)); err != nil || again != m {
			t.Fatalf("%+v -> %+v, %v", m, again, err)
		}
	})
}
