package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// Key layout (docs/format/storage-keys.md). The first byte is the space; everything after it belongs to the space.
const (
	spaceMarkers byte = 'M' // partition deletions and range tombstones, one key per partition
	spaceRows    byte = 'R' // static rows and rows
	spaceDeaths  byte = 'D' // when which of them may lose something to a purge (deaths.go)
	spaceEngine  byte = 'Y' // the engine's own records: beats, truncations
)

// Kinds of a row key, the byte after the partition prefix.
const (
	kindStatic byte = 0x10
	kindRow    byte = 0x20
)

const (
	tokenOffset     = 1 + 4           // space, generation
	partitionOffset = tokenOffset + 8 // and token
	partitionEnd    = 0x01            // after 0x00: end of the escaped partition key
	partitionEscape = 0xFF            // after 0x00: the key itself has a 0x00 here
)

// keysBytesMax bounds one Pebble key: an escaped partition key of 65535 zero bytes and a clustering key of the same length.
const keysBytesMax = partitionOffset + 4*ring.ComponentBytesMax + 16

func appendGeneration(dst []byte, space byte, gen schema.Generation) []byte {
	dst = append(dst, space)
	return binary.BigEndian.AppendUint32(dst, uint32(gen))
}

func appendToken(dst []byte, space byte, gen schema.Generation, token ring.Token) []byte {
	dst = appendGeneration(dst, space, gen)
	return binary.BigEndian.AppendUint64(dst, uint64(token)^(1<<63))
}

// appendPartition appends the prefix that all keys of one partition share. It is self-delimiting: no prefix is the beginning
// of another one's.
func appendPartition(dst []byte, space byte, gen schema.Generation, token ring.Token, key []byte) []byte {
	dst = appendToken(dst, space, gen, token)
	for {
		i := bytes.IndexByte(key, 0)
		if i < 0 {
			break
		}
		dst = append(dst, key[:i]...)
		dst = append(dst, 0, partitionEscape)
		key = key[i+1:]
	}
	dst = append(dst, key...)
	return append(dst, 0, partitionEnd)
}

// partitionKey is a decoded partition prefix.
type partitionKey struct {
	generation schema.Generation
	token      ring.Token
	key        []byte // unescaped; the buffer given to decodePartition
}

// decodePartition returns the partition that a key of the row or marker space belongs to and the length of its prefix. The
// partition key is unescaped into buf[:0].
func decodePartition(buf, key []byte) (p partitionKey, n int, err error) {
	if len(key) < partitionOffset {
		return p, 0, fmt.Errorf("storage: key %x: %w", key, errBadKey)
	}
	p.generation = schema.Generation(binary.BigEndian.Uint32(key[1:]))
	p.token = ring.Token(binary.BigEndian.Uint64(key[tokenOffset:]) ^ (1 << 63))
	p.key = buf[:0]
	rest := key[partitionOffset:]
	for {
		i := bytes.IndexByte(rest, 0)
		if i < 0 || i+1 >= len(rest) {
			return p, 0, fmt.Errorf("storage: key %x: %w", key, errBadKey)
		}
		p.key = append(p.key, rest[:i]...)
		mark := rest[i+1]
		rest = rest[i+2:]
		if mark == partitionEnd {
			return p, len(key) - len(rest), nil
		}
		if mark != partitionEscape {
			return p, 0, fmt.Errorf("storage: key %x: %w", key, errBadKey)
		}
		p.key = append(p.key, 0)
	}
}

// split returns the length of the partition prefix of a row or marker key; for keys of other spaces and for bounds that end
// inside a partition prefix it is the whole length. Bloom filters are built on it.
func split(key []byte) int {
	if len(key) < partitionOffset || (key[0] != spaceRows && key[0] != spaceMarkers) {
		return len(key)
	}
	at := partitionOffset
	for {
		i := bytes.IndexByte(key[at:], 0)
		if i < 0 || at+i+1 >= len(key) {
			return len(key)
		}
		at += i + 2
		if key[at-1] == partitionEnd {
			return at
		}
	}
}

// prefixSuccessor returns the smallest byte string above every key that starts with prefix: prefix ends with a byte below 0xFF.
func prefixSuccessor(dst, prefix []byte) []byte {
	dst = append(dst, prefix...)
	for i := len(dst) - 1; i >= 0; i-- {
		if dst[i] != 0xFF {
			dst[i]++
			return dst[:i+1]
		}
	}
	panic("storage: a prefix of 0xFF bytes only has no successor")
}

func immediateSuccessor(dst, prefix []byte) []byte {
	if len(prefix) > partitionOffset && (prefix[0] == spaceRows || prefix[0] == spaceMarkers) {
		return prefixSuccessor(dst, prefix)
	}
	return append(append(dst, prefix...), 0)
}

// newComparer returns Pebble's view of the keys: plain byte order, cut at the partition boundary.
func newComparer() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Split = split
	c.ImmediateSuccessor = immediateSuccessor
	c.Name = "helenus.keys.v1"
	return &c
}

// partitionHash spreads a partition over stripes and marker filters. Tokens of the Murmur3 partitioner are uniform already;
// those of an ordered one are not.
func partitionHash(gen schema.Generation, token ring.Token) uint64 {
	h := (uint64(token) ^ uint64(gen)<<32 ^ uint64(gen)) * 0x9E3779B97F4A7C15
	return h ^ h>>29
}

// generationOf and tokenOf read a row or marker key of at least partitionOffset bytes.
func generationOf(key []byte) schema.Generation {
	return schema.Generation(binary.BigEndian.Uint32(key[1:]))
}

func tokenOf(key []byte) ring.Token {
	return ring.Token(binary.BigEndian.Uint64(key[tokenOffset:]) ^ (1 << 63))
}
