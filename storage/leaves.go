package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// Leaves are tallies of buckets of a table's tokens that are kept, so that repair reads again only what was written since
// (docs/design/0011-repair.md, which also says why no write is missed). Keys are drawn in docs/format/storage-keys.md.
//
// Invariant: a leaf whose number is greater than its bucket's mark, both as Pebble shows them, is the tally of what Pebble shows of its
// tokens, at every horizon that it is valid for.
const (
	spaceLeaves byte = 'L'

	leafGrid   byte = 0 // kind of a key: the depth of the table's grid
	leafBucket byte = 1 // a bucket's mark and leaves

	leafVersion     byte = 1
	leafDepthMin         = 6
	leafDepthMax         = 16
	leafBytes            = 16 << 10 // on disk, of a bucket that is neither too large nor too small
	leafRegrow           = 2        // a grid that is so many levels too coarse is made anew
	leafKeyLen           = 1 + 4 + 1 + 8
	leafRecordLen        = 1 + 5*8 + 4 + 3*8
	leavesPerBucket      = 64 // more than that are thrown away
)

// leafIndex knows the grids of all tables that have leaves.
type leafIndex struct {
	grids  atomic.Pointer[[]*leafGridOf] // ascending by generation; replaced as a whole under mu
	number atomic.Uint64                 // the newest
	token  chan struct{}                 // one watch, or change of a grid, at a time

	mu      sync.Mutex // held for a few instructions
	ingests []*leafIngest
}

// leafIngest is an ingest that is under way: no leaves are stored for its tokens.
type leafIngest struct {
	gen    schema.Generation
	tokens ring.Interval
}

// leafGridOf is the grid of one table: 2^depth buckets of equal width.
type leafGridOf struct {
	gen   schema.Generation
	depth uint
	tags  []atomic.Uint32 // four buckets each; 0: no leaf counts and none is being computed
}

func newLeafGrid(gen schema.Generation, depth uint) *leafGridOf {
	return &leafGridOf{gen: gen, depth: depth, tags: make([]atomic.Uint32, max(1, 1<<depth/4))}
}

func orderedToken(t ring.Token) uint64 { return uint64(t) ^ 1<<63 }

func (g *leafGridOf) bucket(t ring.Token) uint64 { return orderedToken(t) >> (64 - g.depth) }

// interval returns the tokens of a bucket.
func (g *leafGridOf) interval(b uint64) ring.Interval {
	first := b << (64 - g.depth)
	return ring.Interval{First: ring.Token(first ^ 1<<63), Last: ring.Token((first + (1<<(64-g.depth) - 1)) ^ 1<<63)}
}

func (g *leafGridOf) tag(b uint64) byte { return byte(g.tags[b/4].Load() >> (b % 4 * 8)) }

func (g *leafGridOf) setTag(b uint64, tag byte) {
	shift := b % 4 * 8
	for {
		old := g.tags[b/4].Load()
		if g.tags[b/4].CompareAndSwap(old, old&^(0xFF<<shift)|uint32(tag)<<shift) {
			return
		}
	}
}

// clearTag sets the tag to 0 if it is the given one.
func (g *leafGridOf) clearTag(b uint64, tag byte) {
	shift := b % 4 * 8
	for {
		old := g.tags[b/4].Load()
		if byte(old>>shift) != tag || g.tags[b/4].CompareAndSwap(old, old&^(0xFF<<shift)) {
			return
		}
	}
}

// leafTag is the tag of a number: never 0, and another one for the next 254 numbers.
func leafTag(number uint64) byte { return byte(number%255 + 1) }

func (x *leafIndex) grid(gen schema.Generation) *leafGridOf {
	list := x.grids.Load()
	if list == nil {
		return nil
	}
	l := *list
	i, j := 0, len(l)
	for i < j {
		if m := (i + j) / 2; l[m].gen < gen {
			i = m + 1
		} else {
			j = m
		}
	}
	if i < len(l) && l[i].gen == gen {
		return l[i]
	}
	return nil
}

// put replaces the grid of a generation; nil: takes it away.
func (x *leafIndex) put(gen schema.Generation, g *leafGridOf) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var next []*leafGridOf
	if list := x.grids.Load(); list != nil {
		next = slices.DeleteFunc(slices.Clone(*list), func(o *leafGridOf) bool { return o.gen == gen })
	}
	if g != nil {
		next = append(next, g)
		slices.SortFunc(next, func(a, b *leafGridOf) int { return int(int64(a.gen) - int64(b.gen)) })
	}
	if len(next) == 0 {
		x.grids.Store(nil)
		return
	}
	x.grids.Store(&next)
}

// touched is a bucket that a batch marks, and the tag that was seen.
type touched struct {
	grid   *leafGridOf
	bucket uint64
	tag    byte
}

// markLeaf makes the batch invalidate the leaves over a token that it writes to. The batch holds the token's stripe.
func (b *Batch) markLeaf(gen schema.Generation, token ring.Token) {
	g := b.e.leaves.grid(gen)
	if g == nil {
		return
	}
	bucket := g.bucket(token)
	if tag := g.tag(bucket); tag != 0 {
		b.markBucket(g, bucket, tag)
	}
}

func (b *Batch) markBucket(g *leafGridOf, bucket uint64, tag byte) {
	t := touched{g, bucket, tag}
	if n := len(b.touched); n > 0 && b.touched[n-1] == t {
		return
	}
	b.touched = append(b.touched, t)
	op := b.pb.SetDeferred(leafKeyLen, 8)
	appendBucketKey(op.Key[:0], g, bucket)
	binary.BigEndian.PutUint64(op.Value, b.e.leaves.number.Load())
	_ = op.Finish()
}

// clearTags is called when the batch is visible and still holds its stripes.
func (b *Batch) clearTags() {
	for i := range b.touched {
		t := &b.touched[i]
		t.grid.clearTag(t.bucket, t.tag)
	}
}

func appendBucketKey(dst []byte, g *leafGridOf, bucket uint64) []byte {
	dst = append(appendGeneration(dst, spaceLeaves, g.gen), leafBucket)
	return binary.BigEndian.AppendUint64(dst, bucket<<(64-g.depth))
}

func appendLeafKey(dst []byte, g *leafGridOf, bucket uint64, iv ring.Interval) []byte {
	dst = appendBucketKey(dst, g, bucket)
	dst = binary.BigEndian.AppendUint64(dst, orderedToken(iv.First))
	return binary.BigEndian.AppendUint64(dst, orderedToken(iv.Last))
}

func appendGridKey(dst []byte, gen schema.Generation) []byte {
	return append(appendGeneration(dst, spaceLeaves, gen), leafGrid)
}

// leafRecord is a leaf as it is stored.
type leafRecord struct {
	number         uint64
	at             row.Purge // the horizon it was computed at
	nextExpiry     int64
	oldestDeletion int64
	dropped        uint32 // droppedPrint
	tally          row.Tally
}

func (l *leafRecord) append(dst []byte) []byte {
	dst = append(dst, leafVersion)
	for _, v := range []uint64{l.number, uint64(l.at.Now), uint64(l.at.GCBefore), uint64(l.nextExpiry), uint64(l.oldestDeletion)} {
		dst = binary.BigEndian.AppendUint64(dst, v)
	}
	dst = binary.BigEndian.AppendUint32(dst, l.dropped)
	for _, v := range []uint64{l.tally.Sum, l.tally.Items, l.tally.Bytes} {
		dst = binary.BigEndian.AppendUint64(dst, v)
	}
	return dst
}

// decodeLeaf returns false for what is no leaf of this version.
func decodeLeaf(src []byte) (l leafRecord, ok bool) {
	if len(src) != leafRecordLen || src[0] != leafVersion {
		return l, false
	}
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(src[at:]) }
	l.number, l.at = u64(1), row.Purge{Now: int64(u64(9)), GCBefore: int64(u64(17))}
	l.nextExpiry, l.oldestDeletion = int64(u64(25)), int64(u64(33))
	l.dropped = binary.BigEndian.Uint32(src[41:])
	l.tally = row.Tally{Sum: u64(45), Items: u64(53), Bytes: u64(61)}
	return l, true
}

// holds tells whether the leaf is right at a horizon, as far as time and schema go.
func (l *leafRecord) holds(h row.Purge, dropped uint32) bool {
	return l.at.Now <= h.Now && h.Now < l.nextExpiry && l.at.GCBefore <= h.GCBefore && h.GCBefore <= l.oldestDeletion &&
		l.dropped == dropped
}

// load reads grids, numbers and which buckets have leaves that count. A suspect store's leaves may count what it has lost.
func (x *leafIndex) load(e *Engine) error {
	lower, upper := []byte{spaceLeaves}, []byte{spaceLeaves + 1}
	if e.Suspect() {
		return e.db.DeleteRange(lower, upper, pebble.NoSync)
	}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	var last uint64
	var g *leafGridOf
	var valid []touched
	var bucket, mark uint64
	for ok := it.First(); ok; ok = it.Next() {
		k, v := it.Key(), it.Value()
		if len(k) < leafKeyLen-8 {
			continue
		}
		gen := generationOf(k)
		switch kind := k[5]; {
		case kind == leafGrid && len(v) == 2 && v[0] == leafVersion && v[1] >= leafDepthMin && v[1] <= leafDepthMax:
			g = newLeafGrid(gen, uint(v[1]))
			x.put(gen, g)
			bucket, mark = 1<<64-1, 0
		case kind != leafBucket || g == nil || g.gen != gen || len(k) < leafKeyLen:
		case len(k) == leafKeyLen && len(v) == 8:
			bucket, mark = binary.BigEndian.Uint64(k[6:])>>(64-g.depth), binary.BigEndian.Uint64(v)
			last = max(last, mark)
		default:
			if b := binary.BigEndian.Uint64(k[6:]) >> (64 - g.depth); b != bucket {
				bucket, mark = b, 0
			}
			if l, ok := decodeLeaf(v); ok {
				last = max(last, l.number)
				if l.number > mark {
					valid = append(valid, touched{grid: g, bucket: bucket})
				}
			}
		}
	}
	x.number.Store(last)
	for _, t := range valid {
		t.grid.setTag(t.bucket, leafTag(last))
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("leaves: %w", err)
	}
	return nil
}

// leafDepth returns the depth of the grid of a table that takes so many bytes on disk.
func leafDepth(bytes uint64) uint {
	depth := uint(leafDepthMin)
	for depth < leafDepthMax && bytes > leafBytes<<depth {
		depth++
	}
	return depth
}

// gridFor returns the grid to store leaves in, making one where there is none, or a much too coarse one. The caller holds the token.
func (e *Engine) gridFor(gen schema.Generation) (*leafGridOf, error) {
	g := e.leaves.grid(gen)
	bytes, err := e.DiskUsageRange(gen, ring.FullRange())
	if err != nil {
		return nil, err
	}
	depth := leafDepth(bytes)
	if g != nil && depth < g.depth+leafRegrow {
		return g, nil
	}
	pb := e.db.NewBatch()
	start := appendGeneration(nil, spaceLeaves, gen)
	err = errors.Join(pb.DeleteRange(start, prefixSuccessor(nil, start), nil), pb.Set(appendGridKey(nil, gen), []byte{leafVersion, byte(depth)}, nil))
	if err == nil {
		err = e.db.Apply(pb, pebble.NoSync)
	}
	if err = errors.Join(err, pb.Close()); err != nil {
		return nil, err
	}
	g = newLeafGrid(gen, depth)
	e.leaves.put(gen, g)
	return g, nil
}

// Ingesting says that rows of a table will come in by another way than a Batch, for tokens in iv. It makes the leaves over them not
// count, durably, before it returns, and keeps any from being stored until done is called, when the rows are visible. Called for a
// table without leaves it costs next to nothing.
func (e *Engine) Ingesting(gen schema.Generation, iv ring.Interval) (done func(), err error) {
	x := &e.leaves
	in := &leafIngest{gen, iv}
	x.mu.Lock()
	x.ingests = append(x.ingests, in)
	x.mu.Unlock()
	done = func() {
		x.mu.Lock()
		x.ingests = slices.DeleteFunc(x.ingests, func(o *leafIngest) bool { return o == in })
		x.mu.Unlock()
	}
	if err := e.markInterval(gen, iv); err != nil {
		done()
		return nil, fmt.Errorf("storage: ingest into generation %d: %w", gen, err)
	}
	return done, nil
}

func (e *Engine) markInterval(gen schema.Generation, iv ring.Interval) error {
	g := e.leaves.grid(gen)
	if g == nil {
		return nil
	}
	pb := e.db.NewBatch()
	var mark [8]byte
	binary.BigEndian.PutUint64(mark[:], e.leaves.number.Load())
	var err error
	for b, last := g.bucket(iv.First), g.bucket(iv.Last); b <= last && err == nil; b++ {
		if g.tag(b) != 0 {
			err = pb.Set(appendBucketKey(nil, g, b), mark[:], nil)
		}
	}
	if err == nil && !pb.Empty() {
		err = e.db.Apply(pb, pebble.Sync)
	}
	return errors.Join(err, pb.Close())
}

// beingIngested tells whether rows of a bucket may be coming in now.
func (x *leafIndex) beingIngested(gen schema.Generation, iv ring.Interval) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.ContainsFunc(x.ingests, func(in *leafIngest) bool {
		return in.gen == gen && in.tokens.First <= iv.Last && iv.First <= in.tokens.Last
	})
}
