package row

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
)

// PageBuilder makes the page that answers a command out of what storage finds. For each partition, in ring order:
// BeginPartition; PartitionDeletion; RangeTombstone for each that touches the slices, in any order; Static; Row for each
// row in Command.SlicesOf, in reading order, each one merged and given once; EndPartition. At last Finish.
//
// It applies deletions, selects columns, clips range tombstones to the slices and to what the page covers, counts live rows as
// of Command.Now, stops at the limits and computes the digest. A page of all columns has what has expired as it was written; one
// of selected columns, and the digest of either, have it as a tombstone. It is reusable, does not allocate on the way of plain
// rows when warm, and is not safe for concurrent use.
type PageBuilder struct {
	cmd  *Command
	page *Page
	hash digest
	full bool
	// values: what has expired keeps its value. What the page repairs elsewhere is then what was written, at whatever Now it is read.
	values bool

	bytesMax, rawMax int // limits of size and rawSize
	size             int // bytes of content that counts in the digest
	rawSize          int // bytes of all that was looked at
	partitions       int // with live content

	part  partition
	given []RangeTombstone // the partition's, as given
	rts   []RangeTombstone // normalized and clipped, when part.ready
	clip  []RangeTombstone
	slice []Slice
	bound []byte // buffer of part.bound

	w       rewrite
	scratch [2][]byte

	// Purged returns the time before which this replica may have purged tombstones of a token, and may because all replicas have seen them: they are no part of
	// the digest, as those before Command.GCBefore are not. It is asked once for a partition that has tombstones, at most. nil: Command.GCBefore alone counts.
	Purged func(token ring.Token) int64
}

// partition is what a PageBuilder knows of the partition at hand.
type partition struct {
	open       bool
	token      ring.Token
	key        []byte
	entry      int  // where its entry in Data starts
	fragment   int  // where its fragment starts
	content    bool // something was written for it
	hashed     bool // it is part of the digest
	bounded    bool // gcBefore is known
	gcBefore   int64
	rowsBefore int // live rows of it on pages before
	rows       int // live rows of it on this page
	staticLive bool
	deletion   Deletion
	ready      bool // range tombstones are normalized
	over       cover
	stop       []byte // where the page has to end for the number of range tombstones; nil: nowhere
	bound      []byte // where PER PARTITION LIMIT ended the partition; nil: it did not
}

const (
	// rowOverhead is what a row counts for beside its bytes, so that no number of rows is free.
	rowOverhead = 8
	// deadBytesMax bounds what a page may walk over that does not count: shadowed rows, purgeable tombstones. They may be in
	// the page beside what counts, and all of it has to fit a message between nodes.
	deadBytesMax = 4 << 20
)

// Init begins the page that answers cmd. Both are kept until Finish. The page's earlier content is overwritten.
func (b *PageBuilder) Init(cmd *Command, page *Page) {
	b.cmd, b.page, b.full = cmd, page, false
	b.part.open = false
	b.hash = digestSeed
	b.size, b.rawSize, b.partitions = 0, 0, 0
	b.bytesMax = cmd.Bytes
	if b.bytesMax <= 0 {
		b.bytesMax = DefaultPageBytes
	}
	b.bytesMax = min(b.bytesMax, MaxPageBytes)
	b.rawMax = b.bytesMax + deadBytesMax
	page.Data, page.Rows, page.More, page.Digest = page.data[:0], 0, false, 0
	page.Cut = Position{}
	b.w.compact, b.w.now = true, cmd.Now
	b.w.project, b.w.columns = cmd.Columns != nil, cmd.Columns
	b.values = cmd.Columns == nil && !cmd.Digest && !planted.On(planted.ExpiredRepaired)
}

// BeginPartition begins a partition. key is aliased until EndPartition.
func (b *PageBuilder) BeginPartition(token ring.Token, key []byte) {
	data := b.page.Data
	p := &b.part
	*p = partition{open: true, token: token, key: key, entry: len(data), deletion: Live()}
	b.given, b.rts = b.given[:0], b.rts[:0]
	b.rawSize += len(key) + rowOverhead
	if b.cmd.resumes(token, key) {
		p.rowsBefore = b.cmd.From.Rows
	}
	if b.cmd.Digest {
		return
	}
	data = binary.BigEndian.AppendUint64(data, uint64(token))
	data = appendByteString(data, key)
	data = append(data, 0, 0, 0, 0) // size of the fragment
	p.fragment = len(data)
	head := byte(fragVersion)
	if b.cmd.Reverse {
		head |= fragReversed
	}
	b.page.Data = append(data, head)
}

// PartitionDeletion says that the partition was deleted. A live one is nothing.
func (b *PageBuilder) PartitionDeletion(d Deletion) {
	if d.Live() {
		return
	}
	b.part.deletion, b.part.content = d, true
	if !b.cmd.Digest {
		b.page.Data[b.part.fragment] |= fragDeletion
		b.page.Data = appendDeletion(b.page.Data, d)
	}
	if !d.Purgeable(b.gcBefore()) {
		b.countPartition()
		b.hash.deletion(hashDeletion, d)
	}
}

// RangeTombstone gives a range tombstone of the partition. Its bytes are aliased until EndPartition.
func (b *PageBuilder) RangeTombstone(rt RangeTombstone) { b.given = append(b.given, rt) }

// gcBefore returns the time before which tombstones of the partition at hand do not count.
func (b *PageBuilder) gcBefore() int64 {
	p := &b.part
	if !p.bounded {
		p.bounded, p.gcBefore = true, b.cmd.GCBefore
		if b.Purged != nil && p.gcBefore != NoTimestamp {
			p.gcBefore = max(p.gcBefore, b.Purged(p.token))
		}
	}
	return p.gcBefore
}

// countPartition makes the partition part of the digest.
func (b *PageBuilder) countPartition() {
	p := &b.part
	if p.hashed {
		return
	}
	p.hashed = true
	b.hash.mix(hashPartition)
	b.hash.mix(uint64(p.token))
	b.hash.bytes(p.key)
	b.size += len(p.key) + rowOverhead
}

// Static gives the static row. It returns ErrCorrupt or ErrVersion for bytes that are no row.
func (b *PageBuilder) Static(row []byte) error {
	if len(row) == 0 || !b.cmd.WithStatic && !b.cmd.StaticOnly {
		return nil
	}
	kept, counted, live, err := b.reduce(row, b.part.deletion)
	if err != nil || len(kept) == 0 {
		return err
	}
	b.part.content, b.part.staticLive = true, live
	if !b.cmd.Digest {
		b.page.Data[b.part.fragment] |= fragStatic
		b.page.Data = appendByteString(b.page.Data, kept)
	}
	b.rawSize += len(row)
	if len(counted) > 0 {
		b.countPartition()
		b.hash.mix(hashStatic)
		b.hash.bytes(counted)
		b.size += len(counted)
	}
	return nil
}

// Row gives the next row. It returns what the page wants next, and ErrCorrupt or ErrVersion for bytes that are no row.
func (b *PageBuilder) Row(ckey, row []byte) (Progress, error) {
	p := &b.part
	if b.full || !p.open {
		return Full, nil
	}
	if b.partitionFull() {
		return NextPartition, nil
	}
	if !p.ready {
		b.prepareRanges()
	}
	if p.stop != nil && b.beyondStop(ckey) {
		return b.cutAt(p.stop), nil
	}
	shadow := p.deletion
	if len(b.rts) > 0 {
		shadow = maxDeletion(shadow, p.over.over(ckey))
	}
	kept, counted, live, err := b.reduce(row, shadow)
	if err != nil {
		return Full, err
	}
	b.rawSize += len(ckey) + len(row) + rowOverhead
	if planted.On(planted.DigestOverEncoding) {
		b.hash.row(ckey, row)
	}
	if len(kept) > 0 {
		p.content = true
		if !b.cmd.Digest {
			b.page.Data = appendRow(b.page.Data, ckey, kept)
		}
		if len(counted) > 0 {
			b.countPartition()
			b.hash.row(ckey, counted)
			b.size += len(ckey) + len(counted) + rowOverhead
		}
	}
	return b.after(ckey, live), nil
}

// reduce returns what the page keeps of row under a deletion, the part of that which counts in the digest, and whether
// the row is visible. Most rows come out as they are.
func (b *PageBuilder) reduce(row []byte, shadow Deletion) (kept, counted []byte, live bool, err error) {
	w := &b.w
	if shadow.Live() && !w.project && !Mortal(row) {
		return row, row, true, nil
	}
	w.cover, w.gcBefore, w.watch, w.values = shadow, NoTimestamp, NoTimestamp, b.values
	if Mortal(row) {
		w.watch = b.gcBefore()
	}
	if b.scratch[0], err = w.run(b.scratch[0][:0], row); err != nil {
		return nil, nil, false, err
	}
	kept, live = b.scratch[0], w.live
	if !w.purgeable && !w.valued {
		return kept, kept, live, nil
	}
	w.cover, w.gcBefore, w.values = Live(), b.gcBefore(), false
	b.scratch[1], err = w.run(b.scratch[1][:0], kept)
	return kept, b.scratch[1], live, err
}

func (b *PageBuilder) partitionFull() bool {
	return b.cmd.PerPartition > 0 && b.part.rowsBefore+b.part.rows >= b.cmd.PerPartition
}

// after counts the row at ckey and ends partition and page where a limit is reached.
func (b *PageBuilder) after(ckey []byte, live bool) Progress {
	p := &b.part
	if live {
		p.rows++
		b.page.Rows++
	}
	full := live && b.cmd.Limit > 0 && b.page.Rows >= b.cmd.Limit || b.size >= b.bytesMax || b.rawSize >= b.rawMax
	last := b.cmd.last(ckey)
	if live && b.partitionFull() {
		if !last {
			p.bound = b.boundAfter(ckey)
		}
		last = true
	}
	switch {
	case full && !last:
		return b.cutAt(b.boundAfter(ckey))
	case full:
		return b.endPage()
	case last:
		return NextPartition
	}
	return Continue
}

// boundAfter returns the position behind the row at ckey, in reading order.
func (b *PageBuilder) boundAfter(ckey []byte) []byte {
	b.bound = append(b.bound[:0], ckey...)
	if !b.cmd.Reverse {
		b.bound = append(b.bound, 0xFF)
	}
	return b.bound
}

// prepareRanges normalizes the range tombstones, clips them to what the command asks for, and looks how many of them fit.
func (b *PageBuilder) prepareRanges() {
	p := &b.part
	p.ready = true
	if len(b.given) == 0 {
		return
	}
	b.given = aboveDeletion(NormalizeRanges(b.given), p.deletion)
	b.slice = b.cmd.SlicesOf(b.slice[:0], p.token, p.key)
	b.rts = b.rts[:0]
	for _, s := range b.slice {
		b.rts = appendClipped(b.rts, b.given, s.Start, s.End)
	}
	if f := b.cmd.From; planted.On(planted.RangeOpenAtPageStart) && f != nil && len(f.Clustering) > 0 {
		b.rts = slices.DeleteFunc(b.rts, func(rt RangeTombstone) bool {
			return bytes.Equal(rt.Start, f.Clustering) || bytes.Equal(rt.End, f.Clustering)
		})
	}
	p.over = newCover(b.rts, b.cmd.Reverse)
	n, size, dead := len(b.rts), 0, 0
	for i := range b.rts {
		rt := &b.rts[i]
		if b.cmd.Reverse {
			rt = &b.rts[n-1-i]
		}
		if size > b.bytesMax || dead > deadBytesMax {
			p.stop = rt.Start
			if b.cmd.Reverse {
				p.stop = rt.End
			}
			return
		}
		if rt.Purgeable(b.gcBefore()) {
			dead += len(rt.Start) + len(rt.End) + 2*rowOverhead
		} else {
			size += len(rt.Start) + len(rt.End) + 2*rowOverhead
		}
	}
}

func (b *PageBuilder) beyondStop(ckey []byte) bool {
	return bytes.Compare(ckey, b.part.stop) < 0 == b.cmd.Reverse
}

// cutAt ends the page inside the partition.
func (b *PageBuilder) cutAt(bound []byte) Progress {
	p, page := &b.part, b.page
	page.clustering = append(page.clustering[:0], bound...)
	b.closePartition(page.clustering)
	b.full, page.More = true, true
	page.key = append(page.key[:0], p.key...)
	page.Cut = Position{Kind: InPartition, Token: p.token, Key: page.key, Clustering: page.clustering, Rows: p.rowsBefore + p.rows}
	return Full
}

// endPage ends the page with the partition, of which the command wants no more.
func (b *PageBuilder) endPage() Progress {
	if b.part.open {
		b.finishPartition()
	}
	b.full = true
	b.more()
	return Full
}

// more says where a scan goes on that stops after the partition. A read of one partition has come to its end.
func (b *PageBuilder) more() {
	page := b.page
	if b.cmd.Range == nil {
		return
	}
	page.More = true
	page.key = append(page.key[:0], b.part.key...)
	page.Cut = Position{Kind: AfterPartition, Token: b.part.token, Key: page.key}
}

// EndPartition ends the partition. It returns Continue for the next one, or Full.
func (b *PageBuilder) EndPartition() Progress {
	p := &b.part
	if !p.open {
		if b.full {
			return Full
		}
		return Continue
	}
	if !p.ready {
		b.prepareRanges()
	}
	if p.stop != nil && p.bound == nil {
		return b.cutAt(p.stop)
	}
	b.finishPartition()
	c := b.cmd
	if c.Limit > 0 && b.page.Rows >= c.Limit || c.Partitions > 0 && b.partitions >= c.Partitions ||
		b.size >= b.bytesMax || b.rawSize >= b.rawMax {
		return b.endPage()
	}
	return Continue
}

// finishPartition closes the partition, of which nothing is left to read.
func (b *PageBuilder) finishPartition() {
	p := &b.part
	if p.staticLive && p.rowsBefore+p.rows == 0 {
		b.page.Rows++ // shown as one row without clustering
	}
	b.closePartition(p.bound)
}

// closePartition writes the range tombstones before bound, in reading order, and completes the partition's entry, or
// takes it back when there is nothing in it. bound nil means all.
func (b *PageBuilder) closePartition(bound []byte) {
	p := &b.part
	p.open = false
	if !p.ready {
		b.prepareRanges()
	}
	if (p.rows > 0 || p.staticLive) && p.rowsBefore == 0 {
		b.partitions++
	}
	rts := b.rts
	if planted.On(planted.RangeTombstoneDropped) {
		rts = nil
	}
	if bound != nil && len(rts) > 0 {
		if b.cmd.Reverse {
			b.clip = appendClipped(b.clip[:0], rts, bound, nil)
		} else {
			b.clip = appendClipped(b.clip[:0], rts, nil, bound)
		}
		rts = b.clip
		if planted.On(planted.RangeOpenAtPageEnd) {
			rts = slices.DeleteFunc(rts, func(rt RangeTombstone) bool {
				return bytes.Equal(rt.End, bound) || b.cmd.Reverse && bytes.Equal(rt.Start, bound)
			})
		}
	}
	for _, rt := range rts {
		b.rawSize += len(rt.Start) + len(rt.End) + 2*rowOverhead
		if !rt.Purgeable(b.gcBefore()) {
			b.countPartition()
			b.hash.rangeTombstone(rt)
			b.size += len(rt.Start) + len(rt.End) + 2*rowOverhead
		}
	}
	if b.cmd.Digest {
		return
	}
	if !p.content && len(rts) == 0 {
		b.page.Data = b.page.Data[:p.entry]
		return
	}
	data := appendRanges(b.page.Data, p.fragment, rts)
	binary.BigEndian.PutUint32(data[p.fragment-4:], uint32(len(data)-p.fragment))
	b.page.Data = appendBound(data, p.bound)
}

// Finish completes the page.
func (b *PageBuilder) Finish() {
	if b.part.open {
		b.EndPartition()
	}
	page := b.page
	if page.More {
		b.hash.position(&page.Cut)
	}
	page.Digest = uint64(b.hash)
	page.data = page.Data
	b.cmd, b.page = nil, nil
	_ = b.w.r.Init(nil) // the row without content is never an error
	clear(b.given)
	clear(b.rts)
}

// digest is a running hash over the parts of a page that count.
type digest uint64

// What a part of a page is. The numbers go into the digest.
const (
	digestSeed = 0x9E3779B97F4A7C15

	hashPartition = 1
	hashDeletion  = 2
	hashStatic    = 3
	hashRow       = 4
	hashRange     = 5
	hashCut       = 6
)

func (d *digest) mix(v uint64) {
	*d = digest(bits.RotateLeft64(uint64(*d)^v*0xC2B2AE3D27D4EB4F, 31) * 0x9E3779B185EBCA87)
}

func (d *digest) bytes(v []byte) {
	d.mix(uint64(len(v)))
	d.mix(xxhash.Sum64(v))
}

func (d *digest) row(ckey, row []byte) {
	d.mix(hashRow)
	d.bytes(ckey)
	d.bytes(row)
}

func (d *digest) deletion(kind uint64, del Deletion) {
	d.mix(kind)
	d.mix(uint64(del.Timestamp))
	d.mix(uint64(del.LocalTime))
}

func (d *digest) rangeTombstone(rt RangeTombstone) {
	d.deletion(hashRange, rt.Deletion)
	d.bytes(rt.Start)
	if rt.End == nil {
		d.mix(0)
		return
	}
	d.mix(1)
	d.bytes(rt.End)
}

func (d *digest) position(p *Position) {
	d.mix(hashCut + uint64(p.Kind)<<8)
	d.mix(uint64(p.Token))
	d.bytes(p.Key)
	d.bytes(p.Clustering)
	d.mix(uint64(p.Rows))
}

// PageReader iterates over the partitions of a page. What it returns aliases the page.
type PageReader struct {
	Token    ring.Token
	Key      []byte
	Fragment []byte
	// Bound, when not nil, is where PER PARTITION LIMIT ended the partition: what lies behind it in reading order was
	// not looked at.
	Bound []byte

	rest []byte
	err  error
}

// Init starts reading Page.Data.
func (r *PageReader) Init(data []byte) { *r = PageReader{rest: data} }

// Next moves to the next partition. It returns false at the end and for malformed bytes: see Err. The fragment is not
// looked at: see FragmentReader.
func (r *PageReader) Next() bool {
	b := r.rest
	if len(b) == 0 {
		return false
	}
	if len(b) < 8 {
		return r.fail()
	}
	r.Token = ring.Token(binary.BigEndian.Uint64(b))
	var p int
	if r.Key, p = byteString(b, 8); p < 0 || len(b)-p < 4 {
		return r.fail()
	}
	n := uint64(binary.BigEndian.Uint32(b[p:]))
	p += 4
	if n == 0 || n > uint64(len(b)-p) {
		return r.fail()
	}
	r.Fragment = b[p : p+int(n) : p+int(n)]
	if r.Bound, p = bound(b, p+int(n)); p < 0 {
		return r.fail()
	}
	r.rest = b[p:]
	return true
}

func (r *PageReader) fail() bool {
	r.err = fmt.Errorf("row: decode page: %w", ErrCorrupt)
	r.rest = nil
	return false
}

// Last reports whether there is no partition after the one that Next found.
func (r *PageReader) Last() bool { return len(r.rest) == 0 }

// Err returns ErrCorrupt when the bytes read so far were no page.
func (r *PageReader) Err() error { return r.err }
