package protocol

import (
	"encoding/binary"
	"errors"
)

// ErrShort says that the bytes end before the header, frame or segment does: more must be read.
var ErrShort = errors.New("protocol: incomplete frame")

// Header is the header of an envelope, which the specification calls frame header:
//
//	| version | flags | stream (2) | opcode | length (4) |
type Header struct {
	Version  Version // as sent; may be one that is not supported
	Response bool    // the direction bit of the version byte
	Flags    byte
	Stream   int16
	Op       Opcode // as sent; may be unknown
	Length   int    // of the body in bytes; up to 2^32-1, unchecked
}

// DecodeHeader decodes the 9 bytes of a header and returns what follows them. It judges nothing
// but their number; the only error is ErrShort.
func DecodeHeader(src []byte) (h Header, rest []byte, err error) {
	if len(src) < HeaderLen {
		return Header{}, src, ErrShort
	}
	h = Header{
		Version:  Version(src[0] & 0x7f),
		Response: src[0]&0x80 != 0,
		Flags:    src[1],
		Stream:   int16(binary.BigEndian.Uint16(src[2:])),
		Op:       Opcode(src[4]),
		Length:   int(binary.BigEndian.Uint32(src[5:])),
	}
	return h, src[HeaderLen:], nil
}

// AppendHeader appends the header of an envelope whose body follows.
func AppendHeader(dst []byte, h Header) []byte {
	first := byte(h.Version)
	if h.Response {
		first |= 0x80
	}
	dst = append(dst, first, h.Flags, byte(h.Stream>>8), byte(h.Stream), byte(h.Op))
	return appendI32(dst, h.Length)
}

// BeginFrame appends the header of an envelope whose length is not known yet, and returns the mark
// that EndFrame needs. The direction bit follows from the opcode.
func BeginFrame(dst []byte, v Version, op Opcode, stream int16, flags byte) (out []byte, mark int) {
	mark = len(dst)
	return AppendHeader(dst, Header{Version: v, Response: op.IsResponse(), Flags: flags, Stream: stream, Op: op}), mark
}

// EndFrame writes the length into the header at mark: everything after that header is its body.
func EndFrame(dst []byte, mark int) []byte {
	binary.BigEndian.PutUint32(dst[mark+5:], uint32(len(dst)-mark-HeaderLen))
	return dst
}

// Extras is what may stand between the header and the message of a response.
type Extras struct {
	Traced    bool     // send TracingID
	TracingID [16]byte // the session's time uuid

	Warnings []string       // dropped on v3, which cannot carry them
	Payload  []PayloadEntry // custom payload; dropped on v3
}

// BeginResponse is BeginFrame for a response that may carry extras: it sets the header flags and
// appends the tracing id, warnings and payload, in that order. extras may be nil.
func BeginResponse(dst []byte, v Version, op Opcode, stream int16, extras *Extras) (out []byte, mark int) {
	dst, mark = BeginFrame(dst, v, op, stream, 0)
	if extras == nil {
		return dst, mark
	}
	var flags byte
	if extras.Traced {
		flags |= FlagTracing
		dst = append(dst, extras.TracingID[:]...)
	}
	if len(extras.Warnings) > 0 && v >= V4 {
		flags |= FlagWarning
		dst = AppendStringList(dst, extras.Warnings)
	}
	if len(extras.Payload) > 0 && v >= V4 {
		flags |= FlagCustomPayload
		dst = appendPayload(dst, extras.Payload)
	}
	dst[mark+1] = flags
	return dst, mark
}

// SplitRequest returns the message of a request and the custom payload before it, nil without
// one. Payload values alias body. Error: *Error.
func SplitRequest(h Header, body []byte) (payload []PayloadEntry, message []byte, err error) {
	if h.Flags&FlagCustomPayload == 0 {
		return nil, body, nil
	}
	if h.Version < V4 {
		return nil, nil, protocolErr("Received frame with CUSTOM_PAYLOAD flag for native protocol version < 4")
	}
	c := cursor{rest: body}
	payload = c.payload()
	return payload, c.rest, c.error()
}

// SplitResponse returns the message of a response and the extras before it. Payload values alias
// body. Error: *Error.
func SplitResponse(h Header, body []byte) (extras Extras, message []byte, err error) {
	c := cursor{rest: body}
	if h.Flags&FlagTracing != 0 {
		extras.Traced = true
		copy(extras.TracingID[:], c.take(16, "a tracing id"))
	}
	if h.Flags&FlagWarning != 0 {
		extras.Warnings = c.stringList()
	}
	if h.Flags&FlagCustomPayload != 0 {
		extras.Payload = c.payload()
	}
	return extras, c.rest, c.error()
}
