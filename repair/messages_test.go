package repair

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

func samplePage() row.Page {
	return row.Page{Data: []byte{}, More: true, Cut: row.Position{Kind: row.AfterPartition, Token: 7, Key: []byte("k")}}
}

// samples are one message of each kind with its golden bytes, as docs/format/repair.md gives them.
func samples() []struct {
	name   string
	bytes  []byte
	decode func([]byte) (any, error)
	want   any
	golden string
} {
	at := row.Purge{Now: 1000, GCBefore: -5}
	spans := []ring.Interval{{First: -2, Last: 3}, {First: 9, Last: 9}}
	h := hello{5, spans[0]}
	ha := helloAnswer{1000, -5}
	tq := tallyRequest{5, at, true, false, spans}
	ta := tallyAnswer{[]row.Tally{{Sum: 1 << 63, Items: 2, Bytes: 300}}, 3}
	lq := listRequest{5, at, spans[:1], &row.Position{Kind: row.InPartition, Token: -1, Key: []byte("k"), Clustering: []byte("c")}}
	la := listsAnswer{[]listAnswer{{entries: []entry{{token: 1, key: []byte("k"), static: true, ckey: []byte{}, hash: 6}, {token: 1, key: []byte("k"), ckey: []byte("c"), hash: 7}},
		deletions: samplePage()}}}
	fq := fetchRequest{[]row.Command{{Generation: 5, Now: 1000, GCBefore: -5, Token: 1, Key: []byte("k"), StaticOnly: true, WithStatic: true, Bytes: 100}}}
	page := samplePage()
	fa := fetchAnswer{[]*row.Page{&page}}
	sa := settleAnswer{300}
	ms := []row.Mutation{{Generation: 5, Token: 1, Key: []byte("k"), Fragment: []byte{0x10}}}
	wq, wa := waitingRequest{}, waitingAnswer{noneWaits}
	rq := repairedRequest{5, history.Entry{Tokens: spans[0], At: 1000, Before: history.None, Replicas: []ring.HostID{me}}}
	fr, fra := fillRequest{5, spans[0], me}, fillAnswer{2, 300}
	type s = struct {
		name   string
		bytes  []byte
		decode func([]byte) (any, error)
		want   any
		golden string
	}
	return []s{
		{"hello", h.append(nil), func(b []byte) (any, error) { return decodeHello(b) }, h, "940105fe03"},
		{"hello answer", ha.append(nil), func(b []byte) (any, error) { return decodeHelloAnswer(b) }, ha, "9301cd03e8fb"},
		{"tally", tq.append(nil), func(b []byte) (any, error) { return decodeTally(b) }, tq, "970105cd03e8fbc3c294fe030909"},
		{"tally answer", ta.append(nil), func(b []byte) (any, error) { return decodeTallyAnswer(b) }, ta, "93010393cf800000000000000002cd012c"},
		{"list", lq.append(nil), func(b []byte) (any, error) { return decodeList(b) }, lq, "960105cd03e8fb92fe03c40f0101ffffffffffffffff016b016300"},
		{"list answer", la.append(nil), func(b []byte) (any, error) { return decodeLists(b) }, la, "920192c418010100000000000000000001020000000000000007016b009a01c4016bc3c40006c0c0c2c4016307"},
		{"fetch", fq.append(nil), func(b []byte) (any, error) { return decodeFetch(b) }, fq, "920191c41b0118300000000500000000000003e80000000000000001016b6409"},
		{"fetch answer", fa.append(nil), func(b []byte) (any, error) { return decodeFetchAnswer(b) }, fa, "920191c418010100000000000000000001020000000000000007016b00"},
		{"waiting", wq.append(nil), func(b []byte) (any, error) { return decodeWaiting(b) }, wq, "9101"},
		{"waiting answer", wa.append(nil), func(b []byte) (any, error) { return decodeWaitingAnswer(b) }, wa, "9201cf7fffffffffffffff"},
		{"repaired", rq.append(nil), func(b []byte) (any, error) { return decodeRepaired(b) }, rq, "970105fe03cd03e8d38000000000000000c41001000000000000000000000000000000"},
		{"settle answer", sa.append(nil), func(b []byte) (any, error) { return decodeSettleAnswer(b) }, sa, "9201cd012c"},
		{"fill", fr.append(nil), func(b []byte) (any, error) { return decodeFill(b) }, fr, "950105fe03c41001000000000000000000000000000000"},
		{"fill answer", fra.append(nil), func(b []byte) (any, error) { return decodeFillAnswer(b) }, fra, "930102cd012c"},
		{"apply", appendApply(nil, ms), func(b []byte) (any, error) { return decodeApply(b) }, ms, "920191c41101000000050000000000000001016b0110"},
	}
}

// TestMessages: what is decoded is what was encoded, the bytes are those of docs/format/repair.md, and neither a shorter nor a longer message is
// taken for one.
func TestMessages(t *testing.T) {
	for _, s := range samples() {
		if got := hex.EncodeToString(s.bytes); got != s.golden {
			t.Errorf("%s: %s instead of %s", s.name, got, s.golden)
		}
		got, err := s.decode(s.bytes)
		if err != nil || !reflect.DeepEqual(got, s.want) {
			t.Errorf("%s: %+v, %v\ninstead of %+v", s.name, got, err, s.want)
		}
		for n := range s.bytes {
			if _, err := s.decode(s.bytes[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes are a message", s.name, n, len(s.bytes))
			}
		}
		if _, err := s.decode(append(bytes.Clone(s.bytes), 0)); err == nil {
			t.Errorf("%s: with a byte more it is a message", s.name)
		}
	}
}

// FuzzDecode: outside bytes never panic, and what decodes encodes to something that decodes to the same.
func FuzzDecode(f *testing.F) {
	for i, s := range samples() {
		f.Add(uint8(i), s.bytes)
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		switch kind % 14 {
		case 0:
			again(t, b, decodeHello, (*hello).append)
		case 1:
			again(t, b, decodeHelloAnswer, (*helloAnswer).append)
		case 2:
			again(t, b, decodeTally, (*tallyRequest).append)
		case 3:
			again(t, b, decodeTallyAnswer, (*tallyAnswer).append)
		case 4:
			again(t, b, decodeList, (*listRequest).append)
		case 5:
			again(t, b, decodeLists, (*listsAnswer).append)
		case 6:
			again(t, b, decodeFetch, (*fetchRequest).append)
		case 7:
			again(t, b, decodeFetchAnswer, (*fetchAnswer).append)
		case 8:
			again(t, b, decodeWaiting, (*waitingRequest).append)
		case 9:
			again(t, b, decodeWaitingAnswer, (*waitingAnswer).append)
		case 10:
			again(t, b, decodeRepaired, (*repairedRequest).append)
		case 11:
			again(t, b, decodeFill, (*fillRequest).append)
		case 12:
			again(t, b, decodeFillAnswer, (*fillAnswer).append)
		case 13:
			again(t, b, decodeApply, func(ms *[]row.Mutation, dst []byte) []byte { return appendApply(dst, *ms) })
		}
	})
}

func again[M any](t *testing.T, b []byte, decode func([]byte) (M, error), encode func(*M, []byte) []byte) {
	t.Helper()
	m, err := decode(b)
	if err != nil {
		return
	}
	first := encode(&m, nil)
	n, err := decode(first)
	if err != nil {
		t.Fatalf("%x decodes and its encoding %x does not: %v", b, first, err)
	}
	if second := encode(&n, nil); !bytes.Equal(first, second) {
		t.Fatalf("%x and %x", first, second)
	}
}
