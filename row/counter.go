package row

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// A counter is a complex column. Its elements are shards: what one incarnation of one node's store has counted. The path is
// the ShardID, the timestamp is the shard's clock, the value the count. So everything that holds for elements holds for
// shards: of two states of one shard that with the larger clock stays, a deletion takes the shards whose clocks it covers,
// paths ascend whatever the order in which shards came (R9), and a second delivery changes nothing (C5). The counter's value
// is the sum of its shards.
//
// An increment is an element too, on its way from the statement to the leader replica: its path is its number in the
// request, in four bytes. Only Increments makes shards of increments; a replica that is sent a write stores shards only.

// ShardID names what one incarnation of one store counts. Only that incarnation gives the shard larger clocks, so an id must
// never be used by a store that may have forgotten a state of the shard.
type ShardID [16]byte

// CounterClockMax bounds the clocks that timestamps of statements bring about, so that a shard can always be counted up: a
// larger timestamp counts as this one.
const CounterClockMax = int64(1) << 62

const (
	incrementPathLen = 4
	countLen         = 8
)

// CounterDeletion returns the deletion that DELETE of a counter column leaves, made at local (seconds since the epoch). As in
// Cassandra, where a deleted counter cell beats every other whatever its timestamp, increments after it are lost until the
// deletion is purged: a replica that missed it would otherwise bring back what was counted before.
func CounterDeletion(local int64) Deletion {
	return Deletion{Timestamp: math.MaxInt64, LocalTime: local}
}

// AppendIncrementPath appends the path of the n-th increment of a request.
func AppendIncrementPath(dst []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(dst, n) }

// AppendCount appends the value of a shard or an increment.
func AppendCount(dst []byte, n int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(n)) }

func countOf(v []byte) int64 {
	if len(v) != countLen {
		return 0 // a column that was not selected
	}
	return int64(binary.BigEndian.Uint64(v))
}

// Counter reads the rest of the complex column that r stands at as a counter: the sum of its shards, which wraps around as in
// Cassandra, and the largest clock. ok is false when there is no shard: the counter is null.
func (r *Reader) Counter() (sum, clock int64, ok bool) {
	for r.NextElement() {
		if len(r.Cell.Path) != len(ShardID{}) || r.Cell.Tombstone {
			continue
		}
		if !ok || r.Cell.Timestamp > clock {
			clock = r.Cell.Timestamp
		}
		sum += countOf(r.Cell.Value)
		ok = true
	}
	return sum, clock, ok
}

// Increments turns increments into shards. Its zero value is ready; reuse it; not for concurrent use.
type Increments struct {
	e        encoder
	in, cur  Reader
	from, at FragmentReader
	ranges   []RangeTombstone
	row      []byte
}

// Apply appends to dst the fragment that a leader has to store for increments: each increment added to what current, the
// fragment that its store holds of these rows, has of the leader's own shard. Deletions are passed on. The clock of a shard is
// the timestamp of the statement, but larger than the shard's last one and than a deletion that current has: what is counted
// after a deletion that the leader knows counts. Rows of both fragments ascend. It returns ErrCorrupt or ErrVersion, and dst
// as it was, for bytes that are no fragments.
func (x *Increments) Apply(dst, increments, current []byte, shard ShardID) ([]byte, error) {
	out, err := x.apply(dst, increments, current, shard)
	if err != nil {
		return dst, fmt.Errorf("row: apply increments: %w", err)
	}
	return out, nil
}

func (x *Increments) apply(dst, increments, current []byte, shard ShardID) ([]byte, error) {
	in, cur := &x.from, &x.at
	if err := in.Init(increments); err != nil {
		return nil, err
	}
	if err := cur.Init(current); err != nil {
		return nil, err
	}
	x.ranges = cur.appendAllRanges(x.ranges[:0])
	over := newCover(x.ranges, false)
	var f FragmentBuilder
	f.Reset(dst, false)
	f.PartitionDeletion(in.deletion)
	if in.static != nil {
		if err := x.count(in.static, cur.static, cur.deletion, shard); err != nil {
			return nil, err
		}
		f.Static(x.row)
	}
	okCur := cur.NextRow()
	for in.NextRow() {
		for okCur && bytes.Compare(cur.Ckey, in.Ckey) < 0 {
			okCur = cur.NextRow()
		}
		var have []byte
		if okCur && bytes.Equal(cur.Ckey, in.Ckey) {
			have = cur.Row
		}
		if err := x.count(in.Row, have, maxDeletion(cur.deletion, over.over(in.Ckey)), shard); err != nil {
			return nil, err
		}
		f.Row(in.Ckey, x.row)
	}
	var rt RangeTombstone
	for in.NextRange(&rt) {
		f.RangeTombstone(rt)
	}
	if in.err != nil {
		return nil, in.err
	}
	return f.Finish(), cur.err
}

// count makes of a row of increments the row to store, in x.row. have is what the store holds of the row, cover what deletes
// it there besides the row's own deletions.
func (x *Increments) count(increments, have []byte, cover Deletion, shard ShardID) error {
	r, cur, e := &x.in, &x.cur, &x.e
	if err := r.Init(increments); err != nil {
		return err
	}
	if err := cur.Init(have); err != nil {
		return err
	}
	cover = maxDeletion(cover, cur.deletion)
	e.begin(x.row[:0])
	e.head(r.clustering, r.liveness, r.deletion)
	for r.Next() {
		if !r.Complex { // no column of a counter table is simple
			return ErrCorrupt
		}
		e.complex(r.Column, r.ComplexDeletion)
		delta, ts, any := x.sum()
		if !any {
			continue
		}
		own, known := Cell{}, false
		above := cover
		if cur.Find(r.Column) && cur.Complex {
			above = maxDeletion(above, cur.ComplexDeletion)
			own, known = cur.shard(shard)
		}
		c := Cell{Column: r.Column, Path: shard[:], Timestamp: min(ts, CounterClockMax)}
		if above.Timestamp < CounterClockMax {
			c.Timestamp = max(c.Timestamp, above.Timestamp+1)
		}
		if known {
			c.Timestamp = max(c.Timestamp, own.Timestamp+1)
			delta += countOf(own.Value)
		}
		var count [countLen]byte
		c.Value = AppendCount(count[:0], delta)
		e.element(&c)
	}
	x.row = e.finish()
	if r.err != nil {
		return r.err
	}
	return cur.err
}

// sum adds the increments of the column that x.in stands at; ts is the latest of their timestamps.
func (x *Increments) sum() (delta, ts int64, any bool) {
	for x.in.NextElement() {
		if !any || x.in.Cell.Timestamp > ts {
			ts = x.in.Cell.Timestamp
		}
		delta += countOf(x.in.Cell.Value)
		any = true
	}
	return delta, ts, any
}

// shard finds a shard among the elements of the column that r stands at.
func (r *Reader) shard(id ShardID) (Cell, bool) {
	for r.NextElement() {
		if bytes.Equal(r.Cell.Path, id[:]) {
			return r.Cell, true
		}
	}
	return Cell{}, false
}
