package protocol

import "encoding/binary"

// A v5 segment (which the specification calls frame) is a checksummed container of envelopes:
//
//	| header (3, or 5 with LZ4) | CRC-24 (3) | payload | CRC-32 (4) |
//
// The header is little-endian: 17 bits of payload length, with LZ4 another 17 of its length
// before compression (0: not compressed), and a bit that says self-contained.
const (
	segmentLenMask = 1<<17 - 1
	segmentCRCLen  = 3
	segmentTrailer = 4
)

// segmentHeader is a decoded segment header.
type segmentHeader struct {
	payload       int // bytes on the wire
	uncompressed  int // 0: the payload is plain
	selfContained bool
}

// segmentHeaderLen returns the size of a header without its checksum.
func segmentHeaderLen(c Compression) int {
	if c == LZ4 {
		return 5
	}
	return 3
}

// decodeSegmentHeader decodes a header of n bytes, whose checksum has been verified.
func decodeSegmentHeader(src []byte, n int) segmentHeader {
	var bits uint64
	for i := range n {
		bits |= uint64(src[i]) << (8 * i)
	}
	h := segmentHeader{payload: int(bits & segmentLenMask)}
	bits >>= 17
	if n == 5 {
		h.uncompressed = int(bits & segmentLenMask)
		bits >>= 17
	}
	h.selfContained = bits&1 != 0
	return h
}

// putSegmentHeader writes h and its checksum to the front of dst.
func putSegmentHeader(dst []byte, n int, h segmentHeader) {
	bits, shift := uint64(h.payload), 17
	if n == 5 {
		bits |= uint64(h.uncompressed) << shift
		shift += 17
	}
	if h.selfContained {
		bits |= 1 << shift
	}
	for i := range n {
		dst[i] = byte(bits >> (8 * i))
	}
	crc := crc24(dst[:n])
	dst[n], dst[n+1], dst[n+2] = byte(crc), byte(crc>>8), byte(crc>>16)
}

// AppendSegments appends the segments that carry envelopes on a v5 connection. envelopes holds
// one or more whole envelopes, back to back; as many as fit share a self-contained segment, and
// one that is larger than a segment spans several. c is NoCompression or LZ4. It allocates nothing
// but room in dst.
func AppendSegments(dst, envelopes []byte, c Compression) []byte {
	for len(envelopes) > 0 {
		n, large := packEnvelopes(envelopes)
		for batch := envelopes[:n]; len(batch) > 0; {
			size := min(len(batch), SegmentPayloadMax)
			dst = appendSegment(dst, batch[:size], !large, c)
			batch = batch[size:]
		}
		envelopes = envelopes[n:]
	}
	return dst
}

// packEnvelopes returns the length of the envelopes that go together: one that is too large for a
// segment, or as many as fit into one.
func packEnvelopes(src []byte) (n int, large bool) {
	for n < len(src) {
		h, rest, err := DecodeHeader(src[n:])
		if err != nil || h.Length > len(rest) {
			panic("protocol: AppendSegments: the last envelope is not complete")
		}
		size := HeaderLen + h.Length
		switch {
		case size > SegmentPayloadMax && n == 0:
			return size, true
		case n+size > SegmentPayloadMax:
			return n, false
		}
		n += size
	}
	return n, false
}

func appendSegment(dst, payload []byte, selfContained bool, c Compression) []byte {
	n := segmentHeaderLen(c)
	start := len(dst)
	at := start + n + segmentCRCLen
	dst = append(dst, make([]byte, n+segmentCRCLen)...)
	h := segmentHeader{payload: len(payload), selfContained: selfContained}
	if c == LZ4 && len(payload) >= compressMin {
		dst = appendLZ4(dst, payload)
		h.payload, h.uncompressed = len(dst)-at, len(payload)
	}
	if h.uncompressed == 0 || h.payload >= len(payload) {
		dst = append(dst[:at], payload...)
		h.payload, h.uncompressed = len(payload), 0
	}
	putSegmentHeader(dst[start:], n, h)
	return binary.LittleEndian.AppendUint32(dst, payloadCRC(dst[at:]))
}
