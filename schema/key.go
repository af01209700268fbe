package schema

import (
	"errors"
	"fmt"

	"github.com/helenusdb/helenus/ring"
)

// KeyLenMax is the largest partition key in bytes: the format holds its length in 16 bits.
const KeyLenMax = 65535

// ErrKey is matched by every error about bytes that are not a key of the table.
var ErrKey = errors.New("schema: malformed key")

// PartitionKeyOf appends the partition key made of components, one per partition key column in order: a single
// component as it is, several in Cassandra's composite format. Components are at most KeyLenMax bytes long.
func (t *Table) PartitionKeyOf(dst []byte, components [][]byte) []byte {
	return ring.AppendCompositeKey(dst, components)
}

// SplitPartitionKey is the inverse of PartitionKeyOf: it appends the components to dst. They alias key. The error
// matches ErrKey.
func (t *Table) SplitPartitionKey(key []byte, dst [][]byte) ([][]byte, error) {
	if len(t.PartitionKey) == 1 {
		return append(dst, key), nil
	}
	dst, err := ring.SplitCompositeKey(dst, key, len(t.PartitionKey))
	if err != nil {
		return nil, fmt.Errorf("%w: partition key of %s.%s: %w", ErrKey, t.Keyspace, t.Name, err)
	}
	return dst, nil
}

// ValidatePartitionKey returns an error unless key is a partition key of the table: neither empty nor longer than
// KeyLenMax, and each component a value of its column's type. The error matches ErrKey.
func (t *Table) ValidatePartitionKey(key []byte) error {
	if len(key) == 0 || len(key) > KeyLenMax {
		return fmt.Errorf("%w: partition key of %s.%s has %d bytes, allowed are 1 to %d", ErrKey, t.Keyspace, t.Name, len(key), KeyLenMax)
	}
	var room [8][]byte
	components, err := t.SplitPartitionKey(key, room[:0])
	if err != nil {
		return err
	}
	for i, c := range t.PartitionKey {
		if err := c.Type.Validate(components[i]); err != nil {
			return fmt.Errorf("%w: partition key column %s: %w", ErrKey, c.Name, err)
		}
	}
	return nil
}

// AppendClusteringKey appends the order-preserving clustering key made of values, the first len(values) clustering
// columns' in order. The bytes of two keys compare as the rows sort. It does not allocate beyond dst.
func (t *Table) AppendClusteringKey(dst []byte, values [][]byte) []byte {
	for i, v := range values {
		c := t.Clustering[i]
		dst = c.Type.AppendKey(dst, v, c.Desc)
	}
	return dst
}

// SplitClusteringKey is the inverse of AppendClusteringKey, for a full key or a prefix of whole components: it appends
// the canonical values to dst. The error matches ErrKey.
func (t *Table) SplitClusteringKey(key []byte, dst [][]byte) ([][]byte, error) {
	for i := 0; len(key) > 0; i++ {
		if i == len(t.Clustering) {
			return nil, fmt.Errorf("%w: %d bytes after the clustering key of %s.%s", ErrKey, len(key), t.Keyspace, t.Name)
		}
		c := t.Clustering[i]
		v, rest, err := c.Type.DecodeKey(key, c.Desc)
		if err != nil {
			return nil, fmt.Errorf("%w: clustering column %s: %w", ErrKey, c.Name, err)
		}
		dst, key = append(dst, v), rest
	}
	return dst, nil
}
