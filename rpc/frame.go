package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/pierrec/lz4/v4"
)

// frameKind is the first byte of a frame's own header.
type frameKind uint8

const (
	kindRequest   frameKind = 1
	kindResponse  frameKind = 2
	kindHeartbeat frameKind = 3
	kindOneWay    frameKind = 4
)

const (
	headerLen = 32
	flagLZ4   = 1 // the body is [u32 length when unpacked][LZ4 block]
	flagTrace = 2 // the body begins with what tracing needs, see splitTrace

	readBufMin = 64 << 10
	// unpackedMax bounds the unpacked bodies that one socket read may leave behind before the session is flushed.
	unpackedMax = 4 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFrame is wrapped by all errors about bytes that are not a frame.
var errFrame = errors.New("invalid frame")

// header is the fixed part of a frame; docs/format/rpc.md draws it. All integers are little endian.
type header struct {
	length  uint32 // of the body
	kind    frameKind
	code    uint8 // verb of a request, status of a response
	flags   uint8
	micros  uint32 // of a request: time left until its deadline, saturated
	id      uint64
	epoch   uint64
	crc     uint32
	reserve uint8
}

// appendFrame appends a frame with the given body whose CRC and remaining time are still open: seal sets them.
func appendFrame(dst []byte, h header, body []byte) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = append(dst, byte(h.kind), h.code, h.flags, 0)
	dst = binary.LittleEndian.AppendUint32(dst, h.micros)
	dst = binary.LittleEndian.AppendUint64(dst, h.id)
	dst = binary.LittleEndian.AppendUint64(dst, h.epoch)
	return append(dst, body...)
}

// seal sets the CRC of a complete frame.
func seal(frame []byte) {
	binary.LittleEndian.PutUint32(frame, crc32.Checksum(frame[4:], castagnoli))
}

// setMicros sets the remaining time of a frame, before seal.
func setMicros(frame []byte, micros uint32) {
	binary.LittleEndian.PutUint32(frame[12:], micros)
}

// decodeHeader reads a header from the first headerLen bytes of src, which must be there. The error wraps errFrame
// when no frame begins like this.
func decodeHeader(src []byte) (header, error) {
	_ = src[headerLen-1]
	h := header{
		crc:     binary.LittleEndian.Uint32(src),
		length:  binary.LittleEndian.Uint32(src[4:]),
		kind:    frameKind(src[8]),
		code:    src[9],
		flags:   src[10],
		reserve: src[11],
		micros:  binary.LittleEndian.Uint32(src[12:]),
		id:      binary.LittleEndian.Uint64(src[16:]),
		epoch:   binary.LittleEndian.Uint64(src[24:]),
	}
	switch {
	case h.length > BodyMax:
		return h, fmt.Errorf("%w: body of %d bytes", errFrame, h.length)
	case h.kind < kindRequest || h.kind > kindOneWay:
		return h, fmt.Errorf("%w: kind %d", errFrame, h.kind)
	case h.flags&^(flagLZ4|flagTrace) != 0 || h.reserve != 0, h.flags&flagTrace != 0 && h.kind > kindResponse:
		return h, fmt.Errorf("%w: flags %#x %#x", errFrame, h.flags, h.reserve)
	}
	return h, nil
}

// frameReader cuts frames out of a byte stream. Its buffer grows only as bytes arrive, up to one frame.
type frameReader struct {
	src      io.Reader
	buf      []byte
	r, w     int // buf[r:w] has been read from src and not been cut yet
	keep     int // a buffer larger than this is given back once it is empty
	unpacked []byte
	inflated int // bytes unpacked since fill, also in arrays that unpacked has replaced
}

func newFrameReader(src io.Reader, keep int) *frameReader {
	return &frameReader{src: src, buf: make([]byte, readBufMin), keep: max(keep, readBufMin)}
}

// next returns the next complete frame that is already in the buffer, ok false when there is none. Bodies stay
// valid until fill; those of compressed frames too. The error wraps errFrame and is final.
func (f *frameReader) next() (h header, body []byte, ok bool, err error) {
	if f.w-f.r < headerLen {
		return h, nil, false, nil
	}
	if h, err = decodeHeader(f.buf[f.r:f.w]); err != nil {
		return h, nil, false, err
	}
	total := headerLen + int(h.length)
	if f.w-f.r < total {
		return h, nil, false, nil
	}
	frame := f.buf[f.r : f.r+total : f.r+total]
	if crc32.Checksum(frame[4:], castagnoli) != h.crc {
		return h, nil, false, fmt.Errorf("%w: checksum", errFrame)
	}
	f.r += total
	body = frame[headerLen:]
	if h.flags&flagLZ4 != 0 {
		body, err = f.unpack(body)
	}
	return h, body, err == nil, err
}

// unpack appends the unpacked body to f.unpacked and returns it. Bodies unpacked before keep their bytes, also when
// the array is replaced by a larger one.
func (f *frameReader) unpack(packed []byte) ([]byte, error) {
	if len(packed) < 4 {
		return nil, fmt.Errorf("%w: compressed body of %d bytes", errFrame, len(packed))
	}
	n := int(binary.LittleEndian.Uint32(packed))
	packed = packed[4:]
	if n > BodyMax || n > 255*len(packed)+64 { // a byte of an LZ4 block stands for at most 255
		return nil, fmt.Errorf("%w: %d bytes claim to unpack to %d", errFrame, len(packed), n)
	}
	if cap(f.unpacked)-len(f.unpacked) < n {
		f.unpacked = make([]byte, 0, max(n, readBufMin))
	}
	at := len(f.unpacked)
	dst := f.unpacked[at : at+n : at+n]
	got, err := lz4.UncompressBlock(packed, dst)
	if err != nil || got != n {
		return nil, fmt.Errorf("%w: LZ4 block of %d bytes", errFrame, len(packed))
	}
	f.unpacked = f.unpacked[:at+n]
	f.inflated += n
	return dst, nil
}

// crowded says that the bodies unpacked since fill hold so much memory that they should be given up first.
func (f *frameReader) crowded() bool { return f.inflated > unpackedMax }

// fill makes one read from the source; all bodies handed out before become invalid. It returns the number of bytes
// read and the error of the source.
func (f *frameReader) fill() (int, error) {
	f.release()
	if f.w == len(f.buf) {
		f.grow()
	}
	n, err := f.src.Read(f.buf[f.w:])
	f.w += n
	if n > 0 {
		err = nil // the source repeats it
	}
	return n, err
}

// release moves what is left to the front, and shrinks buffers that one large frame has blown up.
func (f *frameReader) release() {
	if f.r == f.w && len(f.buf) > f.keep {
		f.buf = make([]byte, readBufMin)
	} else if f.r > 0 {
		copy(f.buf, f.buf[f.r:f.w])
	}
	f.w -= f.r
	f.r = 0
	f.dropUnpacked()
}

// dropUnpacked makes the bodies unpacked so far invalid, and their memory free for others.
func (f *frameReader) dropUnpacked() {
	f.unpacked, f.inflated = f.unpacked[:0], 0
	if cap(f.unpacked) > f.keep {
		f.unpacked = nil
	}
}

// grow is called with a full buffer that begins with an incomplete frame: it doubles, up to that frame's length.
func (f *frameReader) grow() {
	h, err := decodeHeader(f.buf)
	if err != nil {
		return // next has reported it
	}
	size := min(2*len(f.buf), headerLen+int(h.length))
	bigger := make([]byte, max(size, readBufMin))
	copy(bigger, f.buf[:f.w])
	f.buf = bigger
}
