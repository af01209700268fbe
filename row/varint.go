package row

import "encoding/binary"

// uvarint decodes a minimal LEB128 number at b[p:]. It returns the position after it, or -1 for bytes that end early, do
// not fit 64 bits or are longer than they need to be: one number has one encoding.
func uvarint(b []byte, p int) (uint64, int) {
	if p < len(b) && b[p] < 0x80 {
		return uint64(b[p]), p + 1
	}
	return uvarintLong(b, p)
}

func uvarintLong(b []byte, p int) (uint64, int) {
	if p > len(b) {
		return 0, -1
	}
	v, n := binary.Uvarint(b[p:])
	if n <= 0 || n > 1 && b[p+n-1] == 0 {
		return 0, -1
	}
	return v, p + n
}

// varint decodes a zigzag number.
func varint(b []byte, p int) (int64, int) {
	u, p := uvarint(b, p)
	return int64(u>>1) ^ -int64(u&1), p
}

func appendUvarint(dst []byte, v uint64) []byte {
	if v < 0x80 {
		return append(dst, byte(v))
	}
	return binary.AppendUvarint(dst, v)
}

func appendVarint(dst []byte, v int64) []byte {
	return appendUvarint(dst, uint64(v)<<1^uint64(v>>63))
}

// byteString decodes a length and that many bytes, aliasing b. Position -1 says that b is too short.
func byteString(b []byte, p int) ([]byte, int) {
	n, p := uvarint(b, p)
	if p < 0 || n > uint64(len(b)-p) {
		return nil, -1
	}
	end := p + int(n)
	return b[p:end:end], end
}

func appendByteString(dst, v []byte) []byte {
	return append(appendUvarint(dst, uint64(len(v))), v...)
}

// bound decodes what appendBound wrote: bytes that may be nil, which is not the same as empty.
func bound(b []byte, p int) ([]byte, int) {
	n, p := uvarint(b, p)
	if p < 0 || n == 0 {
		return nil, p
	}
	n--
	if n > uint64(len(b)-p) {
		return nil, -1
	}
	end := p + int(n)
	return b[p:end:end], end
}

func appendBound(dst, v []byte) []byte {
	if v == nil {
		return append(dst, 0)
	}
	return append(appendUvarint(dst, uint64(len(v))+1), v...)
}
