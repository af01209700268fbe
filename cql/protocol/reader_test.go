package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func newServerReader(v Version) *FrameReader {
	r := NewFrameReader(ReaderOptions{ID: "25611d6c", FrameMax: FrameMax})
	r.SetVersion(v)
	return r
}

// drain returns all frames, bodies copied, and the first error.
func drain(r *FrameReader) (frames []Frame, err error) {
	for {
		f, ok, err := r.Next()
		if err != nil || !ok {
			return frames, err
		}
		f.Body = bytes.Clone(f.Body)
		frames = append(frames, f)
	}
}

// requests returns n QUERY envelopes back to back, and the bodies they have.
func requests(v Version, rng *rand.Rand, sizes ...int) (stream []byte, bodies [][]byte) {
	for i, n := range sizes {
		body := make([]byte, n)
		for j := range body {
			body[j] = byte(rng.IntN(4)) // compressible
		}
		var mark int
		stream, mark = BeginFrame(stream, v, OpQuery, int16(i), 0)
		stream = EndFrame(append(stream, body...), mark)
		bodies = append(bodies, body)
	}
	return stream, bodies
}

func checkFrames(t *testing.T, got []Frame, bodies [][]byte) {
	t.Helper()
	if len(got) != len(bodies) {
		t.Fatalf("%d frames, want %d", len(got), len(bodies))
	}
	for i, f := range got {
		if f.Header.Stream != int16(i) || f.Header.Length != len(f.Body) || !bytes.Equal(f.Body, bodies[i]) {
			t.Fatalf("frame %d: header %+v, %d bytes, want %d", i, f.Header, len(f.Body), len(bodies[i]))
		}
	}
}

// feedInPieces feeds stream in random pieces and collects the frames.
func feedInPieces(t *testing.T, r *FrameReader, stream []byte, rng *rand.Rand) []Frame {
	t.Helper()
	var frames []Frame
	src := bytes.NewReader(stream)
	for {
		n, _ := r.Fill(io.LimitReader(src, int64(1+rng.IntN(1<<(1+rng.IntN(17)))))) // io.EOF of src
		got, bad := drain(r)
		if bad != nil {
			t.Fatal(bad)
		}
		frames = append(frames, got...)
		if n == 0 && src.Len() == 0 && len(got) == 0 {
			return frames
		}
	}
}

var sizesMixed = []int{0, 1, 100, 0, 5000, 131062, 131063, 3, 131071, 400000, 7, 1 << 20, 20}

// TestReaderPieces cuts streams of all kinds into random pieces: the envelopes come out whole.
func TestReaderPieces(t *testing.T) {
	seeds := uint64(20)
	switch {
	case os.Getenv("HELENUS_LONG") == "1":
		seeds = 400
	case testing.Short():
		seeds = 5
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 1))
		for v := V3; v <= V4; v++ {
			stream, bodies := requests(v, rng, sizesMixed...)
			checkFrames(t, feedInPieces(t, newServerReader(v), stream, rng), bodies)
			for _, c := range []Compression{LZ4, Snappy} {
				r := newServerReader(v)
				r.SetCompression(c)
				checkFrames(t, feedInPieces(t, r, compressAll(stream, c), rng), bodies)
			}
		}
		stream, bodies := requests(V5, rng, sizesMixed...)
		for _, c := range []Compression{NoCompression, LZ4} {
			r := newServerReader(V5)
			r.StartSegments(c)
			checkFrames(t, feedInPieces(t, r, AppendSegments(nil, stream, c), rng), bodies)
		}
	}
}

// compressAll compresses every envelope of a v3 or v4 stream.
func compressAll(stream []byte, c Compression) (out []byte) {
	for len(stream) > 0 {
		h, rest, _ := DecodeHeader(stream)
		mark := len(out)
		out = append(out, stream[:HeaderLen+h.Length]...)
		out = EndFrameCompressed(out, mark, c)
		stream = rest[h.Length:]
	}
	return out
}

func TestEndFrameCompressedShrinksOrLeaves(t *testing.T) {
	random := make([]byte, 1000)
	rand.NewChaCha8([32]byte{}).Read(random)
	for _, c := range []Compression{LZ4, Snappy} {
		for name, body := range map[string][]byte{"zeros": make([]byte, 1000), "random": random, "short": make([]byte, 10)} {
			b, mark := BeginFrame([]byte("before"), V4, OpResult, 1, 0)
			b = EndFrameCompressed(append(b, body...), mark, c)
			compressed := b[mark+1]&FlagCompressed != 0
			if compressed != (name == "zeros") || len(b) > mark+HeaderLen+len(body) || string(b[:6]) != "before" {
				t.Errorf("%s %s: compressed %v to %d", c, name, compressed, len(b)-mark)
			}
		}
	}
}

// TestSegmentsCoalesce checks that small envelopes share a segment and large ones fill theirs.
func TestSegmentsCoalesce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	count := func(stream []byte) (segments, contained int) {
		for b := AppendSegments(nil, stream, NoCompression); len(b) > 0; segments++ {
			h := decodeSegmentHeader(b, 3)
			if h.selfContained {
				contained++
			}
			b = b[3+segmentCRCLen+h.payload+segmentTrailer:]
		}
		return segments, contained
	}
	small, _ := requests(V5, rng, 10, 20, 30, 40, 50)
	if all, contained := count(small); all != 1 || contained != 1 {
		t.Errorf("5 small envelopes in %d segments, %d self-contained", all, contained)
	}
	exact, _ := requests(V5, rng, SegmentPayloadMax-HeaderLen)
	if all, contained := count(exact); all != 1 || contained != 1 {
		t.Errorf("an envelope of a segment's size in %d segments, %d self-contained", all, contained)
	}
	mixed, _ := requests(V5, rng, 10, SegmentPayloadMax-HeaderLen+1, 10, 10)
	if all, contained := count(mixed); all != 4 || contained != 2 {
		t.Errorf("%d segments, %d self-contained", all, contained)
	}
}

func TestGoldenSegment(t *testing.T) {
	golden := loadGolden(t)
	want := golden["v5/rows_segment"]
	r := NewFrameReader(ReaderOptions{Client: true})
	r.StartSegments(NoCompression)
	r.Feed(want)
	f, ok, err := r.Next()
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	envelope := append(AppendHeader(nil, f.Header), f.Body...)
	if got := AppendSegments(nil, envelope, NoCompression); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	if !bytes.Equal(envelope, golden["v5/rows"]) {
		t.Error("another envelope than the golden one")
	}
}

func TestGoldenCompressed(t *testing.T) {
	golden := loadGolden(t)
	for c, name := range map[Compression]string{LZ4: "lz4", Snappy: "snappy"} {
		r := NewFrameReader(ReaderOptions{Client: true})
		r.SetCompression(c)
		r.Feed(golden["v4/"+name+"_ready"])
		r.Feed(golden["v4/"+name+"_rows"])
		frames, err := drain(r)
		if err != nil || len(frames) != 2 || frames[0].Header.Op != OpReady || len(frames[0].Body) != 0 {
			t.Fatalf("%s: %+v %v", name, frames, err)
		}
		if !bytes.Equal(frames[1].Body, golden["v4/rows"][HeaderLen:]) {
			t.Errorf("%s: body %q", name, frames[1].Body)
		}
	}
}

// TestGoldenBadFrames feeds framing errors and compares the answers with Cassandra's.
func TestGoldenBadFrames(t *testing.T) {
	golden := loadGolden(t)
	frame := func(v Version, op Opcode, stream int16) []byte {
		return AppendHeader(nil, Header{Version: v, Op: op, Stream: stream})
	}
	segment := func(payload []byte) []byte { return appendSegment(nil, payload, true, NoCompression) }
	flipped := segment(frame(5, OpOptions, 1))
	flipped[8] ^= 1
	negative := AppendHeader(nil, Header{Version: 5, Op: OpOptions, Stream: 9, Length: 1<<32 - 1})
	big := make([]byte, HeaderLen+17<<20)
	for _, c := range []struct {
		name     string
		version  Version
		segments bool
		in       []byte
		fatal    bool
	}{
		{"version/0", 0, false, frame(0, OpOptions, 1), false},
		{"version/1", 0, false, []byte{1, 0, 3, 5, 0, 0, 0, 0}, false},
		{"version/2", 0, false, []byte{2, 0, 3, 5, 0, 0, 0, 0}, false},
		{"version/7", 0, false, frame(7, OpOptions, 1), false},
		{"version/65", 0, false, frame(65, OpOptions, 1), false},
		{"version/66", 0, false, frame(66, OpOptions, 1), false},
		{"v4/version_mismatch", 4, false, frame(5, OpOptions, 3), false},
		{"v5/version_mismatch", 5, true, segment(frame(4, OpOptions, 3)), false},
		{"v5/unknown_version", 5, true, segment(frame(66, OpOptions, 3)), false},
		{"v4/unknown_opcode", 4, false, frame(4, 32, 5), false},
		{"v5/unknown_opcode", 5, true, segment(frame(5, 32, 5)), false},
		{"v4/wrong_direction", 4, false, AppendHeader(nil, Header{Version: 4, Op: OpResult, Stream: 5}), false},
		{"v5/wrong_direction", 5, true, segment(frame(5, OpResult, 5)), false},
		{"v5/bad_header_crc", 5, true, make([]byte, 16), true},
		{"v5/bad_body_crc", 5, true, flipped, true},
		{"v5/negative_length", 5, true, segment(negative), true},
		{"v4/too_big", 4, false, append(AppendHeader(nil, Header{Version: 4, Op: OpQuery, Stream: 9, Length: 17 << 20}), big[HeaderLen:]...), false},
		{"v5/too_big", 5, true, AppendSegments(nil, append(AppendHeader(nil, Header{Version: 5, Op: OpQuery, Stream: 9, Length: 17 << 20}), big[HeaderLen:]...), NoCompression), false},
	} {
		want := golden[c.name]
		id, _, _ := strings.Cut(string(want[min(len(want), HeaderLen+6):]), " ") // Cassandra's random one
		r := NewFrameReader(ReaderOptions{ID: id, FrameMax: FrameMax})
		r.SetVersion(c.version)
		if c.segments {
			r.StartSegments(NoCompression)
		}
		r.Feed(c.in)
		_, ok, err := r.Next()
		var bad *BadFrame
		if ok || !errors.As(err, &bad) {
			t.Errorf("%s: %v %v", c.name, ok, err)
			continue
		}
		want = withoutV6(want)
		if got := AppendBadFrame(nil, bad); !bytes.Equal(got, want) || bad.Fatal != c.fatal {
			t.Errorf("%s: fatal %v\ngot  %q\nwant %q", c.name, bad.Fatal, got, want)
		}
		next := frame(c.version, OpOptions, 77)
		if c.version == 0 {
			next = frame(4, OpOptions, 77)
		}
		if c.segments {
			next = segment(next)
		}
		r.Feed(next)
		f, ok, err := r.Next()
		if c.fatal != (err != nil) || c.fatal == ok || ok && f.Header.Stream != 77 {
			t.Errorf("%s: afterwards %+v %v %v", c.name, f, ok, err)
		}
	}
}

// withoutV6 takes v6-beta out of a captured error text, since Helenus does not offer it.
func withoutV6(b []byte) []byte {
	const v6 = ", 6/v6-beta"
	out := bytes.Replace(b, []byte(v6), nil, 1)
	if len(out) == len(b) {
		return b
	}
	out = bytes.Clone(out)
	n := 4
	if out[0]&0x7f >= 3 {
		n = 5
	}
	body := out[n+4:]
	binary.BigEndian.PutUint32(out[n:], uint32(len(body)))
	binary.BigEndian.PutUint16(body[4:], uint16(len(body)-6))
	return out
}

// TestSegmentErrorBudget: one broken envelope in a segment is answered, a second one in a row ends
// the connection, and a good one between them starts the count again.
func TestSegmentErrorBudget(t *testing.T) {
	broken := AppendHeader(nil, Header{Version: V5, Op: 99})
	good := AppendHeader(nil, Header{Version: V5, Op: OpOptions})
	next := func(parts ...[]byte) (fatal []bool) {
		r := newServerReader(V5)
		r.StartSegments(NoCompression)
		r.Feed(appendSegment(nil, bytes.Join(parts, nil), true, NoCompression))
		for {
			_, ok, err := r.Next()
			var bad *BadFrame
			if errors.As(err, &bad) {
				if fatal = append(fatal, bad.Fatal); bad.Fatal {
					return fatal
				}
			} else if !ok {
				return fatal
			}
		}
	}
	if got := next(broken, good, broken, good); len(got) != 2 || got[0] || got[1] {
		t.Errorf("spread errors: fatal %v", got)
	}
	if got := next(good, broken, broken, good); len(got) != 2 || got[0] || !got[1] {
		t.Errorf("errors in a row: fatal %v", got)
	}
}

// TestSegmentsOutOfStep covers what cannot come from a correct peer: all of it is fatal.
func TestSegmentsOutOfStep(t *testing.T) {
	header := func(n int) []byte { return AppendHeader(nil, Header{Version: V5, Op: OpQuery, Stream: 2, Length: n}) }
	seg := func(contained bool, payload ...[]byte) []byte {
		return appendSegment(nil, bytes.Join(payload, nil), contained, NoCompression)
	}
	for name, in := range map[string][]byte{
		"undersized":       seg(true, []byte("abc")),
		"cut":              seg(true, header(500), []byte("abc")),
		"large undersized": seg(false, []byte("abc")),
		"large overrun":    append(seg(false, header(10), []byte("abc")), seg(false, make([]byte, 8))...),
		"large bad opcode": seg(false, AppendHeader(nil, Header{Version: V5, Op: 99, Length: 1 << 17})),
		"skip overrun":     append(seg(false, header(FrameMax+1)), bytes.Repeat(seg(false, make([]byte, SegmentPayloadMax)), 129)...),
	} {
		r := newServerReader(V5)
		r.StartSegments(NoCompression)
		r.Feed(in)
		var bad *BadFrame
		if _, err := drain(r); !errors.As(err, &bad) || !bad.Fatal {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := newServerReader(V5)
	r.SetFrameMax(PreStartupMax)
	r.StartSegments(NoCompression)
	r.Feed(seg(false, header(100000)))
	if _, err := drain(r); err == nil || !strings.Contains(err.Error(), "authentication is still pending. type = QUERY, size = 100000") {
		t.Errorf("before authentication: %v", err)
	}
}

// TestFlips flips every bit of a segment, plain and compressed: none may pass unnoticed.
func TestFlips(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, c := range []Compression{NoCompression, LZ4} {
		stream, bodies := requests(V5, rng, 40, 300)
		segments := AppendSegments(nil, stream, c)
		for bit := range len(segments) * 8 {
			r := newServerReader(V5)
			r.StartSegments(c)
			b := bytes.Clone(segments)
			b[bit/8] ^= 1 << (bit % 8)
			r.Feed(b)
			frames, err := drain(r)
			var bad *BadFrame
			if len(frames) > 0 || !errors.As(err, &bad) || !bad.Fatal {
				t.Fatalf("%s, bit %d: %d frames, %v", c, bit, len(frames), err)
			}
		}
		r := newServerReader(V5)
		r.StartSegments(c)
		r.Feed(segments)
		frames, _ := drain(r)
		checkFrames(t, frames, bodies)
	}
}

// TestClaimedLengthsCostNothing: a header that claims 2 GiB or 16 MiB takes no memory.
func TestClaimedLengthsCostNothing(t *testing.T) {
	for _, length := range []int{1<<31 - 1, 1<<32 - 1, FrameMax - HeaderLen} {
		for _, v := range []Version{V4, V5} {
			in := AppendHeader(nil, Header{Version: v, Op: OpQuery, Length: length})
			if v == V5 {
				in = appendSegment(nil, in, false, NoCompression)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := newServerReader(v)
			if v == V5 {
				r.StartSegments(NoCompression)
			}
			r.Feed(in)
			drain(r)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
				t.Errorf("%s, %d bytes claimed: %d allocated", v, length, n)
			}
		}
	}
}

// TestPreStartupLimit: what is too long is refused before it has come while nobody has said STARTUP, and skipped afterwards.
func TestPreStartupLimit(t *testing.T) {
	in := AppendHeader(nil, Header{Version: V4, Op: OpStartup, Stream: 4, Length: PreStartupMax})
	var bad *BadFrame
	r := NewFrameReader(ReaderOptions{})
	r.Feed(in)
	if _, err := drain(r); !errors.As(err, &bad) || !bad.Fatal || bad.Stream != 4 || bad.Version != V4 || bad.Err.Code != CodeProtocol {
		t.Errorf("before STARTUP: %v", bad)
	}
	r = NewFrameReader(ReaderOptions{})
	r.SetVersion(V4)
	r.Feed(append(in, make([]byte, PreStartupMax)...))
	r.Feed(AppendOptions(nil, V4, 5))
	bad = nil
	if _, err := drain(r); !errors.As(err, &bad) || bad.Fatal || bad.Stream != 4 || bad.Err.Code != CodeInvalid {
		t.Errorf("%v", bad)
	}
	if frames, err := drain(r); err != nil || len(frames) != 1 || frames[0].Header.Stream != 5 {
		t.Errorf("%+v %v", frames, err)
	}
}

// TestBombs: sizes that compressed bodies lie about are refused before memory is taken.
func TestBombs(t *testing.T) {
	good := AppendCompressed(nil, bytes.Repeat([]byte("abcd"), 100), LZ4)
	sized := func(n uint32) []byte {
		b := bytes.Clone(good)
		binary.BigEndian.PutUint32(b, n)
		return b
	}
	goodSnappy := AppendCompressed(nil, bytes.Repeat([]byte("abcd"), 100), Snappy)
	for _, c := range []struct {
		name string
		c    Compression
		body []byte
	}{
		{"empty", LZ4, nil}, {"short", LZ4, []byte{0, 0, 0}},
		{"negative", LZ4, sized(1 << 31)}, {"minus one", LZ4, sized(1<<32 - 1)},
		{"bomb", LZ4, sized(FrameMax)}, {"too large", LZ4, append(sized(FrameMax+1), make([]byte, 100000)...)},
		{"larger", LZ4, sized(401)}, {"smaller", LZ4, sized(399)}, {"zero", LZ4, sized(0)},
		{"trailing", LZ4, append(bytes.Clone(good), 0)}, {"cut", LZ4, good[:len(good)-1]},
		{"empty", Snappy, nil}, {"huge", Snappy, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}},
		{"bomb", Snappy, append([]byte{0xff, 0xff, 0xff, 0x07}, goodSnappy[2:]...)},
		{"larger", Snappy, append([]byte{0x91, 0x03}, goodSnappy[2:]...)},
		{"smaller", Snappy, append([]byte{0x8f, 0x03}, goodSnappy[2:]...)},
		{"trailing", Snappy, append(bytes.Clone(goodSnappy), 0, 0)}, {"cut", Snappy, goodSnappy[:len(goodSnappy)-1]},
	} {
		dst := []byte("before")
		got, err := AppendDecompressed(dst, c.body, c.c, FrameMax)
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeProtocol || string(got) != "before" {
			t.Errorf("%s %s: %d bytes, %v", c.c, c.name, len(got), err)
		}
		r := newServerReader(V4)
		r.SetCompression(c.c)
		in := AppendHeader(nil, Header{Version: V4, Flags: FlagCompressed, Op: OpQuery, Stream: 6, Length: len(c.body)})
		r.Feed(append(append(in, c.body...), AppendOptions(nil, V4, 7)...))
		var bad *BadFrame
		if _, err := drain(r); !errors.As(err, &bad) || bad.Fatal || bad.Stream != 6 {
			t.Errorf("%s %s: reader: %v", c.c, c.name, err)
		}
		if frames, err := drain(r); err != nil || len(frames) != 1 || frames[0].Header.Stream != 7 {
			t.Errorf("%s %s: afterwards %+v %v", c.c, c.name, frames, err)
		}
	}
}

// TestArenaPause: however much a single chunk expands to, only arenaMax is held at a time (or one
// body), and nothing is lost.
func TestArenaPause(t *testing.T) {
	for _, v := range []Version{V4, V5} {
		var stream []byte
		const n, size = 40, 120000
		for i := range n {
			b, mark := BeginFrame(nil, v, OpQuery, int16(i), 0)
			b = append(b, make([]byte, size)...)
			if v == V4 {
				b = EndFrameCompressed(b, mark, LZ4)
			} else {
				b = AppendSegments(nil, EndFrame(b, mark), LZ4)
			}
			stream = append(stream, b...)
		}
		r := newServerReader(v)
		if v == V4 {
			r.SetCompression(LZ4)
		} else {
			r.StartSegments(LZ4)
		}
		r.Feed(stream)
		got, rounds := 0, 0
		for got < n && rounds < 100 {
			frames, err := drain(r)
			if err != nil {
				t.Fatal(err)
			}
			if len(frames)*size > arenaMax {
				t.Errorf("%s: %d bodies between two Fills", v, len(frames))
			}
			for _, f := range frames {
				if f.Header.Stream != int16(got) || len(f.Body) != size {
					t.Fatalf("%s: frame %d: %+v", v, got, f.Header)
				}
				got++
			}
			rounds++
			if got < n {
				if k, err := r.Fill(iotest.ErrReader(errors.New("read while frames wait"))); k != 0 || err != nil {
					t.Fatal(k, err)
				}
			}
		}
		if got != n {
			t.Errorf("%s: %d of %d frames", v, got, n)
		}
	}
}

// TestReaderGivesMemoryBack: after a large envelope the buffer is small again.
func TestReaderGivesMemoryBack(t *testing.T) {
	r := newServerReader(V4)
	stream, bodies := requests(V4, rand.New(rand.NewPCG(1, 2)), 8<<20)
	checkFrames(t, feedInPieces(t, r, stream, rand.New(rand.NewPCG(1, 2))), bodies)
	r.Feed([]byte{4})
	if len(r.buf) > readBufferKeep {
		t.Errorf("buffer of %d bytes kept", len(r.buf))
	}
}

func TestReadFrame(t *testing.T) {
	stream, bodies := requests(V4, rand.New(rand.NewPCG(1, 2)), 10, 0, 9000)
	src := iotest.OneByteReader(bytes.NewReader(stream[:len(stream)-1]))
	r := newServerReader(V4)
	for i := range 2 {
		if f, err := r.ReadFrame(src); err != nil || !bytes.Equal(f.Body, bodies[i]) {
			t.Fatal(f, err)
		}
	}
	if _, err := r.ReadFrame(src); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut stream: %v", err)
	}
	if _, err := newServerReader(V4).ReadFrame(bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Errorf("empty stream: %v", err)
	}
}

// TestHandshakeInOneChunk: what was pipelined behind STARTUP is understood in the new framing.
func TestHandshakeInOneChunk(t *testing.T) {
	r := NewFrameReader(ReaderOptions{})
	in := AppendStartup(nil, V5, 0, []StringPair{{"CQL_VERSION", "3.0.0"}})
	r.Feed(AppendSegments(in, AppendOptions(nil, V5, 9), NoCompression))
	if f, ok, err := r.Next(); !ok || err != nil || f.Header.Op != OpStartup {
		t.Fatal(f, ok, err)
	}
	r.SetVersion(V5)
	r.StartSegments(NoCompression)
	if f, ok, err := r.Next(); !ok || err != nil || f.Header.Op != OpOptions || f.Header.Stream != 9 {
		t.Fatal(f, ok, err)
	}
}

func TestHighestCommon(t *testing.T) {
	for _, c := range []struct{ tried, reply, want Version }{
		{66, 5, 5}, {66, 66, 5}, {5, 4, 4}, {5, 5, 4}, {4, 4, 3}, {3, 3, 0}, {5, 0x7f, 4},
	} {
		got, err := HighestCommon(c.tried, Header{Version: c.reply})
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%d, reply %d: %d %v", c.tried, c.reply, got, err)
		}
	}
}

func TestRefusedEnvelopesAreDroppedAsTheyCome(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for _, v := range []Version{V4, V5} {
		stream, bodies := requests(v, rng, 300_000, 100)
		r := newServerReader(v)
		if v == V5 {
			r.StartSegments(NoCompression)
			stream = AppendSegments(nil, stream, NoCompression)
		}
		refusal := Errorf(CodeOverloaded, "not now")
		if r.Refuse(refusal) {
			t.Error("refused an envelope of which nothing has come")
		}
		r.Feed(stream[:200_000])
		if frames, err := drain(r); len(frames) > 0 || err != nil {
			t.Fatal(frames, err)
		}
		if !r.Refuse(refusal) || r.Refuse(refusal) {
			t.Error("want refused once")
		}
		if n := r.Buffered(); n > SegmentPayloadMax {
			t.Errorf("%d bytes are still held", n)
		}
		r.Feed(stream[200_000:])
		_, err := drain(r)
		var bad *BadFrame
		if !errors.As(err, &bad) || bad.Err != refusal || bad.Stream != 0 || bad.Fatal || bad.Version != v {
			t.Fatalf("got %v", err)
		}
		frames, err := drain(r)
		if err != nil || len(frames) != 1 || !bytes.Equal(frames[0].Body, bodies[1]) {
			t.Fatalf("the envelope after it: %d, %v", len(frames), err)
		}
	}
}
