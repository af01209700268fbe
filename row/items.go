package row

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// ItemKind says what an Item is. The numbers go into its hash.
type ItemKind uint8

// The kinds.
const (
	ItemDeletion ItemKind = 1 // the partition's
	ItemStatic   ItemKind = 2
	ItemRow      ItemKind = 3
	ItemRange    ItemKind = 4
)

// Item is one part of a partition's content that counts (Purge): what repair compares and moves. Its hash is a function of
// the place and of the content that counts, and of nothing else.
type Item struct {
	Token ring.Token
	Key   []byte // of the partition
	Kind  ItemKind
	Ckey  []byte         // of a row
	Range RangeTombstone // of ItemRange; of ItemDeletion the Deletion alone
	Hash  uint64
	Bytes int // of content, with its keys
}

// Tally sums up items. Tallies of disjoint parts add up to that of the whole, in any order. The zero value is that of nothing.
type Tally struct {
	Sum   uint64 // of the items' hashes, modulo 2^64
	Items uint64
	Bytes uint64
}

// Add adds the items of o, which are others.
func (t *Tally) Add(o Tally) {
	t.Sum += o.Sum
	t.Items += o.Items
	t.Bytes += o.Bytes
}

// Item adds one item.
func (t *Tally) Item(i *Item) { t.Add(Tally{i.Hash, 1, uint64(i.Bytes)}) }

// Items cuts pages into items: those that one Command reads with WithStatic, whole partitions and all columns, given one after another as they were
// cut. It is reusable, does not allocate per row when warm and is not safe for concurrent use.
type Items struct {
	// NextExpiry is the earliest Expiry of what is alive in the items so far, OldestDeletion the earliest local time of what is deleted or expired in
	// them, both in seconds since the epoch; never: there is none. Until Now reaches the one and GCBefore passes the other, another
	// horizon gives the same items.
	NextExpiry, OldestDeletion int64

	horizon Purge
	w       rewrite
	dropped func(col schema.ColumnID, ts int64) bool
	out     []byte
	r       Reader
	item    Item
	place   digest // of the partition at hand

	going bool // the next page goes on in the partition of token and key
	token ring.Token
	key   []byte
	open  bool // held is a range tombstone that the next page may continue
	held  RangeTombstone
	ends  [2][]byte // buffers of held
}

// Never is later than everything.
const Never = int64(1<<63 - 1)

// Init begins. dropped, which may be nil, says whose cells do not count: those of columns that were dropped.
func (s *Items) Init(h Purge, dropped func(col schema.ColumnID, ts int64) bool) {
	s.horizon, s.dropped = h, dropped
	s.NextExpiry, s.OldestDeletion = Never, Never
	s.going, s.open = false, false
	s.w = rewrite{cover: Live(), compact: true, now: h.Now, gcBefore: h.GCBefore, watch: NoTimestamp, dropped: dropped, e: s.w.e}
}

// Resume says that the next page goes on from a position, nil: from the beginning.
func (s *Items) Resume(from *Position) {
	if s.going = from != nil && from.Kind == InPartition; s.going {
		s.token, s.key = from.Token, append(s.key[:0], from.Key...)
	}
}

// Page calls f for the items of the next page. The item is valid during the call only. It returns f's error, and ErrCorrupt or ErrVersion for
// malformed pages.
func (s *Items) Page(p *Page, f func(*Item) error) error {
	var r PageReader
	r.Init(p.Data)
	for r.Next() {
		same := s.going && r.Token == s.token && bytes.Equal(r.Key, s.key)
		if !same {
			if err := s.release(f); err != nil {
				return err
			}
		}
		s.begin(r.Token, r.Key)
		if err := s.partition(r.Fragment, same, f); err != nil {
			return err
		}
		s.going = false
	}
	if err := r.Err(); err != nil {
		return err
	}
	s.going = p.More && p.Cut.Kind == InPartition
	if !s.going || s.open && !bytes.Equal(s.held.End, p.Cut.Clustering) {
		if err := s.release(f); err != nil {
			return err
		}
	}
	if s.going {
		s.token, s.key = p.Cut.Token, append(s.key[:0], p.Cut.Key...)
	}
	return nil
}

// Finish gives what waited for another page.
func (s *Items) Finish(f func(*Item) error) error {
	s.going = false
	return s.release(f)
}

// begin computes what the hashes of a partition's items have in common.
func (s *Items) begin(token ring.Token, key []byte) {
	s.place = digestSeed
	s.place.mix(uint64(token))
	s.place.bytes(key)
	s.item = Item{Token: token, Key: key}
}

// partition gives a fragment's items. What stands for the whole partition is given again on every page: resumed leaves it out.
func (s *Items) partition(frag []byte, resumed bool, f func(*Item) error) error {
	var fr FragmentReader
	if err := fr.Init(frag); err != nil {
		return err
	}
	if d := fr.PartitionDeletion(); !resumed && !d.Live() && !d.Purgeable(s.horizon.GCBefore) {
		if err := s.giveDeletion(ItemDeletion, RangeTombstone{Deletion: d}, f); err != nil {
			return err
		}
	}
	if !resumed {
		if err := s.giveRow(ItemStatic, nil, fr.Static(), f); err != nil {
			return err
		}
	}
	for fr.NextRow() {
		if err := s.giveRow(ItemRow, fr.Ckey, fr.Row, f); err != nil {
			return err
		}
	}
	var rt RangeTombstone
	for fr.NextRange(&rt) {
		if err := s.giveRange(rt, f); err != nil {
			return err
		}
	}
	return fr.Err()
}

func (s *Items) giveRow(kind ItemKind, ckey, value []byte, f func(*Item) error) error {
	if len(value) == 0 {
		return nil
	}
	if s.dropped != nil || Mortal(value) {
		var err error
		if s.out, err = s.w.run(s.out[:0], value); err != nil {
			return err
		}
		if value = s.out; len(value) == 0 {
			return nil
		}
		if err := s.deaths(value); err != nil {
			return err
		}
	}
	h := s.place
	h.mix(uint64(kind))
	h.bytes(ckey)
	h.bytes(value)
	i := &s.item
	i.Kind, i.Ckey, i.Range = kind, ckey, RangeTombstone{}
	i.Hash, i.Bytes = h.avalanche(), len(i.Key)+len(ckey)+len(value)
	return f(i)
}

// giveRange holds a range tombstone back: the next page may begin with the rest of it.
func (s *Items) giveRange(rt RangeTombstone, f func(*Item) error) error {
	if s.open && rt.Deletion == s.held.Deletion && bytes.Equal(rt.Start, s.held.End) && s.held.End != nil {
		s.hold(s.held.Start, rt)
		return nil
	}
	if err := s.release(f); err != nil {
		return err
	}
	if !rt.Purgeable(s.horizon.GCBefore) {
		s.hold(rt.Start, rt)
	}
	return nil
}

func (s *Items) hold(start []byte, rt RangeTombstone) {
	s.open = true
	s.ends[0] = append(s.ends[0][:0], start...)
	s.held = RangeTombstone{Start: s.ends[0], Deletion: rt.Deletion}
	if rt.End != nil {
		s.ends[1] = append(s.ends[1][:0], rt.End...)
		s.held.End = s.ends[1]
	}
	s.token, s.key = s.item.Token, append(s.key[:0], s.item.Key...)
}

// release gives the range tombstone that was held back.
func (s *Items) release(f func(*Item) error) error {
	if !s.open {
		return nil
	}
	s.open = false
	s.begin(s.token, s.key)
	return s.giveDeletion(ItemRange, s.held, f)
}

func (s *Items) giveDeletion(kind ItemKind, rt RangeTombstone, f func(*Item) error) error {
	s.OldestDeletion = min(s.OldestDeletion, rt.LocalTime)
	h := s.place
	h.mix(uint64(kind))
	h.rangeTombstone(rt)
	i := &s.item
	i.Kind, i.Ckey, i.Range = kind, nil, rt
	i.Hash, i.Bytes = h.avalanche(), len(i.Key)+len(rt.Start)+len(rt.End)+2*rowOverhead
	return f(i)
}

// deaths notes when something of a row that counts will count no more, or as something else.
func (s *Items) deaths(value []byte) error {
	if !Mortal(value) {
		return nil
	}
	r := &s.r
	if err := r.Init(value); err != nil {
		return fmt.Errorf("row: item: %w", err)
	}
	if l := r.Liveness(); !l.Empty() && l.TTL != 0 {
		s.death(l.LiveAt(s.horizon.Now), l.Expiry, l.Expiry)
	}
	if d := r.Deletion(); !d.Live() {
		s.death(false, 0, d.LocalTime)
	}
	for r.Next() {
		if !r.Complex {
			s.cellDeath(&r.Cell)
			continue
		}
		if d := r.ComplexDeletion; !d.Live() {
			s.death(false, 0, d.LocalTime)
		}
		for r.NextElement() {
			s.cellDeath(&r.Cell)
		}
	}
	return r.Err()
}

func (s *Items) cellDeath(c *Cell) {
	if c.Tombstone || c.TTL != 0 {
		s.death(!c.Tombstone, c.Expiry, c.LocalTime())
	}
}

func (s *Items) death(alive bool, expiry, deleted int64) {
	if alive {
		s.NextExpiry = min(s.NextExpiry, expiry)
	} else {
		s.OldestDeletion = min(s.OldestDeletion, deleted)
	}
}

// avalanche makes every bit of the result depend on every bit of the digest, so that hashes can be summed.
func (d digest) avalanche() uint64 {
	h := uint64(d)
	h = (h ^ h>>30) * 0xBF58476D1CE4E5B9
	h = (h ^ h>>27) * 0x94D049BB133111EB
	return h ^ h>>31
}

// AppendDeletions appends to dst the partitions of a page's data without their rows and static rows: what is left are the deletions that
// cover more than a row. Partitions without any are left out. It returns ErrCorrupt or ErrVersion, and dst as it was, for malformed pages.
func AppendDeletions(dst, data []byte) ([]byte, error) {
	at := len(dst)
	var r PageReader
	var f FragmentReader
	var b FragmentBuilder
	for r.Init(data); r.Next(); {
		if err := f.Init(r.Fragment); err != nil {
			return dst[:at], err
		}
		if f.deletion.Live() && !f.HasRanges() {
			continue
		}
		dst = binary.BigEndian.AppendUint64(dst, uint64(r.Token))
		dst = appendByteString(dst, r.Key)
		dst = append(dst, 0, 0, 0, 0)
		fragment := len(dst)
		b.Reset(dst, f.Reversed())
		b.PartitionDeletion(f.deletion)
		ranges := f.appendAllRanges(nil)
		if f.err != nil {
			return dst[:at], f.err
		}
		dst = appendRanges(b.Finish(), fragment, ranges)
		binary.BigEndian.PutUint32(dst[fragment-4:], uint32(len(dst)-fragment))
		dst = appendBound(dst, nil)
	}
	return dst, r.Err()
}
