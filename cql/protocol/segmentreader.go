package protocol

import "encoding/binary"

// nextInSegments returns the next envelope of a v5 connection: one of the segment that is open, or
// of the next one, or one that spans several.
func (r *FrameReader) nextInSegments() (Frame, bool, *BadFrame) {
	for len(r.seg) == 0 {
		payload, selfContained, ok, bad := r.nextSegment()
		if !ok || bad != nil {
			return Frame{}, false, bad
		}
		if selfContained {
			r.seg, r.segErrors = payload, 0
			continue
		}
		f, ok, bad := r.addToLarge(payload)
		if ok || bad != nil {
			return f, ok, bad
		}
	}
	return r.nextInSegment()
}

func fatal(err *Error) *BadFrame { return &BadFrame{Err: err, Version: V5, Fatal: true} }

// nextSegment verifies and opens the next segment of the buffer.
func (r *FrameReader) nextSegment() (payload []byte, selfContained, ok bool, bad *BadFrame) {
	b := r.buf[r.r:r.w]
	n := segmentHeaderLen(r.compression)
	start := n + segmentCRCLen
	if len(b) < start {
		return nil, false, false, nil
	}
	sent := uint32(b[n]) | uint32(b[n+1])<<8 | uint32(b[n+2])<<16
	if crc := crc24(b[:n]); crc != sent {
		return nil, false, false, fatal(r.corrupt("header", sent, crc))
	}
	h := decodeSegmentHeader(b, n)
	end := start + h.payload
	if len(b) < end+segmentTrailer {
		return nil, false, false, nil
	}
	payload = b[start:end:end]
	sent = binary.LittleEndian.Uint32(b[end:])
	if crc := payloadCRC(payload); crc != sent {
		return nil, false, false, fatal(r.corrupt("body", sent, crc))
	}
	if h.uncompressed > 0 {
		if r.pause(h.uncompressed) {
			return nil, false, false, nil
		}
		out := r.allocate(h.uncompressed)
		if err := uncompressLZ4(out, payload); err != nil {
			return nil, false, false, fatal(err)
		}
		payload = out
	}
	r.r += end + segmentTrailer
	return payload, h.selfContained, true, nil
}

// corrupt says it as Cassandra does, checksums as signed numbers included.
func (r *FrameReader) corrupt(part string, read, computed uint32) *Error {
	return protocolErr("%s invalid, unrecoverable CRC mismatch detected in frame %s. Read %d, Computed %d",
		r.id, part, int32(read), int32(computed))
}

// nextInSegment returns the next envelope of the open self-contained segment.
func (r *FrameReader) nextInSegment() (Frame, bool, *BadFrame) {
	h, rest, err := DecodeHeader(r.seg)
	if err != nil {
		return Frame{}, false, fatal(protocolErr("Undersized buffer supplied. Expected %d, actual %d", HeaderLen, len(r.seg)))
	}
	if bad := r.negativeLength(h); bad != nil {
		return Frame{}, false, bad
	}
	if err := r.check(h); err != nil {
		r.seg = rest[min(h.Length, len(rest)):]
		r.segErrors++
		bad := r.bad(h, err)
		bad.Fatal = r.segErrors > consecutiveErrorsMax
		return Frame{}, false, bad
	}
	if h.Length > len(rest) {
		bad := fatal(protocolErr("Envelope body of %d bytes exceeds its self-contained segment, which has %d left", h.Length, len(rest)))
		bad.Stream = h.Stream
		return Frame{}, false, bad
	}
	r.segErrors = 0
	body := rest[:h.Length:h.Length]
	r.seg = rest[h.Length:]
	if h.Length > r.max {
		return Frame{}, false, r.bad(h, oversized(h.Length, r.max))
	}
	return Frame{h, body}, true, nil
}

// negativeLength refuses a length that is negative as an [int]: nothing after it can be found.
func (r *FrameReader) negativeLength(h Header) *BadFrame {
	if n := int32(uint32(h.Length)); n < 0 {
		bad := fatal(protocolErr("Invalid value for envelope header body length field: %d", n))
		bad.Stream = h.Stream
		return bad
	}
	return nil
}

func oversized(n, max int) *Error {
	return Errorf(CodeInvalid, "CQL Message of size %d bytes exceeds allowed maximum of %d bytes", n, max)
}

// addToLarge adds a segment to the envelope that spans several, or begins one. It returns the
// envelope when it is complete.
func (r *FrameReader) addToLarge(payload []byte) (Frame, bool, *BadFrame) {
	if r.largeSize == 0 {
		if bad := r.beginLarge(payload); bad != nil {
			return Frame{}, false, bad
		}
	}
	left := r.largeSize - len(r.large)
	if r.largeBad != nil {
		left = r.largeSize
	}
	if len(payload) > left {
		return Frame{}, false, fatal(protocolErr("Segments hold %d bytes more than their envelope", len(payload)-left))
	}
	if r.largeBad != nil {
		return r.skipLarge(len(payload))
	}
	r.large = append(r.large, payload...)
	if len(r.large) < r.largeSize {
		return Frame{}, false, nil
	}
	h, body, _ := DecodeHeader(r.large)
	r.large, r.largeSize = nil, 0
	return Frame{h, body}, true, nil
}

// skipLarge drops a part of an envelope that is too long; when all of it has come the client is
// told.
func (r *FrameReader) skipLarge(n int) (Frame, bool, *BadFrame) {
	r.largeSize -= n
	if r.largeSize > 0 {
		return Frame{}, false, nil
	}
	bad := r.largeBad
	r.largeBad = nil
	return Frame{}, false, bad
}

// beginLarge judges the header of an envelope that spans segments.
func (r *FrameReader) beginLarge(payload []byte) *BadFrame {
	h, _, err := DecodeHeader(payload)
	if err != nil {
		return fatal(protocolErr("Undersized buffer supplied. Expected %d, actual %d", HeaderLen, len(payload)))
	}
	if bad := r.negativeLength(h); bad != nil {
		return bad
	}
	if err := r.check(h); err != nil {
		bad := r.bad(h, err)
		bad.Fatal = true
		return bad
	}
	if !r.client && r.max <= PreStartupMax {
		return fatal(protocolErr("The connection is not yet in a valid state to process multi frame CQL Messages, "+
			"usually thismeans that authentication is still pending. type = %s, size = %d", h.Op, h.Length))
	}
	r.largeSize = HeaderLen + h.Length
	if h.Length > r.max {
		r.largeBad = r.bad(h, oversized(h.Length, r.max))
	}
	return nil
}

// refuseLarge is Refuse for the envelope that spans segments.
func (r *FrameReader) refuseLarge(err *Error) bool {
	if r.largeSize == 0 || r.largeBad != nil {
		return false
	}
	h, _, _ := DecodeHeader(r.large)
	r.largeBad = r.bad(h, err)
	r.largeSize -= len(r.large)
	r.large = nil
	return true
}
