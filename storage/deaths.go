package storage

import (
	"encoding/binary"

	"github.com/helenusdb/helenus/row"
)

// The death index says when which row or marker may lose something to a purge. A write of a value that can die adds an entry in the
// same batch:
//
//	'D' | generation u32 | kind u8 | bucket u32 | the key from its token on     value: empty
//
// Invariant: for everything mortal in the merged value of a key there is an entry of its kind with a bucket not after it. A purge
// replaces the entry it came from by those of what it leaves, under the stripe held exclusively.
//
// Pebble's block properties cannot do this: a collector is never shown the value of a SET, and a SET is what every merge becomes
// at the bottom of the store, and what fold and purge write.
const (
	deathDeleted byte = 1 // a tombstone in a row: the time is when it was made
	deathExpiry  byte = 2 // an expiring cell or liveness: the time is when it expires
	deathMarker  byte = 3 // a partition deletion or range tombstone: when it was made
)

// deathBucketSeconds: entries of one key within it are one entry.
const deathBucketSeconds = 1024

const deathKeyOffset = 1 + 4 + 1 + 4 // where the row key's token begins

// deathBucket of a time in seconds since the epoch; what is before 1970 is in the first one, the far future in the last.
func deathBucket(seconds int64) uint32 {
	return uint32(min(max(seconds, 0)/deathBucketSeconds, 1<<32-1))
}

// appendDeath appends the entry for a row or marker key.
func appendDeath(dst []byte, kind byte, seconds int64, key []byte) []byte {
	dst = append(dst, spaceDeaths)
	dst = append(dst, key[1:tokenOffset]...)
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint32(dst, deathBucket(seconds))
	return append(dst, key[tokenOffset:]...)
}

// appendDeathKey appends the row or marker key that an entry is about. False: the entry is malformed.
func appendDeathKey(dst, death []byte) ([]byte, bool) {
	if len(death) < deathKeyOffset+8 {
		return dst, false
	}
	space := spaceRows
	if death[tokenOffset] == deathMarker {
		space = spaceMarkers
	}
	dst = append(dst, space)
	dst = append(dst, death[1:tokenOffset]...)
	return append(dst, death[deathKeyOffset:]...), true
}

// mortality finds the earliest deaths in a value.
type mortality struct {
	deleted, expiry int64 // the earliest; noDeath: none
	rows            row.Reader
	frag            row.FragmentReader
}

const noDeath = int64(1<<63 - 1)

// row looks at a row. A malformed one has no deaths that could be found: reading it tells.
func (m *mortality) row(value []byte) {
	m.deleted, m.expiry = noDeath, noDeath
	if len(value) == 0 || !row.Mortal(value) {
		return
	}
	r := &m.rows
	if r.Init(value) != nil {
		return
	}
	if l := r.Liveness(); !l.Empty() && l.TTL != 0 {
		m.expiry = min(m.expiry, l.Expiry)
	}
	m.deletion(r.Deletion())
	for r.Next() {
		if !r.Complex {
			m.cell(&r.Cell)
			continue
		}
		m.deletion(r.ComplexDeletion)
		for r.NextElement() {
			m.cell(&r.Cell)
		}
	}
}

func (m *mortality) deletion(d row.Deletion) {
	if !d.Live() {
		m.deleted = min(m.deleted, d.LocalTime)
	}
}

func (m *mortality) cell(c *row.Cell) {
	if c.Tombstone {
		m.deleted = min(m.deleted, c.LocalTime())
	} else if c.TTL != 0 {
		m.expiry = min(m.expiry, c.Expiry)
	}
}

// markers looks at a partition's markers.
func (m *mortality) markers(value []byte) {
	m.deleted, m.expiry = noDeath, noDeath
	f := &m.frag
	if len(value) == 0 || f.Init(value) != nil {
		return
	}
	m.deletion(f.PartitionDeletion())
	var rt row.RangeTombstone
	for f.NextRange(&rt) {
		m.deletion(rt.Deletion)
	}
}

// each calls f with the kind and time of each entry that a value of key needs.
func (m *mortality) each(key, value []byte, f func(kind byte, seconds int64)) {
	if key[0] == spaceMarkers {
		m.markers(value)
		if m.deleted != noDeath {
			f(deathMarker, m.deleted)
		}
		return
	}
	m.row(value)
	if m.deleted != noDeath {
		f(deathDeleted, m.deleted)
	}
	if m.expiry != noDeath {
		f(deathExpiry, m.expiry)
	}
}
