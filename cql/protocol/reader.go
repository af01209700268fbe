package protocol

import (
	"errors"
	"io"
)

// Sizes of a FrameReader's memory, in bytes.
const (
	readMin        = 512       // room below which the buffer is compacted before a read
	readBufferMin  = 4 << 10   // what a connection starts with
	readBufferGrow = 128 << 10 // a buffer that is filled by one read doubles up to this
	readBufferKeep = 256 << 10 // a larger one is given back when it has been emptied
	arenaKeep      = 256 << 10 // the same for decompressed bodies
	arenaMax       = 1 << 20   // decompressed bodies between two Fills, unless a single one is larger
)

// ReaderOptions configure a FrameReader.
type ReaderOptions struct {
	// Client says that responses come in. Default: requests do.
	Client bool

	// FrameMax bounds one envelope, in bytes: header and body, but in v5 segments the body alone,
	// as in Cassandra. SetFrameMax changes it. 0 means PreStartupMax for a server and FrameMax for
	// a client.
	FrameMax int

	// ID stands at the front of the text about a segment with a bad checksum (Cassandra: the
	// connection's id, 8 hexadecimal digits).
	ID string
}

// Frame is one envelope. Body aliases the reader's memory: it is valid until the next call of Fill
// or Feed.
type Frame struct {
	Header Header
	Body   []byte
}

// BadFrame is an error in the framing. The connection can go on unless Fatal; either way the
// client should be sent AppendBadFrame.
type BadFrame struct {
	Err     *Error
	Version Version // to answer in; 1 and 2 for clients of those versions
	Stream  int16   // to answer on; 0 when unknown
	Fatal   bool    // the stream is out of step: close the connection after the answer
}

// Error returns the text that the client gets, after a prefix that it does not get.
func (b *BadFrame) Error() string { return "protocol: bad frame: " + b.Err.Message }

// Unwrap returns the *Error.
func (b *BadFrame) Unwrap() error { return b.Err }

// FrameReader cuts a stream of bytes into envelopes. It holds one buffer, which grows only as far
// as bytes have arrived, whatever lengths headers claim.
//
// Use: after each Fill (or Feed), call Next until it returns ok == false. A server calls SetVersion
// when STARTUP has come, SetCompression for v3 and v4 or StartSegments for v5 when the answer to
// STARTUP has been built, and SetFrameMax when the client is authenticated; all take effect on the
// bytes not yet returned by Next.
type FrameReader struct {
	client  bool
	id      string
	max     int
	version Version // 0: any supported one

	compression Compression
	segments    bool

	buf  []byte // buf[r:w] has arrived and is not consumed
	r, w int
	full bool // the last read filled the buffer

	skip    int // bytes of an oversized envelope that are still to be dropped
	tooLong *BadFrame

	seg       []byte // rest of a self-contained segment; aliases buf or arena
	segErrors int    // broken envelopes in a row in it
	large     []byte // envelope that spans segments, as far as it has come
	largeSize int    // its whole size; 0: there is none
	largeBad  *BadFrame

	arena  []byte // decompressed since the last Fill
	inUse  int    // bytes of all arenas handed out since the last Fill
	paused bool   // Next stopped because of arenaMax

	dead *BadFrame // fatal: all further calls of Next return it
}

// NewFrameReader returns a reader that expects bare envelopes of any supported version.
func NewFrameReader(o ReaderOptions) *FrameReader {
	if o.FrameMax == 0 {
		o.FrameMax = PreStartupMax
		if o.Client {
			o.FrameMax = FrameMax
		}
	}
	return &FrameReader{client: o.Client, id: o.ID, max: o.FrameMax}
}

// SetVersion makes every envelope of another version an error.
func (r *FrameReader) SetVersion(v Version) { r.version = v }

// SetFrameMax changes the bound on one envelope, in bytes (ReaderOptions.FrameMax).
func (r *FrameReader) SetFrameMax(n int) { r.max = n }

// SetCompression makes the reader decompress bodies whose flag says so (v3 and v4).
func (r *FrameReader) SetCompression(c Compression) { r.compression = c }

// StartSegments makes the reader expect v5 segments from the next byte on. c is NoCompression or
// LZ4.
func (r *FrameReader) StartSegments(c Compression) {
	r.segments, r.compression = true, c
}

// Buffered returns how many bytes have arrived that Next has not returned yet.
func (r *FrameReader) Buffered() int { return r.w - r.r + len(r.seg) + len(r.large) }

// Refuse gives up the envelope of which a part has arrived, false when there is none: what it holds is freed, the
// rest is dropped as it comes, and when all of it has come Next returns err about it.
func (r *FrameReader) Refuse(err *Error) bool {
	if r.segments {
		return r.refuseLarge(err)
	}
	h, _, short := DecodeHeader(r.buf[r.r:r.w])
	if short != nil || r.skip > 0 || r.check(h) != nil {
		return false
	}
	r.skip, r.tooLong = HeaderLen+h.Length, r.bad(h, err)
	n := min(r.skip, r.w-r.r)
	r.r += n
	r.skip -= n
	r.compact()
	return true
}

// Fill reads once from src into the buffer and returns what src did. It reads nothing, and
// returns 0 and no error, while bytes wait that Next can use. It invalidates all bodies returned so far.
func (r *FrameReader) Fill(src io.Reader) (int, error) {
	if !r.makeRoom(1) {
		return 0, nil
	}
	n, err := src.Read(r.buf[r.w:])
	r.w += n
	r.full = r.w == len(r.buf)
	return n, err
}

// Feed copies b into the buffer, for those who have the bytes already. It invalidates all bodies
// returned so far; Next must have returned ok == false before.
func (r *FrameReader) Feed(b []byte) {
	r.paused = false
	if !r.makeRoom(len(b)) {
		panic("protocol: Feed before Next has returned what is there")
	}
	r.w += copy(r.buf[r.w:], b)
}

// makeRoom forgets what has been handed out and makes room for n more bytes. It reports false,
// having made none, when Next should run first.
func (r *FrameReader) makeRoom(n int) bool {
	if len(r.seg) > 0 {
		return false
	}
	r.inUse = 0
	r.arena = r.arena[:0]
	if cap(r.arena) > arenaKeep {
		r.arena = nil
	}
	if r.paused {
		r.paused = false
		return false
	}
	if r.r == r.w || len(r.buf)-r.w < max(n, readMin) {
		r.compact()
	}
	if want := r.wanted(n); want > len(r.buf) {
		buf := make([]byte, want)
		copy(buf, r.buf[:r.w])
		r.buf = buf
	}
	return true
}

// compact moves what is left to the front, and gives a large buffer back once it is empty.
func (r *FrameReader) compact() {
	if r.r > 0 {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if r.w == 0 && len(r.buf) > readBufferKeep {
		r.buf, r.full = nil, false
	}
}

// wanted returns the size that the buffer should have to take n bytes more.
func (r *FrameReader) wanted(n int) int {
	size := max(len(r.buf), readBufferMin)
	if r.full && size < readBufferGrow {
		size *= 2
	}
	r.full = false
	for size-r.w < n {
		size *= 2
	}
	return size
}

// Next returns the next envelope, or ok == false when more bytes are needed. An error is a
// *BadFrame; unless it is fatal, Next can be called again.
func (r *FrameReader) Next() (f Frame, ok bool, err error) {
	if r.dead != nil {
		return Frame{}, false, r.dead
	}
	var bad *BadFrame
	if r.segments {
		f, ok, bad = r.nextInSegments()
	} else {
		f, ok, bad = r.nextBare()
	}
	if bad == nil {
		return f, ok, nil
	}
	if bad.Fatal {
		r.dead = bad
		r.seg, r.large = nil, nil
	}
	return Frame{}, false, bad
}

// ReadFrame returns the next envelope, reading from src as often as needed. Errors: *BadFrame,
// those of src, and io.ErrUnexpectedEOF when src ends within an envelope.
func (r *FrameReader) ReadFrame(src io.Reader) (Frame, error) {
	for {
		f, ok, err := r.Next()
		if ok || err != nil {
			return f, err
		}
		if n, err := r.Fill(src); err != nil && n == 0 {
			if errors.Is(err, io.EOF) && r.Buffered() > 0 {
				err = io.ErrUnexpectedEOF
			}
			return Frame{}, err
		}
	}
}

// nextBare cuts an envelope out of the buffer.
func (r *FrameReader) nextBare() (Frame, bool, *BadFrame) {
	if r.skip > 0 || r.tooLong != nil {
		return r.skipTooLong()
	}
	b := r.buf[r.r:r.w]
	if len(b) == 0 {
		return Frame{}, false, nil
	}
	if v := Version(b[0] & 0x7f); !v.Supported() {
		// Its header may have another shape, so nothing after it can be understood: Cassandra
		// drops what has arrived and goes on with what comes then.
		r.r = r.w
		return Frame{}, false, &BadFrame{Err: UnsupportedVersion(v), Version: answerVersion(v)}
	}
	if len(b) < HeaderLen {
		return Frame{}, false, nil
	}
	h, rest, _ := DecodeHeader(b)
	if HeaderLen+h.Length > r.max {
		if !r.client && r.version == 0 {
			return Frame{}, false, r.stranger(h)
		}
		r.startSkip(h)
		return r.skipTooLong()
	}
	if h.Length > len(rest) {
		return Frame{}, false, nil
	}
	return r.take(h, rest[:h.Length:h.Length])
}

// take consumes an envelope that is there in full, unless its body has to wait for memory.
func (r *FrameReader) take(h Header, body []byte) (Frame, bool, *BadFrame) {
	size := HeaderLen + h.Length
	err := r.check(h)
	if err == nil && h.Flags&FlagCompressed != 0 && r.compression != NoCompression {
		body, err = r.decompress(body)
		if r.paused {
			return Frame{}, false, nil
		}
		h.Length = len(body)
	}
	r.r += size
	if err != nil {
		return Frame{}, false, r.bad(h, err)
	}
	return Frame{h, body}, true, nil
}

// decompress returns a decompressed body, or sets paused.
func (r *FrameReader) decompress(body []byte) ([]byte, *Error) {
	n, err := decompressedLen(body, r.compression, r.max)
	if err != nil || r.pause(n) {
		return nil, err
	}
	out := r.allocate(n)
	return out, decompress(out, body, r.compression)
}

// bad returns the non-fatal error about an envelope whose header is known.
func (r *FrameReader) bad(h Header, err *Error) *BadFrame {
	v := r.version
	if v == 0 {
		v = h.Version
	}
	return &BadFrame{Err: err, Version: answerVersion(v), Stream: h.Stream}
}

// startSkip begins to drop an envelope that is too long. As in Cassandra the client is told when all of
// it has come, because until then it may not be reading.
func (r *FrameReader) startSkip(h Header) {
	r.skip = HeaderLen + h.Length
	r.tooLong = r.bad(h, Errorf(CodeInvalid, "Request is too big: length %d exceeds maximum allowed length %d.",
		HeaderLen+h.Length, r.max))
}

// stranger returns the fatal error about an envelope that is too long where STARTUP has not come yet. Who sends such a thing
// first is no client, and nothing is lost by not waiting for the rest of it, of up to 2 GiB.
func (r *FrameReader) stranger(h Header) *BadFrame {
	bad := r.bad(h, protocolErr("Request is too big: length %d exceeds maximum allowed length %d before STARTUP.", HeaderLen+h.Length, r.max))
	bad.Fatal = true
	return bad
}

func (r *FrameReader) skipTooLong() (Frame, bool, *BadFrame) {
	n := min(r.skip, r.w-r.r)
	r.r += n
	r.skip -= n
	if r.skip > 0 {
		return Frame{}, false, nil
	}
	bad := r.tooLong
	r.tooLong = nil
	return Frame{}, false, bad
}

// check judges a header: its version, its opcode and its direction.
func (r *FrameReader) check(h Header) *Error {
	if !h.Version.Supported() {
		return UnsupportedVersion(h.Version)
	}
	if r.version != 0 && h.Version != r.version {
		space := " "
		if r.segments {
			space = "" // Cassandra forgets it there
		}
		return protocolErr("Invalid message version. Got %s but previous%smessages on this connection had version %s",
			h.Version, space, r.version)
	}
	if !h.Op.Known() {
		return protocolErr("Unknown opcode %d", uint8(h.Op))
	}
	if h.Op.IsResponse() != h.Response || h.Response != r.client {
		return protocolErr("Wrong protocol direction (expected %s, got %s) for opcode %d (%s)",
			direction(h.Op.IsResponse()), direction(h.Response), uint8(h.Op), h.Op)
	}
	return nil
}

func direction(response bool) string {
	if response {
		return "RESPONSE"
	}
	return "REQUEST"
}

// pause reports whether decompressing n more bytes has to wait for the next Fill.
func (r *FrameReader) pause(n int) bool {
	r.paused = r.inUse > 0 && r.inUse+n > arenaMax
	return r.paused
}

// allocate returns n bytes that stay valid until the next Fill.
func (r *FrameReader) allocate(n int) []byte {
	if cap(r.arena)-len(r.arena) < n {
		r.arena = make([]byte, 0, max(n, 64<<10, min(2*cap(r.arena), arenaMax)))
	}
	at := len(r.arena)
	r.arena = r.arena[:at+n]
	r.inUse += n
	return r.arena[at : at+n : at+n]
}
