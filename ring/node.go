package ring

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// HostID is the identity of a node, chosen once and durable before its first use. It never changes with the address.
type HostID [16]byte

// String returns the id in the usual UUID form, lower case.
func (h HostID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], h[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], h[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], h[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], h[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], h[10:16])
	return string(b[:])
}

// ParseHostID is the inverse of String; upper case digits are accepted too, other UUID notations are not.
func ParseHostID(s string) (h HostID, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return h, fmt.Errorf("ring: %q is not a host id", s)
	}
	digits := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(h[:], []byte(digits)); err != nil {
		return HostID{}, fmt.Errorf("ring: %q is not a host id", s)
	}
	return h, nil
}

// Compare returns -1, 0 or +1 in the order of the bytes.
func (h HostID) Compare(o HostID) int { return bytes.Compare(h[:], o[:]) }

// IsZero tells whether the id was never set.
func (h HostID) IsZero() bool { return h == HostID{} }

// Node is a member of the ring: where it stands and which tokens it owns. A node without tokens coordinates only and is
// no replica of anything. Tokens need not be sorted; they belong to the caller until the node is given to New, which
// copies them.
type Node struct {
	ID     HostID
	DC     string
	Rack   string
	Tokens []Token
}
