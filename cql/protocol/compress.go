package protocol

import (
	"encoding/binary"
	"slices"

	"github.com/klauspost/compress/snappy"
	"github.com/pierrec/lz4/v4"
)

// Compression is what STARTUP agreed on. Before v5 it applies to the bodies of envelopes, one by
// one as their flag 0x01 says; in v5 to segments, and then only LZ4 is possible.
type Compression uint8

// The compressions.
const (
	NoCompression Compression = iota
	LZ4
	Snappy
)

// String returns the name on the wire, "" for none.
func (c Compression) String() string {
	switch c {
	case LZ4:
		return "lz4"
	case Snappy:
		return "snappy"
	}
	return ""
}

const (
	// compressMin is the size in bytes below which nothing is compressed: it would hardly shrink.
	compressMin = 64

	// lz4RatioMax and snappyRatioMax are the most that one compressed byte can stand for. A
	// declared size beyond it is a lie, and is refused before memory is taken for it.
	lz4RatioMax    = 255
	snappyRatioMax = 22
)

// AppendCompressed appends src in the form of a compressed v3 or v4 body: for LZ4 the size of src
// in 4 bytes and an LZ4 block, for Snappy a Snappy block. c is not NoCompression.
func AppendCompressed(dst, src []byte, c Compression) []byte {
	if c == Snappy {
		n := len(dst)
		dst = slices.Grow(dst, snappy.MaxEncodedLen(len(src)))
		out := snappy.Encode(dst[n:cap(dst)], src)
		return dst[:n+len(out)]
	}
	dst = appendI32(dst, len(src))
	if len(src) == 0 {
		return append(dst, 0) // the block of nothing: one token without literals
	}
	return appendLZ4(dst, src)
}

func appendLZ4(dst, src []byte) []byte {
	n := len(dst)
	dst = slices.Grow(dst, lz4.CompressBlockBound(len(src)))
	size, err := lz4.CompressBlock(src, dst[n:cap(dst)], nil)
	if err != nil || size == 0 {
		// With a destination of the bound both are impossible.
		panic("protocol: LZ4 block did not fit its bound")
	}
	return dst[:n+size]
}

// AppendDecompressed appends what the compressed v3 or v4 body src stands for, which is at most max
// bytes long. Declared sizes that are negative, above max or more than src can expand to are
// errors before any memory is taken; so are bytes that are missing or left over. Error: *Error;
// dst is then returned as it was.
func AppendDecompressed(dst, src []byte, c Compression, max int) ([]byte, error) {
	size, err := decompressedLen(src, c, max)
	if err != nil {
		return dst, err
	}
	n := len(dst)
	dst = slices.Grow(dst, size)
	if err := decompress(dst[n:n+size], src, c); err != nil {
		return dst[:n], err
	}
	return dst[:n+size], nil
}

// decompressedLen returns the size that a compressed v3 or v4 body declares, once it is plausible.
func decompressedLen(src []byte, c Compression, max int) (int, *Error) {
	n, ratio := -1, lz4RatioMax
	if c == Snappy {
		ratio = snappyRatioMax
		if size, err := snappy.DecodedLen(src); err == nil {
			n = size
		}
	} else if len(src) >= 4 {
		n = int(int32(binary.BigEndian.Uint32(src)))
	}
	if n < 0 || n > max || n > ratio*len(src) {
		return 0, compressionErr(c)
	}
	return n, nil
}

// decompress fills dst, whose length is what decompressedLen returned.
func decompress(dst, src []byte, c Compression) *Error {
	if c != Snappy {
		return uncompressLZ4(dst, src[4:])
	}
	out, err := snappy.Decode(dst, src)
	if err != nil || len(out) != len(dst) {
		return compressionErr(c)
	}
	return nil
}

func uncompressLZ4(dst, block []byte) *Error {
	if len(dst) == 0 {
		if len(block) == 0 || len(block) == 1 && block[0] == 0 {
			return nil
		}
		return compressionErr(LZ4)
	}
	n, err := lz4.UncompressBlock(block, dst)
	if err != nil || n != len(dst) {
		return compressionErr(LZ4)
	}
	return nil
}

func compressionErr(c Compression) *Error {
	if c == Snappy {
		return protocolErr("Provided frame does not appear to be Snappy compressed")
	}
	return protocolErr("Compressed lengths mismatch")
}

// EndFrameCompressed is EndFrame for a v3 or v4 connection with compression: it replaces the body
// by its compressed form and sets the flag, unless that would not be smaller.
func EndFrameCompressed(dst []byte, mark int, c Compression) []byte {
	start, end := mark+HeaderLen, len(dst)
	if c == NoCompression || end-start < compressMin {
		return EndFrame(dst, mark)
	}
	dst = AppendCompressed(dst, dst[start:end], c)
	if size := len(dst) - end; size < end-start {
		copy(dst[start:], dst[end:])
		dst[mark+1] |= FlagCompressed
		end = start + size
	}
	return EndFrame(dst[:end], mark)
}
