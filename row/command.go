package row

import (
	"bytes"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// PositionKind says which side of a partition's content a Position stands at.
type PositionKind uint8

// The kinds, in ring order. Their numbers are part of the encoding.
const (
	BeforePartition PositionKind = 0 // nothing of the partition is covered
	InPartition     PositionKind = 1 // covered up to Clustering
	AfterPartition  PositionKind = 2 // the whole partition is covered
)

// Position is where a page was cut and where the next one resumes. Everything before it, in reading order, is covered.
type Position struct {
	Kind  PositionKind
	Token ring.Token
	Key   []byte
	// Clustering is a bound between rows, for InPartition: forward, the positions < Clustering are covered; in
	// reverse, the positions >= Clustering. Partition deletion and static row are covered too, and are given again
	// on the next page.
	Clustering []byte
	// Rows is how many live rows of the partition were returned up to here, this page and earlier ones, for
	// InPartition. PER PARTITION LIMIT and the static-only row need it.
	Rows int
}

// Slice is the half-open interval [Start, End) of clustering positions. Start empty: from the first; End nil: to the last.
type Slice struct {
	Start, End []byte
	Point      bool // exactly one full clustering key: End == Start || 0xFF
}

// Limits of a page's size in bytes.
const (
	DefaultPageBytes = 1 << 20  // Command.Bytes == 0 means this
	MaxPageBytes     = 64 << 20 // larger values mean this
)

// Command is one replica read.
type Command struct {
	Generation schema.Generation
	Now        int64 // seconds since the epoch: decides TTL on every replica

	// One partition, when Range is nil.
	Token ring.Token
	Key   []byte
	// A scan of the partitions in Range, which does not wrap.
	Range *ring.Range
	// From resumes after an earlier page's Cut, for one partition (only Clustering and Rows matter) and for scans.
	From *Position

	Slices     []Slice           // ascending and disjoint; nil: whole partitions. In a scan they apply to every partition
	Reverse    bool              // rows in reverse clustering order; slices stay ascending
	StaticOnly bool              // the static row and no others
	WithStatic bool              // the static row too
	Columns    []schema.ColumnID // ascending; nil: all. What decides that a row exists is always included

	Limit        int // live rows
	PerPartition int // live rows of one partition
	Partitions   int // partitions with live content
	Bytes        int // of encoded content, at least one row; 0: DefaultPageBytes

	GCBefore int64 // tombstones with LocalTime < GCBefore are purgeable: no part of the digest. NoTimestamp: none
	Digest   bool  // only the digest is wanted: Page.Data stays empty
}

// Page is the answer to a Command.
type Page struct {
	Data   []byte   // partitions, for PageReader
	Rows   int      // live rows, a partition of a live static row alone counting as one
	More   bool     // a limit stopped the read
	Cut    Position // when More: Data is complete up to here
	Digest uint64

	// What PageBuilder writes to, kept for the next page: the fields above may alias bytes of others.
	data, key, clustering []byte
}

// Unfinished reports whether the page was cut inside that partition: more of it follows on the next page. A partition
// that is finished and had no live row, on this page and before (Position.Rows), shows its static row alone.
func (p *Page) Unfinished(token ring.Token, key []byte) bool {
	return p.More && p.Cut.Kind == InPartition && p.Cut.Token == token && bytes.Equal(p.Cut.Key, key)
}

// last reports whether the row at ckey is the last that the command asks of a partition.
func (c *Command) last(ckey []byte) bool {
	switch n := len(c.Slices); {
	case len(ckey) == 0:
		return true // a table without clustering columns
	case n == 0:
		return false
	case c.Reverse:
		return c.Slices[0].Point && bytes.Equal(c.Slices[0].Start, ckey)
	default:
		return c.Slices[n-1].Point && bytes.Equal(c.Slices[n-1].Start, ckey)
	}
}

// Progress is what a PageBuilder wants next.
type Progress uint8

const (
	Continue      Progress = iota // the next row, or the next partition
	NextPartition                 // no more rows of this partition: call EndPartition
	Full                          // nothing more: call Finish
)

// resumes reports whether From stands in that partition.
func (c *Command) resumes(token ring.Token, key []byte) bool {
	from := c.From
	return from != nil && from.Kind == InPartition && (c.Range == nil || from.Token == token && bytes.Equal(from.Key, key))
}

// SlicesOf appends to dst the intervals of the partition that the command still asks for, ascending and disjoint: its
// slices without what From says was read before. They alias the command.
func (c *Command) SlicesOf(dst []Slice, token ring.Token, key []byte) []Slice {
	if c.StaticOnly {
		return dst
	}
	at := len(dst)
	if c.Slices == nil {
		dst = append(dst, Slice{})
	} else {
		dst = append(dst, c.Slices...)
	}
	if !c.resumes(token, key) {
		return dst
	}
	kept := dst[:at]
	for _, s := range dst[at:] {
		from := c.From.Clustering
		switch {
		case c.Reverse && compareEnd(from, s.End) < 0:
			s.End, s.Point = from, false
		case !c.Reverse && bytes.Compare(s.Start, from) < 0:
			s.Start, s.Point = from, false
		}
		if before(s.Start, s.End) {
			kept = append(kept, s)
		}
	}
	return kept
}
