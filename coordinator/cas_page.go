package coordinator

import (
	"bytes"

	"github.com/helenusdb/helenus/row"
)

// overlay returns the page that the command gives of a partition once mutations were applied to it. The page was complete.
func overlay(cmd *row.Command, page *row.Page, ms []row.Mutation) (row.Page, error) {
	pages := make([]*row.Page, 0, 1+len(ms))
	pages = append(pages, page)
	for i := range ms {
		p, err := pageOf(cmd, &ms[i])
		if err != nil {
			return row.Page{}, err
		}
		pages = append(pages, p)
	}
	var dst row.Page
	whole := *cmd
	whole.Digest = false
	_, err := row.ReconcilePages(&dst, &whole, pages)
	return dst, err
}

// pageOf is what the command would read of a partition that holds nothing but the mutation.
func pageOf(cmd *row.Command, m *row.Mutation) (*row.Page, error) {
	var f row.FragmentReader
	if err := f.Init(m.Fragment); err != nil {
		return nil, err
	}
	page := &row.Page{}
	whole := *cmd
	whole.Digest, whole.Limit, whole.PerPartition, whole.Partitions = false, 0, 0, 0
	var b row.PageBuilder
	b.Init(&whole, page)
	b.BeginPartition(m.Token, m.Key)
	b.PartitionDeletion(f.PartitionDeletion())
	if err := b.Static(f.Static()); err != nil {
		return nil, err
	}
	var rt row.RangeTombstone
	for f.NextRange(&rt) {
		b.RangeTombstone(rt)
	}
	slices := whole.SlicesOf(nil, m.Token, m.Key)
	for f.NextRow() {
		if !within(slices, f.Ckey) {
			continue
		}
		if want, err := b.Row(f.Ckey, f.Row); err != nil {
			return nil, err
		} else if want != row.Continue {
			break
		}
	}
	if f.Err() != nil {
		return nil, f.Err()
	}
	b.EndPartition()
	b.Finish()
	return page, nil
}

func within(slices []row.Slice, ckey []byte) bool {
	for i := range slices {
		s := &slices[i]
		if bytes.Compare(ckey, s.Start) >= 0 && (s.End == nil || bytes.Compare(ckey, s.End) < 0) {
			return true
		}
	}
	return false
}

// newestTimestamp returns the newest timestamp of anything in a page, in µs; 0 when there is none. Bytes that do not decode
// have none: whoever reads the page says so.
func newestTimestamp(p *row.Page) (newest int64) {
	var pr row.PageReader
	for pr.Init(p.Data); pr.Next(); {
		var f row.FragmentReader
		if f.Init(pr.Fragment) != nil {
			return newest
		}
		newest = max(newest, f.PartitionDeletion().Timestamp, newestOf(f.Static()))
		var rt row.RangeTombstone
		for f.NextRange(&rt) {
			newest = max(newest, rt.Timestamp)
		}
		for f.NextRow() {
			newest = max(newest, newestOf(f.Row))
		}
	}
	return newest
}

func newestOf(r []byte) (newest int64) {
	if len(r) == 0 {
		return 0
	}
	var rd row.Reader
	if rd.Init(r) != nil {
		return 0
	}
	newest = max(rd.Liveness().Timestamp, rd.Deletion().Timestamp)
	for rd.Next() {
		if !rd.Complex {
			newest = max(newest, rd.Cell.Timestamp)
			continue
		}
		newest = max(newest, rd.ComplexDeletion.Timestamp)
		for rd.NextElement() {
			newest = max(newest, rd.Cell.Timestamp)
		}
	}
	return newest
}
