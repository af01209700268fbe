package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrKeyTooLong is returned for a partition key component that its 16-bit length cannot express.
var ErrKeyTooLong = errors.New("ring: partition key component is longer than 65535 bytes")

// ErrBadKey is returned for bytes that are no serialized partition key.
var ErrBadKey = errors.New("ring: malformed partition key")

// ComponentBytesMax is the longest partition key, and the longest component of one, as in Cassandra (unsigned short).
const ComponentBytesMax = 65535

// AppendCompositeKey appends the serialized partition key of components to dst, as Cassandra and its drivers hash it: a
// single component stands for itself, several are each written as [u16 length][bytes][0x00]. Each component must be at
// most ComponentBytesMax long (check with CheckKeyComponents); longer ones panic, because a truncated length would name
// another partition.
func AppendCompositeKey(dst []byte, components [][]byte) []byte {
	if len(components) == 1 {
		return append(dst, components[0]...)
	}
	for _, c := range components {
		if len(c) > ComponentBytesMax {
			panic(ErrKeyTooLong)
		}
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(c)))
		dst = append(dst, c...)
		dst = append(dst, 0)
	}
	return dst
}

// CheckKeyComponents returns ErrKeyTooLong if a component is longer than ComponentBytesMax.
func CheckKeyComponents(components [][]byte) error {
	for _, c := range components {
		if len(c) > ComponentBytesMax {
			return ErrKeyTooLong
		}
	}
	return nil
}

// SplitCompositeKey appends the n components of a serialized partition key to dst and returns it; they alias key. It is
// the inverse of AppendCompositeKey for n components. It returns ErrBadKey when key does not hold exactly n.
func SplitCompositeKey(dst [][]byte, key []byte, n int) ([][]byte, error) {
	if n == 1 {
		return append(dst, key), nil
	}
	for i := 0; i < n; i++ {
		if len(key) < 2 {
			return dst, fmt.Errorf("%w: component %d of %d is missing", ErrBadKey, i+1, n)
		}
		size := int(binary.BigEndian.Uint16(key))
		if len(key) < 2+size+1 {
			return dst, fmt.Errorf("%w: component %d of %d is cut short", ErrBadKey, i+1, n)
		}
		if key[2+size] != 0 {
			return dst, fmt.Errorf("%w: component %d of %d does not end with 0x00", ErrBadKey, i+1, n)
		}
		dst = append(dst, key[2:2+size:2+size])
		key = key[2+size+1:]
	}
	if len(key) != 0 {
		return dst, fmt.Errorf("%w: %d bytes after the last of %d components", ErrBadKey, len(key), n)
	}
	return dst, nil
}
