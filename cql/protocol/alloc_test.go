package protocol

import (
	"bytes"
	"fmt"
	"testing"
)

func kvExecute(v Version) (frame []byte) {
	e := Execute{ID: bytes.Repeat([]byte{1}, 16), QueryParams: QueryParams{Consistency: LocalQuorum,
		Flags: QuerySkipMetadata | QueryTimestamp, Timestamp: 1700000000000000,
		Values: []Value{{Bytes: []byte("key000001")}, {Bytes: bytes.Repeat([]byte("x"), 150)}}}}
	if v >= V5 {
		e.ResultMetadataID = bytes.Repeat([]byte{2}, 16)
	}
	return AppendExecute(nil, v, 7, 0, &e)
}

func appendKVRow(dst []byte) []byte {
	return AppendNull(AppendValue(AppendValue(dst, []byte("0123")), []byte("a value of some length")))
}

func appendKVResult(dst []byte, v Version, specs *Specs, n int) []byte {
	dst, mark := BeginResponse(dst, v, OpResult, 7, nil)
	dst, rows := BeginRows(dst, v, specs, FullMetadata)
	for range n {
		dst = appendKVRow(dst)
	}
	return EndFrame(EndRows(dst, rows, n, []byte("state")), mark)
}

func checkAllocs(t *testing.T, what string, f func()) {
	t.Helper()
	f() // warm up
	if n := testing.AllocsPerRun(200, f); n != 0 {
		t.Errorf("%s: %v allocations", what, n)
	}
}

// TestAllocations guards the paths that every request takes.
func TestAllocations(t *testing.T) {
	specs := kvSpecs()
	for v := V3; v <= V5; v++ {
		frame := kvExecute(v)
		body := frame[HeaderLen:]
		var e Execute
		checkAllocs(t, "DecodeExecute "+v.String(), func() {
			if err := DecodeExecute(v, body, &e); err != nil {
				t.Fatal(err)
			}
		})
		query := AppendQuery(nil, v, 1, 0, "SELECT a FROM b", &e.QueryParams)[HeaderLen:]
		var q Query
		checkAllocs(t, "DecodeQuery "+v.String(), func() { DecodeQuery(v, query, &q) })
		batch := AppendBatch(nil, v, 1, 0, &Batch{Statements: []BatchStatement{{Prepared: true, ID: []byte("id"), Values: e.Values}, {Query: []byte("q")}}})[HeaderLen:]
		var b Batch
		checkAllocs(t, "DecodeBatch "+v.String(), func() { DecodeBatch(v, batch, &b) })
		dst := make([]byte, 0, 4096)
		checkAllocs(t, "AppendExecute "+v.String(), func() { AppendExecute(dst, v, 1, 0, &e) })
		checkAllocs(t, "rows "+v.String(), func() { appendKVResult(dst, v, specs, 10) })
		checkAllocs(t, "void "+v.String(), func() {
			d, mark := BeginResponse(dst, v, OpResult, 1, nil)
			EndFrame(AppendVoid(d), mark)
		})
	}
}

// TestFramingAllocations: reading and writing a stream of frames allocates nothing per frame.
func TestFramingAllocations(t *testing.T) {
	for _, c := range []struct {
		v Version
		c Compression
	}{{V4, NoCompression}, {V4, LZ4}, {V4, Snappy}, {V5, NoCompression}, {V5, LZ4}} {
		r, stream := streamOf(c.v, c.c, 32)
		src := bytes.NewReader(stream)
		checkAllocs(t, fmt.Sprintf("FrameReader %s %s", c.v, c.c), func() {
			src.Reset(stream)
			for n := 0; n < 32; {
				if _, err := r.Fill(src); err != nil {
					t.Fatal(err)
				}
				for {
					_, ok, err := r.Next()
					if err != nil {
						t.Fatal(err)
					}
					if !ok {
						break
					}
					n++
				}
			}
		})
		envelopes := bytes.Repeat(kvExecute(c.v), 32)
		dst := make([]byte, 0, 64<<10)
		if c.v == V5 {
			checkAllocs(t, "AppendSegments "+c.c.String(), func() { AppendSegments(dst, envelopes, c.c) })
		}
	}
}

// streamOf returns n EXECUTE frames as they come from the network, and a reader for them.
func streamOf(v Version, c Compression, n int) (*FrameReader, []byte) {
	r := newServerReader(v)
	envelopes := bytes.Repeat(kvExecute(v), n)
	if v == V5 {
		r.StartSegments(c)
		return r, AppendSegments(nil, envelopes, c)
	}
	r.SetCompression(c)
	return r, compressAll(envelopes, c)
}

func BenchmarkDecodeExecute(b *testing.B) {
	for v := V4; v <= V5; v++ {
		b.Run(v.String()[2:], func(b *testing.B) {
			frame := kvExecute(v)
			var e Execute
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				if DecodeExecute(v, frame[HeaderLen:], &e) != nil {
					b.Fatal()
				}
			}
		})
	}
}

func BenchmarkAppendRows(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			specs := kvSpecs()
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				dst = appendKVResult(dst[:0], V5, specs, n)
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}

// BenchmarkFrameReader reads 32 EXECUTEs per operation, as a busy connection brings them.
func BenchmarkFrameReader(b *testing.B) {
	for _, c := range []struct {
		v Version
		c Compression
	}{{V4, NoCompression}, {V4, LZ4}, {V4, Snappy}, {V5, NoCompression}, {V5, LZ4}} {
		b.Run(c.v.String()[2:]+c.c.String(), func(b *testing.B) {
			r, stream := streamOf(c.v, c.c, 32)
			src := bytes.NewReader(stream)
			b.ReportAllocs()
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				src.Reset(stream)
				for n := 0; n < 32; {
					r.Fill(src)
					for {
						_, ok, _ := r.Next()
						if !ok {
							break
						}
						n++
					}
				}
			}
		})
	}
}

func BenchmarkAppendSegments(b *testing.B) {
	for _, c := range []Compression{NoCompression, LZ4} {
		b.Run("v5"+c.String(), func(b *testing.B) {
			envelopes := bytes.Repeat(kvExecute(V5), 32)
			var dst []byte
			b.ReportAllocs()
			b.SetBytes(int64(len(envelopes)))
			for b.Loop() {
				dst = AppendSegments(dst[:0], envelopes, c)
			}
		})
	}
}
