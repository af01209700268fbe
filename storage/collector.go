package storage

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/helenusdb/helenus/row"
)

// Block properties tell purge where something may have died. Each is an interval of seconds since the epoch over a block, an index
// block or a table: of the local times of its tombstones, and of the times at which its cells expire. They are part of the table
// format: a changed meaning needs another name.
const (
	propertyDeleted = "helenus.deleted.v1"
	propertyExpiry  = "helenus.expiry.v1"
)

func propertyCollectors() []func() pebble.BlockPropertyCollector {
	return []func() pebble.BlockPropertyCollector{
		func() pebble.BlockPropertyCollector {
			return sstable.NewBlockIntervalCollector(propertyDeleted, &mortality{deleted: true}, nil)
		},
		func() pebble.BlockPropertyCollector {
			return sstable.NewBlockIntervalCollector(propertyExpiry, &mortality{}, nil)
		},
	}
}

// mortality maps a row or marker to one of the two intervals.
type mortality struct {
	deleted bool // tombstones, else expiries
	rows    row.Reader
	frag    row.FragmentReader
	span    interval
}

// interval is [low, high] in seconds; low > high: empty.
type interval struct{ low, high int64 }

func (i *interval) reset()      { *i = interval{1<<63 - 1, -1 << 63} }
func (i *interval) add(t int64) { i.low, i.high = min(i.low, t), max(i.high, t) }
func (i *interval) addDeletion(d row.Deletion) {
	if !d.Live() {
		i.add(d.LocalTime)
	}
}

// MapPointKey implements sstable.IntervalMapper. A value that cannot be read has the empty interval: reading it will tell.
func (m *mortality) MapPointKey(key sstable.InternalKey, value []byte) (sstable.BlockInterval, error) {
	m.span.reset()
	if len(key.UserKey) > partitionOffset && len(value) > 0 {
		switch key.UserKey[0] {
		case spaceRows:
			if row.Mortal(value) {
				m.row(value)
			}
		case spaceMarkers:
			if m.deleted {
				m.markers(value)
			}
		}
	}
	if m.span.low > m.span.high {
		return sstable.BlockInterval{}, nil
	}
	return sstable.BlockInterval{Lower: propertyTime(m.span.low), Upper: propertyTime(m.span.high) + 1}, nil
}

// MapRangeKeys implements sstable.IntervalMapper: the store has no range keys.
func (m *mortality) MapRangeKeys(sstable.Span) (sstable.BlockInterval, error) {
	return sstable.BlockInterval{}, nil
}

// propertyTime maps seconds to the unsigned numbers of a property; what is before 1970 counts as 1970.
func propertyTime(seconds int64) uint64 { return uint64(min(max(seconds, 0), 1<<62)) }

func (m *mortality) row(value []byte) {
	r := &m.rows
	if r.Init(value) != nil {
		return
	}
	if l := r.Liveness(); !m.deleted && !l.Empty() && l.TTL != 0 {
		m.span.add(l.Expiry)
	}
	if m.deleted {
		m.span.addDeletion(r.Deletion())
	}
	for r.Next() {
		if !r.Complex {
			m.cell(&r.Cell)
			continue
		}
		if m.deleted {
			m.span.addDeletion(r.ComplexDeletion)
		}
		for r.NextElement() {
			m.cell(&r.Cell)
		}
	}
}

func (m *mortality) cell(c *row.Cell) {
	if m.deleted && c.Tombstone {
		m.span.add(c.LocalTime())
	} else if !m.deleted && !c.Tombstone && c.TTL != 0 {
		m.span.add(c.Expiry)
	}
}

func (m *mortality) markers(value []byte) {
	f := &m.frag
	if f.Init(value) != nil {
		return
	}
	m.span.addDeletion(f.PartitionDeletion())
	var rt row.RangeTombstone
	for f.NextRange(&rt) {
		m.span.add(rt.LocalTime)
	}
}
