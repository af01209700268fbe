package row

import (
	"errors"
	"math"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// NoTimestamp is the timestamp of what is absent: no deletion, no liveness. No write may carry it.
const NoTimestamp = math.MinInt64

// Errors of decoding. They are wrapped with what was being decoded; match them with errors.Is.
var (
	// ErrCorrupt is returned for bytes that are no row, fragment, page, command or position.
	ErrCorrupt = errors.New("malformed bytes")
	// ErrVersion is returned for bytes of a format that this version does not know.
	ErrVersion = errors.New("unknown format version")
	// ErrProjected is returned by ReconcilePages for pages that hold a selection of columns: see Command.Full.
	ErrProjected = errors.New("pages of selected columns cannot be reconciled")
)

// Deletion is a tombstone for everything in its extent (a row, a range, a partition, a collection) written at or before
// Timestamp. The absent deletion is Live().
type Deletion struct {
	Timestamp int64 // µs since the epoch; NoTimestamp: no deletion
	LocalTime int64 // seconds since the epoch, when it was made; gc_grace counts from here
}

// Live returns the deletion that deletes nothing.
func Live() Deletion { return Deletion{Timestamp: NoTimestamp} }

// Live reports whether d deletes nothing.
func (d Deletion) Live() bool { return d.Timestamp == NoTimestamp }

// Shadows reports whether d deletes what was written at ts.
func (d Deletion) Shadows(ts int64) bool { return ts <= d.Timestamp }

// Supersedes reports whether d wins over o: the larger timestamp, then the larger local time.
func (d Deletion) Supersedes(o Deletion) bool {
	if d.Timestamp != o.Timestamp {
		return d.Timestamp > o.Timestamp
	}
	return d.LocalTime > o.LocalTime
}

// Purgeable reports whether d is a deletion made before gcBefore (NoTimestamp: nothing is purgeable).
func (d Deletion) Purgeable(gcBefore int64) bool { return !d.Live() && d.LocalTime < gcBefore }

func maxDeletion(a, b Deletion) Deletion {
	if b.Supersedes(a) {
		return b
	}
	return a
}

// Liveness is the marker an INSERT leaves: the row exists even when all its columns are null. UPDATE writes none. The
// absent one is NoLiveness().
type Liveness struct {
	Timestamp int64 // µs since the epoch; NoTimestamp: none
	TTL       int32 // seconds; 0: does not expire
	Expiry    int64 // seconds since the epoch when it stops to be live; 0 when TTL is 0
}

// NoLiveness returns the liveness of a row that was never inserted.
func NoLiveness() Liveness { return Liveness{Timestamp: NoTimestamp} }

// Empty reports whether there is no liveness at all.
func (l Liveness) Empty() bool { return l.Timestamp == NoTimestamp }

// LiveAt reports whether l keeps its row alive at now (seconds since the epoch).
func (l Liveness) LiveAt(now int64) bool { return !l.Empty() && (l.TTL == 0 || now < l.Expiry) }

// Supersedes reports whether l wins over o: the larger timestamp; then expiring over not; then the later expiry; then
// the smaller TTL, which was written later.
func (l Liveness) Supersedes(o Liveness) bool {
	switch {
	case l.Timestamp != o.Timestamp:
		return l.Timestamp > o.Timestamp
	case (l.TTL != 0) != (o.TTL != 0):
		return l.TTL != 0
	case l.Expiry != o.Expiry:
		return l.Expiry > o.Expiry
	}
	return l.TTL < o.TTL
}

func maxLiveness(a, b Liveness) Liveness {
	if b.Supersedes(a) {
		return b
	}
	return a
}

// Cell is one value of a column, or one element of a collection or field of a UDT that is not frozen.
//
// Four kinds, told apart by TTL and Tombstone:
//
//	TTL == 0, !Tombstone  live: Value
//	TTL  > 0, !Tombstone  expiring: Value until Expiry
//	TTL == 0,  Tombstone  deleted: Expiry is the local time of the deletion
//	TTL  > 0,  Tombstone  expired: an expiring cell whose value was dropped after Expiry
//
// An expired cell keeps TTL and Expiry, so that reconciliation does not depend on who noticed the expiry first.
type Cell struct {
	Column    schema.ColumnID
	Path      []byte // empty: the column's one value; else the memcomparable bytes of the element's key
	Timestamp int64  // µs since the epoch
	TTL       int32  // seconds
	Expiry    int64  // seconds since the epoch; 0 for a live cell
	Tombstone bool
	Value     []byte // empty for tombstones
}

// LiveAt reports whether the cell has a value at now (seconds since the epoch).
func (c *Cell) LiveAt(now int64) bool { return !c.Tombstone && (c.TTL == 0 || now < c.Expiry) }

// LocalTime returns when the cell was deleted, in seconds since the epoch, for a tombstone: its Expiry, or for an expired
// cell the time it was written, as Cassandra counts it. gc_grace counts from here.
func (c *Cell) LocalTime() int64 { return c.Expiry - int64(c.TTL) }

// RangeTombstone deletes the rows at the positions [Start, End). Start empty: from the first; End nil: to the last.
type RangeTombstone struct {
	Start, End []byte
	Deletion
}

// Mutation is a write to one partition of one table.
type Mutation struct {
	Generation schema.Generation
	Token      ring.Token
	Key        []byte // the serialized partition key
	Fragment   []byte
}
