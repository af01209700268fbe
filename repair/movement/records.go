package movement

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/helenusdb/helenus/ring"
)

// recordsVersion is the first byte of encoded records; docs/format/movement.md draws what follows.
const recordsVersion = 1

var errRecords = errors.New("movement: records of filled ranges do not decode")

// Append appends the encoding.
func (r Records) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, recordsVersion), r.Plan)
	for _, m := range []map[string][]ring.Range{r.Filled, r.Begun} {
		dst = binary.AppendUvarint(dst, uint64(len(m)))
		for _, ks := range slices.Sorted(maps.Keys(m)) {
			dst = append(binary.AppendUvarint(dst, uint64(len(ks))), ks...)
			dst = binary.AppendUvarint(dst, uint64(len(m[ks])))
			for _, rg := range m[ks] {
				dst = binary.BigEndian.AppendUint64(dst, uint64(rg.Start))
				dst = binary.BigEndian.AppendUint64(dst, uint64(rg.End))
			}
		}
	}
	return dst
}

// DecodeRecords is the inverse of Append. The bytes are not kept. Errors: bytes of another version, or damaged ones.
func DecodeRecords(src []byte) (Records, error) {
	if len(src) == 0 || src[0] != recordsVersion {
		return Records{}, fmt.Errorf("%w: their version is unknown", errRecords)
	}
	d := decoder{b: src[1:]}
	r := Records{Plan: d.uvarint()}
	r.Filled, r.Begun = d.ranges(), d.ranges()
	if d.failed || len(d.b) > 0 {
		return Records{}, errRecords
	}
	return r, nil
}

// decoder reads fields until the first that is not there.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if d.failed || n > uint64(len(d.b)) {
		d.failed = true
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) ranges() map[string][]ring.Range {
	out := map[string][]ring.Range{}
	for n := d.uvarint(); n > 0 && !d.failed; n-- {
		ks := string(d.bytes(d.uvarint()))
		var rs []ring.Range
		for k := d.uvarint(); k > 0 && !d.failed; k-- {
			if raw := d.bytes(16); raw != nil {
				rs = append(rs, ring.Range{Start: ring.Token(binary.BigEndian.Uint64(raw)), End: ring.Token(binary.BigEndian.Uint64(raw[8:]))})
			}
		}
		if _, twice := out[ks]; twice || len(rs) == 0 {
			d.failed = true
		}
		out[ks] = rs
	}
	return out
}
