package ring

import (
	"fmt"
	"math"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Token is a position on the ring, a signed 64-bit number as in Cassandra's Murmur3Partitioner.
type Token int64

// MinToken is the smallest position. No non-empty key has it; as the end of a Range it means "to the end of the ring".
const MinToken Token = math.MinInt64

// MaxToken is the largest position.
const MaxToken Token = math.MaxInt64

// String returns the token in decimal, as system.local and system.peers show it.
func (t Token) String() string { return strconv.FormatInt(int64(t), 10) }

// ParseToken is the inverse of Token.String. It returns an error for anything that is not a signed 64-bit number.
func ParseToken(s string) (Token, error) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("ring: token %q is not a signed 64-bit number", s)
	}
	return Token(v), nil
}

// Partitioner maps a serialized partition key to its token. Implementations are stateless values, safe for concurrent
// use.
type Partitioner interface {
	// Name is the class name that system.local.partitioner shows and that drivers match.
	Name() string
	// Token returns the position of key; it does not keep or change key and does not allocate.
	Token(key []byte) Token
}

// Names of the partitioners as stored in the cluster metadata and shown to drivers.
const (
	Murmur3Name = "org.apache.cassandra.dht.Murmur3Partitioner"
	XXHashName  = "org.helenusdb.dht.XXHashPartitioner"
)

// Murmur3 is Cassandra's Murmur3Partitioner, the default: drivers compute the same token and go straight to a replica.
type Murmur3 struct{}

// Name implements Partitioner.
func (Murmur3) Name() string { return Murmur3Name }

// Token implements Partitioner: the first half of Murmur3Hash with MinInt64 moved to MaxInt64, and MinToken for the
// empty key.
func (Murmur3) Token(key []byte) Token {
	if len(key) == 0 {
		return MinToken
	}
	h1, _ := Murmur3Hash(key)
	return normalize(uint64(h1))
}

// XXHash places keys by xxHash64. It is faster than Murmur3 but no driver knows it, so that requests are routed by the
// coordinator.
type XXHash struct{}

// Name implements Partitioner.
func (XXHash) Name() string { return XXHashName }

// Token implements Partitioner with the same two exceptions as Murmur3.
func (XXHash) Token(key []byte) Token {
	if len(key) == 0 {
		return MinToken
	}
	return normalize(xxhash.Sum64(key))
}

func normalize(h uint64) Token {
	if Token(h) == MinToken {
		return MaxToken
	}
	return Token(h)
}

// PartitionerByName returns the partitioner with that full class name, or with the last part of it alone
// ("Murmur3Partitioner"), as cassandra.yaml accepts it. False for any other name.
func PartitionerByName(name string) (Partitioner, bool) {
	switch name {
	case Murmur3Name, "Murmur3Partitioner":
		return Murmur3{}, true
	case XXHashName, "XXHashPartitioner":
		return XXHash{}, true
	}
	return nil, false
}
