package ring

import (
	"encoding/binary"
	"math/bits"
)

const (
	murmurC1 = 0x87c37b91114253d5
	murmurC2 = 0x4cf5ad432745937f
)

// Murmur3Hash returns both halves of MurmurHash3_x64_128 with seed 0 in Cassandra's variant: the bytes of the tail
// (what is left after the 16-byte blocks) are sign-extended before they are shifted in, so keys with bytes >= 0x80
// there hash differently from the published function. Every driver copies this. It does not allocate.
func Murmur3Hash(key []byte) (h1, h2 int64) {
	var a, b uint64
	tail := key
	for len(tail) >= 16 {
		k1 := binary.LittleEndian.Uint64(tail)
		k2 := binary.LittleEndian.Uint64(tail[8:])
		a ^= mixK1(k1)
		a = bits.RotateLeft64(a, 27) + b
		a = a*5 + 0x52dce729
		b ^= mixK2(k2)
		b = bits.RotateLeft64(b, 31) + a
		b = b*5 + 0x38495ab5
		tail = tail[16:]
	}
	if len(tail) > 8 {
		b ^= mixK2(signedTail(tail[8:]))
		tail = tail[:8]
	}
	if len(tail) > 0 {
		a ^= mixK1(signedTail(tail))
	}
	n := uint64(len(key))
	a ^= n
	b ^= n
	a += b
	b += a
	a = fmix(a)
	b = fmix(b)
	a += b
	b += a
	return int64(a), int64(b)
}

// signedTail folds at most 8 bytes, little endian, each one sign-extended to 64 bits: Cassandra's deviation.
func signedTail(p []byte) (k uint64) {
	for i, c := range p {
		k ^= uint64(int64(int8(c))) << (8 * i)
	}
	return k
}

func mixK1(k uint64) uint64 { return bits.RotateLeft64(k*murmurC1, 31) * murmurC2 }

func mixK2(k uint64) uint64 { return bits.RotateLeft64(k*murmurC2, 33) * murmurC1 }

func fmix(k uint64) uint64 {
	k ^= k >> 33
	k *= 0xff51afd7ed558ccd
	k ^= k >> 33
	k *= 0xc4ceb9fe1a85ec53
	k ^= k >> 33
	return k
}
