package row

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
)

// Compare orders positions as pages reach them: by partition, then before, in, after it, then by bound, which descends
// when reverse. It returns a negative number, zero or a positive one.
func (p *Position) Compare(o *Position, reverse bool) int {
	c := comparePartition(p.Token, p.Key, o.Token, o.Key)
	if c == 0 {
		c = cmp.Compare(p.Kind, o.Kind)
	}
	if c == 0 && p.Kind == InPartition {
		if c = bytes.Compare(p.Clustering, o.Clustering); reverse {
			c = -c
		}
	}
	return c
}

// comparePartition orders partitions: by token, then by key.
func comparePartition(t ring.Token, k []byte, u ring.Token, l []byte) int {
	if t != u {
		return cmp.Compare(t, u)
	}
	return bytes.Compare(k, l)
}

// ReconcilePages merges the pages that replicas gave for one command and overwrites dst, which must be none of them, with
// the page that a single replica holding all their content would have given, as far as they go: each replica vouches for
// what lies before its own Cut only, and, where PER PARTITION LIMIT ended a partition on it, before that Bound. The
// result ends at the earliest of them, or at a limit before it, with More and a Cut to go on from. It may therefore have
// fewer rows than asked for, even none, although there are more: read on from Cut.
//
// repairs[i] is what the replica of pages[i] lacks within the interval that all of them cover, one mutation for each
// partition, in ring order: see Diff. After it was applied, another read of the same command leaves nothing to repair.
// Mutations share no memory with pages.
//
// It returns ErrProjected when the command selects columns and there is more than one page (send Command.Full to the
// replicas), and ErrCorrupt or ErrVersion for malformed pages; then dst is undefined.
func ReconcilePages(dst *Page, cmd *Command, pages []*Page) (repairs [][]Mutation, err error) {
	if cmd.Columns != nil && len(pages) > 1 {
		return nil, fmt.Errorf("row: reconcile pages: %w", ErrProjected)
	}
	r := reconciler{cmd: cmd, repairs: make([][]Mutation, len(pages)), readers: make([]PageReader, len(pages)),
		ahead: make([]bool, len(pages)), frags: make([][]byte, len(pages))}
	for i, p := range pages {
		r.readers[i].Init(p.Data)
		r.ahead[i] = r.readers[i].Next()
		if p.More && !planted.On(planted.ShortReadOff) && (r.cut == nil || p.Cut.Compare(r.cut, cmd.Reverse) < 0) {
			r.cut = &p.Cut
		}
	}
	whole := *cmd
	whole.Digest = false
	r.page.Init(&whole, dst)
	if err := r.run(); err != nil {
		return nil, fmt.Errorf("row: reconcile pages: %w", err)
	}
	if r.cut != nil && !r.page.full {
		r.page.endAt(r.cut)
	}
	r.page.Finish()
	return r.repairs, nil
}

// endAt ends the page at a position behind all partitions that it has.
func (b *PageBuilder) endAt(cut *Position) {
	page := b.page
	b.full, page.More = true, true
	page.key = append(page.key[:0], cut.Key...)
	page.clustering = append(page.clustering[:0], cut.Clustering...)
	page.Cut = Position{Kind: cut.Kind, Token: cut.Token, Key: page.key, Clustering: page.clustering}
	if cut.Kind == InPartition && b.cmd.resumes(cut.Token, cut.Key) {
		page.Cut.Rows = b.cmd.From.Rows
	}
}

// reconciler merges pages partition by partition.
type reconciler struct {
	cmd     *Command
	cut     *Position // the earliest; nil: all pages are complete
	readers []PageReader
	ahead   []bool   // the reader stands at a partition that is not merged yet
	frags   [][]byte // of the partition at hand, clipped to bound
	clips   [][]byte // buffers of frags
	page    PageBuilder
	merge   fragmentMerge
	differ  differ
	merged  []byte
	repairs [][]Mutation
}

func (r *reconciler) run() error {
	for !r.page.full {
		first := -1
		for i := range r.readers {
			if r.ahead[i] && (first < 0 || r.compare(i, first) < 0) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		token, key := r.readers[first].Token, r.readers[first].Key
		beyond, bound := r.limit(token, key)
		if beyond {
			break
		}
		if err := r.partition(token, key, bound); err != nil {
			return err
		}
	}
	for i := range r.readers {
		if err := r.readers[i].Err(); err != nil {
			return err
		}
	}
	return nil
}

func (r *reconciler) compare(i, j int) int {
	a, b := &r.readers[i], &r.readers[j]
	return comparePartition(a.Token, a.Key, b.Token, b.Key)
}

// limit tells where the pages' common cover of a partition ends: not even before it (beyond), at a bound, or never (nil).
func (r *reconciler) limit(token ring.Token, key []byte) (beyond bool, bound []byte) {
	if r.cut == nil {
		return false, nil
	}
	switch c := comparePartition(token, key, r.cut.Token, r.cut.Key); {
	case c < 0:
		return false, nil
	case c > 0 || r.cut.Kind == BeforePartition:
		return true, nil
	case r.cut.Kind == InPartition:
		return false, r.cut.Clustering
	}
	return false, nil
}

// partition merges one partition of all pages that have it, up to bound (nil: all of it).
func (r *reconciler) partition(token ring.Token, key, bound []byte) error {
	for i := range r.readers {
		p := &r.readers[i]
		r.frags[i] = nil
		if !r.ahead[i] || p.Token != token || !bytes.Equal(p.Key, key) {
			continue
		}
		r.frags[i] = p.Fragment
		if p.Bound != nil && (bound == nil || bytes.Compare(p.Bound, bound) < 0 != r.cmd.Reverse) {
			bound = p.Bound
		}
		r.ahead[i] = p.Next()
	}
	if bound != nil {
		if err := r.clip(bound); err != nil {
			return err
		}
	}
	var err error
	if r.merged, err = r.merge.merge(r.merged[:0], r.frags); err != nil {
		return err
	}
	if err := r.repair(token, key); err != nil {
		return err
	}
	return r.add(token, key, bound)
}

// clip cuts the fragments off at bound.
func (r *reconciler) clip(bound []byte) error {
	if r.clips == nil {
		r.clips = make([][]byte, len(r.frags))
	}
	for i, frag := range r.frags {
		if frag == nil {
			continue
		}
		var err error
		if r.clips[i], err = clipFragment(r.clips[i][:0], frag, bound); err != nil {
			return err
		}
		r.frags[i] = r.clips[i]
	}
	return nil
}

// clipFragment appends to dst what of frag lies before bound, in the order of its rows.
func clipFragment(dst, frag, bound []byte) ([]byte, error) {
	var f FragmentReader
	if err := f.Init(frag); err != nil {
		return dst, err
	}
	var b FragmentBuilder
	b.Reset(dst, f.Reversed())
	b.PartitionDeletion(f.deletion)
	b.Static(f.static)
	for f.NextRow() && bytes.Compare(f.Ckey, bound) < 0 != f.Reversed() {
		b.Row(f.Ckey, f.Row)
	}
	start, end := []byte(nil), bound
	if f.Reversed() {
		start, end = bound, nil
	}
	ranges := appendClipped(nil, f.appendAllRanges(nil), start, end)
	if f.err != nil {
		return dst, f.err
	}
	at := b.start
	return appendRanges(b.Finish(), at, ranges), nil
}

// repair notes what each replica lacks of r.merged.
func (r *reconciler) repair(token ring.Token, key []byte) error {
	purge := Purge{Now: r.cmd.Now, GCBefore: r.cmd.GCBefore}
	for i, frag := range r.frags {
		if bytes.Equal(frag, r.merged) {
			continue
		}
		diff, any, err := r.differ.diff(nil, r.merged, frag, purge)
		if err != nil {
			return err
		}
		if any {
			r.repairs[i] = append(r.repairs[i], Mutation{r.cmd.Generation, token, slices.Clone(key), diff})
		}
	}
	return nil
}

// add gives r.merged to the page, which has to end at bound when it still wants more there.
func (r *reconciler) add(token ring.Token, key, bound []byte) error {
	var f FragmentReader
	if err := f.Init(r.merged); err != nil {
		return err
	}
	b := &r.page
	b.BeginPartition(token, key)
	b.PartitionDeletion(f.deletion)
	if err := b.Static(f.static); err != nil {
		return err
	}
	var rt RangeTombstone
	for f.NextRange(&rt) {
		b.RangeTombstone(rt)
	}
	want := Continue
	for want == Continue && f.NextRow() {
		var err error
		if want, err = b.Row(f.Ckey, f.Row); err != nil {
			return err
		}
	}
	if f.err != nil {
		return f.err
	}
	switch {
	case want == Continue && bound != nil && b.part.stop == nil:
		b.cutAt(bound)
	case want == NextPartition && b.EndPartition() == Continue && r.cut != nil && r.cut.Kind == InPartition &&
		comparePartition(token, key, r.cut.Token, r.cut.Key) == 0:
		b.endPage() // the replicas stopped in a partition of which nothing more is wanted
	case want == Continue:
		b.EndPartition()
	}
	return nil
}
