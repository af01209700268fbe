package history

import (
	"encoding/binary"
	"errors"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// docs/format/storage-keys.md draws what is stored.
const (
	keyPrefix   = "repaired"
	keyLen      = len(keyPrefix) + 4 + 8
	valueMark   = 1         // the version
	valueHead   = 1 + 3*8   // before the replicas
	replicasMax = 1<<16 - 1 // of an entry
	idLen       = 16
)

// errMalformed is returned for bytes that are no record of this version.
var errMalformed = errors.New("history: malformed record")

func ordered(t ring.Token) uint64 { return uint64(t) ^ 1<<63 }

func token(o uint64) ring.Token { return ring.Token(o ^ 1<<63) }

// AppendKey appends the key of the entry of a table that begins at a token.
func AppendKey(dst []byte, gen schema.Generation, first ring.Token) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, keyPrefix...), uint32(gen))
	return binary.BigEndian.AppendUint64(dst, ordered(first))
}

// Bounds returns what the keys of all records lie between, end excluded.
func Bounds() (start, end []byte) {
	end = []byte(keyPrefix)
	end[len(end)-1]++
	return []byte(keyPrefix), end
}

// AppendValue appends what is stored of an entry.
func AppendValue(dst []byte, e *Entry) []byte {
	dst = append(dst, valueMark)
	for _, v := range []uint64{ordered(e.Tokens.Last), uint64(e.At), uint64(e.Before)} {
		dst = binary.BigEndian.AppendUint64(dst, v)
	}
	for _, id := range e.Replicas {
		dst = append(dst, id[:]...)
	}
	return dst
}

// DecodeRecord returns the entry of a key and its value.
func DecodeRecord(key, value []byte) (gen schema.Generation, e Entry, err error) {
	if len(key) != keyLen || string(key[:len(keyPrefix)]) != keyPrefix || len(value) < valueHead || value[0] != valueMark ||
		(len(value)-valueHead)%idLen != 0 || (len(value)-valueHead)/idLen > replicasMax {
		return 0, e, errMalformed
	}
	gen = schema.Generation(binary.BigEndian.Uint32(key[len(keyPrefix):]))
	u64 := func(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
	e.Tokens = ring.Interval{First: token(u64(key[keyLen-8:])), Last: token(u64(value[1:]))}
	e.At, e.Before = int64(u64(value[9:])), int64(u64(value[17:]))
	for rest := value[valueHead:]; len(rest) > 0; rest = rest[idLen:] {
		e.Replicas = append(e.Replicas, ring.HostID(rest[:idLen]))
	}
	if e.Tokens.First > e.Tokens.Last || !ascending(e.Replicas) {
		return 0, e, errMalformed
	}
	return gen, e, nil
}

func ascending(ids []ring.HostID) bool {
	for i := 1; i < len(ids); i++ {
		if ids[i-1].Compare(ids[i]) >= 0 {
			return false
		}
	}
	return true
}
