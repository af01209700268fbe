package repair

import (
	"context"

	"github.com/helenusdb/helenus/row"
)

// send gives each replica what it lacks, and counts it when it is durable there.
func (s *session) send(ctx context.Context, lacking [][]row.Mutation) error {
	return s.eachIndexed(ctx, func(i int, r replica) error {
		for ms := lacking[i]; len(ms) > 0; {
			n, size := 0, 0
			for n < len(ms) && n < applyMutations && (n == 0 || size+len(ms[n].Key)+len(ms[n].Fragment) <= applyBytes) {
				size += len(ms[n].Key) + len(ms[n].Fragment)
				n++
			}
			if !s.spec.Preview {
				if err := r.apply(ctx, ms[:n]); err != nil {
					return err
				}
			}
			if err := s.count(s.reports[i], ms[:n]); err != nil {
				return err
			}
			ms = ms[n:]
		}
		return nil
	})
}

// count adds to a replica's report what was sent to it.
func (s *session) count(r *PeerReport, ms []row.Mutation) error {
	var f row.FragmentReader
	for i := range ms {
		if err := f.Init(ms[i].Fragment); err != nil {
			return err
		}
		rows, deletions := int64(0), int64(0)
		if len(f.Static()) > 0 {
			rows++
		}
		for f.NextRow() {
			rows++
		}
		if !f.PartitionDeletion().Live() {
			deletions++
		}
		var rt row.RangeTombstone
		for f.NextRange(&rt) {
			deletions++
		}
		r.Rows.Add(rows)
		r.Deletions.Add(deletions)
		r.Bytes.Add(int64(len(ms[i].Key) + len(ms[i].Fragment)))
	}
	return f.Err()
}
