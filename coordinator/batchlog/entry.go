package batchlog

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/helenusdb/helenus/ring"
)

const (
	idLen      = 8 + 16 + 4 // µs since the epoch when the batch was begun, its coordinator, number
	valueHead  = 1 + 8      // version, µs since the epoch when the entry came
	valueMark  = 1          // the version
	removesMax = 1024       // ids in one request to remove
)

// EntryBytes is what an entry takes besides its mutations, on disk and in a message.
const EntryBytes = idLen + valueHead

// ErrCorrupt is returned for bytes that are no request and no entry.
var ErrCorrupt = errors.New("batchlog: malformed bytes")

// errNewer is returned for an entry that a newer version of this program has stored.
var errNewer = errors.New("batchlog: entry of a newer version")

// ID names a batch: in the order of its bytes, by the time at which its coordinator began it.
type ID [idLen]byte

// NewID returns the name of a batch that began at a time by its coordinator's clock. number tells batches of one µs apart,
// also those from before a restart.
func NewID(at time.Time, coordinator ring.HostID, number uint32) (id ID) {
	binary.BigEndian.PutUint64(id[:], uint64(at.UnixMicro()))
	copy(id[8:], coordinator[:])
	binary.BigEndian.PutUint32(id[24:], number)
	return id
}

// Time is when the batch began, by the clock of its coordinator.
func (id ID) Time() time.Time { return time.UnixMicro(id.micros()) }

func (id ID) micros() int64 { return int64(binary.BigEndian.Uint64(id[:])) }

// Coordinator is the node that began the batch.
func (id ID) Coordinator() ring.HostID { return ring.HostID(id[8:24]) }

// DecodeStore splits the body of a request to store: the id and, aliasing the body, the mutations, which it does not look
// into. A coordinator makes one by appending the mutations to the id.
func DecodeStore(body []byte) (id ID, mutations []byte, err error) {
	if len(body) <= idLen {
		return id, nil, ErrCorrupt
	}
	return ID(body[:idLen]), body[idLen:], nil
}

// DecodeRemove returns the ids that the body of a request to remove names, appended to room.
func DecodeRemove(room []ID, body []byte) ([]ID, error) {
	if len(body) == 0 || len(body)%idLen != 0 || len(body)/idLen > removesMax {
		return room, ErrCorrupt
	}
	for ; len(body) > 0; body = body[idLen:] {
		room = append(room, ID(body[:idLen]))
	}
	return room, nil
}

// AppendValue appends what is stored under an id: when the entry came here, by this node's clock, and the mutations.
func AppendValue(dst []byte, received time.Time, mutations []byte) []byte {
	dst = append(dst, valueMark)
	dst = binary.BigEndian.AppendUint64(dst, uint64(received.UnixMicro()))
	return append(dst, mutations...)
}

// decodeValue is the inverse; mutations alias the value.
func decodeValue(value []byte) (received time.Time, mutations []byte, err error) {
	switch {
	case len(value) > 0 && value[0] != valueMark:
		return received, nil, errNewer
	case len(value) <= valueHead:
		return received, nil, ErrCorrupt
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(value[1:]))), value[valueHead:], nil
}

// Entry is a batch that is kept here.
type Entry struct {
	ID        ID
	Mutations []byte
}
