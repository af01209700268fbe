package row

import (
	"bytes"
	"testing"
)

func seedRows(f *testing.F) {
	for seed := range uint64(40) {
		g := newGen(seed)
		f.Add(g.row().encode(), g.row().encode())
	}
	f.Add([]byte{}, []byte{0x80})
}

// Any bytes: no panic. Bytes that Validate accepts are the one encoding of their content, and merge as rows do.
func FuzzRow(f *testing.F) {
	seedRows(f)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		okA, okB := Validate(a) == nil, Validate(b) == nil
		ab, errAB := Merge(nil, a, b)
		ba, errBA := Merge(nil, b, a)
		if len(ab) > 16*(len(a)+len(b))+64 { // far timestamps and times take their full size in the other row's terms
			t.Fatalf("%d bytes of %d and %d", len(ab), len(a), len(b))
		}
		Compact(nil, a, genSecond+3, genSecond+1, nil)
		Shadow(nil, a, Deletion{1, 2})
		HasLive(a, 5)
		Horizon(a)
		if okA {
			if enc := decodeModel(t, a).encode(); !bytes.Equal(enc, a) {
				t.Fatalf("%x is accepted, but not canonical: %x", a, enc)
			}
		}
		if okA && okB {
			if errAB != nil || errBA != nil || !bytes.Equal(ab, ba) || Validate(ab) != nil {
				t.Fatalf("merge of valid rows: %v %v %x %x", errAB, errBA, ab, ba)
			}
		}
	})
}

func FuzzFragment(f *testing.F) {
	for seed := range uint64(40) {
		g := newGen(seed)
		f.Add(g.partition().encode(seed&1 != 0), g.partition().encode(seed&1 != 0))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		okA, okB := ValidateFragment(a) == nil, ValidateFragment(b) == nil
		m, err := MergeFragments(nil, [][]byte{a, b})
		Diff(nil, a, b, Purge{genSecond, genSecond})
		if okA && okB && a[0]&fragReversed == b[0]&fragReversed {
			if err != nil || ValidateFragment(m) != nil {
				t.Fatalf("merge of valid fragments: %v", err)
			}
			if _, _, err := Diff(nil, m, a, Purge{genSecond, genSecond}); err != nil {
				t.Fatalf("diff of valid fragments: %v", err)
			}
		}
	})
}

func FuzzPage(f *testing.F) {
	for seed := range uint64(40) {
		g := newGen(seed)
		c := g.command()
		for _, r := range g.replicas(f, 2) {
			f.Add(r.read(f, c).Append(nil), seed)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte, seed uint64) {
		var p Page
		rest, err := DecodePage(&p, src)
		if err != nil {
			return
		}
		if enc := p.Append(nil); !bytes.Equal(enc, src[:len(src)-len(rest)]) {
			t.Fatalf("%x decodes to %x", src, enc)
		}
		g := newGen(seed)
		c := g.command()
		other := g.replicas(t, 1)[0].read(t, c)
		var merged Page
		ReconcilePages(&merged, &c, []*Page{&p, other})
	})
}

func FuzzCommand(f *testing.F) {
	for seed := range uint64(60) {
		c := newGen(seed).command()
		f.Add(c.Append(nil))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var c Command
		rest, err := DecodeCommand(&c, src)
		if err != nil {
			return
		}
		if enc := c.Append(nil); !bytes.Equal(enc, src[:len(src)-len(rest)]) {
			t.Fatalf("%x decodes to %x", src, enc)
		}
		newGen(1).replicas(t, 1)[0].read(t, c)
	})
}

func FuzzPosition(f *testing.F) {
	for _, p := range []Position{{}, {Kind: InPartition, Token: -1, Key: []byte("k"), Clustering: []byte("c"), Rows: 7}, {Kind: AfterPartition, Token: 5}} {
		f.Add(p.Append(nil))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		p, rest, err := DecodePosition(src)
		if err != nil {
			return
		}
		if enc := p.Append(nil); !bytes.Equal(enc, src[:len(src)-len(rest)]) {
			t.Fatalf("%x decodes to %x", src, enc)
		}
	})
}

func FuzzMutation(f *testing.F) {
	m := Mutation{7, -1, []byte("key"), newGen(1).partition().encode(false)}
	f.Add(m.Append(nil))
	f.Fuzz(func(t *testing.T, src []byte) {
		m, rest, err := DecodeMutation(src)
		if err != nil {
			return
		}
		if enc := m.Append(nil); !bytes.Equal(enc, src[:len(src)-len(rest)]) {
			t.Fatalf("%x decodes to %x", src, enc)
		}
	})
}
