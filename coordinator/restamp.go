package coordinator

import (
	"encoding/binary"

	"github.com/helenusdb/helenus/row"
)

// restamp is the planted bug HintRestamped: the mutations of body with another timestamp, µs, in all their rows. The linker drops it from
// builds without planted bugs.
func restamp(body []byte, ts int64) (out []byte) {
	for len(body) > 0 {
		m, rest, err := row.DecodeMutation(body)
		if err != nil {
			return append(out, body...)
		}
		m.Fragment = restampFragment(m.Fragment, ts)
		out, body = m.Append(out), rest
	}
	return out
}

func restampFragment(fragment []byte, ts int64) []byte {
	var f row.FragmentReader
	var b row.FragmentBuilder
	if f.Init(fragment) != nil {
		return fragment
	}
	b.Reset(nil, false)
	b.PartitionDeletion(f.PartitionDeletion())
	b.Static(f.Static())
	for f.NextRow() {
		if len(f.Row) >= 9 { // a byte of flags, then the timestamp that all others are relative to
			binary.BigEndian.PutUint64(f.Row[1:], uint64(ts))
		}
		b.Row(f.Ckey, f.Row)
	}
	var rt row.RangeTombstone
	for f.NextRange(&rt) {
		b.RangeTombstone(rt)
	}
	return b.Finish()
}
