package protocol

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// checkFuzzErr fails unless err is one that can be sent to the client.
func checkFuzzErr(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Message == "" {
		t.Fatalf("not a protocol error: %v", err)
	}
}

// FuzzRequest decodes requests; what decodes must encode to something that decodes to the same.
func FuzzRequest(f *testing.F) {
	for v := V3; v <= V5; v++ {
		p := fullParams(v)
		named := p
		named.Names = [][]byte{[]byte("a"), []byte("b"), []byte("c"), []byte("d")}[:len(p.Values)]
		for _, frame := range [][]byte{
			kvExecute(v),
			AppendQuery(nil, v, 0, 0, "SELECT 1", &p),
			AppendQuery(nil, v, 0, 0, "SELECT 1", &named),
			AppendPrepare(nil, v, 0, 0, "SELECT 1", "ks"),
			AppendBatch(nil, v, 0, 0, &Batch{QueryParams: p, Statements: []BatchStatement{
				{Query: []byte("x"), Values: p.Values}, {Prepared: true, ID: []byte("id")}}}),
			AppendRegister(nil, v, 0, EventSet(7)),
			AppendStartup(nil, v, 0, []StringPair{{"CQL_VERSION", "3.0.0"}, {"COMPRESSION", "lz4"}}),
			AppendAuthResponse(nil, v, 0, []byte("x")),
		} {
			f.Add(byte(v), frame[4], frame[HeaderLen:])
		}
	}
	f.Fuzz(func(t *testing.T, version, op byte, body []byte) {
		v := V3 + Version(version)%3
		if payload, rest, err := SplitRequest(Header{Version: v, Flags: FlagCustomPayload}, body); err == nil {
			back := append(appendPayload(nil, payload), rest...)
			if again, _, err := SplitRequest(Header{Version: v, Flags: FlagCustomPayload}, back); err != nil || !reflect.DeepEqual(payload, again) {
				t.Fatalf("payload %+v, again %+v: %v", payload, again, err)
			}
		}
		if err := decodeAny(v, Opcode(op), body); err != nil {
			checkFuzzErr(t, err)
			return
		}
		switch Opcode(op) {
		case OpQuery:
			var a, b Query
			DecodeQuery(v, body, &a)
			if err := DecodeQuery(v, AppendQuery(nil, v, 0, 0, string(a.Query), &a.QueryParams)[HeaderLen:], &b); err != nil {
				t.Fatal(err)
			}
			checkSame(t, v, &a.QueryParams, &b.QueryParams)
		case OpExecute:
			var a, b Execute
			DecodeExecute(v, body, &a)
			if err := DecodeExecute(v, AppendExecute(nil, v, 0, 0, &a)[HeaderLen:], &b); err != nil || !bytes.Equal(a.ID, b.ID) {
				t.Fatal(err)
			}
			checkSame(t, v, &a.QueryParams, &b.QueryParams)
		case OpBatch:
			var a, b Batch
			DecodeBatch(v, body, &a)
			if err := DecodeBatch(v, AppendBatch(nil, v, 0, 0, &a)[HeaderLen:], &b); err != nil || len(a.Statements) != len(b.Statements) {
				t.Fatal(err)
			}
			for i := range a.Statements {
				if len(a.Statements[i].Values) != len(b.Statements[i].Values) || !bytes.Equal(a.Statements[i].Query, b.Statements[i].Query) {
					t.Fatalf("statement %d: %+v, again %+v", i, a.Statements[i], b.Statements[i])
				}
			}
		}
	})
}

func checkSame(t *testing.T, v Version, a, b *QueryParams) {
	t.Helper()
	if v < V5 && a.Flags&QueryKeyspace != 0 {
		return // read, as Cassandra does, but never written
	}
	if a.Flags&QueryValues == 0 || len(a.Values) == 0 {
		return // bits without values are not written
	}
	if len(a.Values) != len(b.Values) || len(a.Names) != len(b.Names) || a.PageSize != b.PageSize ||
		a.Timestamp != b.Timestamp || a.NowInSeconds != b.NowInSeconds || !bytes.Equal(a.PagingState, b.PagingState) {
		t.Fatalf("%+v, again %+v", a, b)
	}
	for i := range a.Values {
		if a.Values[i].State != b.Values[i].State || !bytes.Equal(a.Values[i].Bytes, b.Values[i].Bytes) {
			t.Fatalf("value %d: %+v, again %+v", i, a.Values[i], b.Values[i])
		}
	}
}

// FuzzResponse decodes response bodies of every kind.
func FuzzResponse(f *testing.F) {
	for _, frame := range loadGolden(f) {
		if len(frame) > HeaderLen && len(frame) < 1000 {
			f.Add(frame[0]&0x7f, frame[4], frame[1], frame[HeaderLen:])
		}
	}
	f.Fuzz(func(t *testing.T, version, op, flags byte, body []byte) {
		v := V3 + Version(version)%3
		_, body, err := SplitResponse(Header{Version: v, Flags: flags & 0x0e}, body)
		if err != nil {
			checkFuzzErr(t, err)
			return
		}
		switch Opcode(op) {
		case OpError:
			var e, again *Error
			if e, err = DecodeError(v, body); err == nil {
				if again, err = DecodeError(v, AppendError(nil, v, e)); err != nil || again.Code != e.ForVersion(v).Code {
					t.Fatalf("%+v, again %+v: %v", e, again, err)
				}
			}
		case OpSupported:
			_, err = DecodeSupported(body)
		case OpEvent:
			_, err = DecodeEvent(body)
		case OpAuthenticate:
			_, err = DecodeAuthenticate(body)
		default:
			err = fuzzResult(t, v, body)
		}
		if err != nil {
			checkFuzzErr(t, err)
		}
	})
}

func fuzzResult(t *testing.T, v Version, body []byte) error {
	r, err := DecodeResult(v, body)
	if err != nil || r.Kind != ResultRows {
		return err
	}
	n := 0
	for r.Rows.Next() {
		n++
	}
	if err := r.Rows.Err(); err != nil {
		return err
	}
	if n != r.Rows.Count {
		t.Fatalf("%d rows of %d", n, r.Rows.Count)
	}
	m := &r.Rows.Metadata
	c := cursor{rest: AppendMetadata(nil, v, m)}
	if again := c.metadata(v); c.err != nil || len(again.Columns) != len(m.Columns) || again.ColumnCount != m.ColumnCount {
		t.Fatalf("metadata %+v, again %+v: %v", m, again, c.err)
	}
	return nil
}

func FuzzType(f *testing.F) {
	for _, c := range allTypes() {
		for v := V3; v <= V5; v++ {
			f.Add(AppendType(nil, v, c.Type))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		typ, _, err := DecodeType(src)
		if err != nil {
			checkFuzzErr(t, err)
			return
		}
		again, rest, err := DecodeType(AppendType(nil, V5, typ))
		if err != nil || len(rest) != 0 || !again.Equal(typ) {
			t.Fatalf("%s, again %s: %v", typ, again, err)
		}
	})
}

// FuzzFrameReader feeds a stream at once and byte by byte: both must give the same envelopes and
// errors. mode selects version, framing and compression.
func FuzzFrameReader(f *testing.F) {
	bad := AppendHeader(nil, Header{Version: V5, Op: 99, Stream: 3})
	for mode := range byte(6) {
		v, c, segments := fuzzMode(mode)
		stream := bytes.Repeat(kvExecute(v), 3)
		switch {
		case segments:
			f.Add(mode, AppendSegments(nil, stream, c))
			f.Add(mode, appendSegment(nil, append(bad, stream...), true, c))
			f.Add(mode, append(appendSegment(nil, stream[:100], false, c), appendSegment(nil, stream[100:], false, c)...))
		case c != NoCompression:
			f.Add(mode, compressAll(stream, c))
		default:
			f.Add(mode, stream)
			f.Add(mode, append(AppendHeader(nil, Header{Version: v, Op: OpQuery, Length: 5000}), make([]byte, 5010)...))
		}
	}
	f.Fuzz(func(t *testing.T, mode byte, stream []byte) {
		if len(stream) > 1<<20 {
			return
		}
		whole, wholeErrs := fuzzRead(mode, stream, len(stream))
		pieces, piecesErrs := fuzzRead(mode, stream, 7)
		if _, _, segments := fuzzMode(mode); !segments && len(wholeErrs)+len(piecesErrs) > 0 {
			return // after an unknown version what is dropped depends on what has arrived
		}
		if !reflect.DeepEqual(whole, pieces) || !reflect.DeepEqual(wholeErrs, piecesErrs) {
			t.Fatalf("at once %+v %q\nin pieces %+v %q", whole, wholeErrs, pieces, piecesErrs)
		}
	})
}

func fuzzMode(mode byte) (v Version, c Compression, segments bool) {
	switch mode % 6 {
	case 0:
		return V3, NoCompression, false
	case 1:
		return V4, LZ4, false
	case 2:
		return V4, Snappy, false
	case 3:
		return V5, NoCompression, false
	case 4:
		return V5, NoCompression, true
	}
	return V5, LZ4, true
}

func fuzzRead(mode byte, stream []byte, piece int) (frames []Frame, errs []string) {
	v, c, segments := fuzzMode(mode)
	r := NewFrameReader(ReaderOptions{FrameMax: 4096})
	if r.SetVersion(v); segments {
		r.StartSegments(c)
	} else {
		r.SetCompression(c)
	}
	for len(stream) > 0 {
		n := min(max(piece, 1), len(stream))
		r.Feed(stream[:n])
		stream = stream[n:]
		rounds := 0
		for paused := true; paused; {
			if rounds++; rounds > 1<<20 {
				panic("the reader makes no progress")
			}
			got, err := drain(r)
			frames = append(frames, got...)
			if paused = r.paused; paused {
				r.makeRoom(0)
			}
			var bad *BadFrame
			if errors.As(err, &bad) {
				if errs = append(errs, string(AppendBadFrame(nil, bad))); bad.Fatal {
					return frames, errs
				}
				paused = true
			}
		}
	}
	return frames, errs
}

func FuzzDecompress(f *testing.F) {
	for _, c := range []Compression{LZ4, Snappy} {
		for _, n := range []int{0, 1, 100, 5000} {
			f.Add(c == Snappy, AppendCompressed(nil, make([]byte, n), c))
		}
	}
	f.Fuzz(func(t *testing.T, isSnappy bool, src []byte) {
		c := LZ4
		if isSnappy {
			c = Snappy
		}
		out, err := AppendDecompressed([]byte("before"), src, c, 1<<20)
		if err != nil {
			checkFuzzErr(t, err)
			return
		}
		back, err := AppendDecompressed(nil, AppendCompressed(nil, out[6:], c), c, 1<<20)
		if err != nil || !bytes.Equal(back, out[6:]) || string(out[:6]) != "before" {
			t.Fatalf("%d bytes came back as %d: %v", len(out)-6, len(back), err)
		}
	})
}
