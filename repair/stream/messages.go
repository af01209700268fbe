package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// Verbs; docs/format/streaming.md draws the bodies. The range 96 to 111 is this package's.
const (
	VerbOpen  rpc.Verb = 96 // a snapshot of a range; answer: the session
	VerbNext  rpc.Verb = 97 // the next piece of a session
	VerbClose rpc.Verb = 98 // one-way: the session is not needed any more

	VerbFirst, VerbLast rpc.Verb = 96, 111
)

// StatusNoSession: the source has no such session, or not any more.
const StatusNoSession = rpc.StatusUser

const version = 1

// errMessage is wrapped by errors about bodies that do not decode.
var errMessage = errors.New("stream: malformed message")

// openRequest asks for a snapshot of a range, which must not wrap. Decoded, after aliases the body.
type openRequest struct {
	stream    ID
	table     schema.Generation
	rg        ring.Range
	registers bool
	after     []byte // stream key; empty: from the start
	pieceSize int    // bytes
}

const flagRegisters = 1 << 0

func (q *openRequest) append(dst []byte) []byte {
	flags := uint64(0)
	if q.registers {
		flags |= flagRegisters
	}
	dst = head(dst, 7)
	dst = rpc.AppendBytes(dst, q.stream[:])
	dst = rpc.AppendUint(dst, uint64(q.table))
	dst = rpc.AppendInt(dst, int64(q.rg.Start))
	dst = rpc.AppendInt(dst, int64(q.rg.End))
	dst = rpc.AppendUint(dst, flags)
	dst = rpc.AppendBytes(dst, q.after)
	return rpc.AppendUint(dst, uint64(q.pieceSize))
}

func decodeOpen(src []byte) (q openRequest, err error) {
	r, more := begin(src, 7)
	id := r.Bytes()
	gen := r.Uint()
	q.rg = ring.Range{Start: ring.Token(r.Int()), End: ring.Token(r.Int())}
	flags := r.Uint()
	q.after = r.Bytes()
	size := r.Uint()
	if err = end(&r, more); err != nil {
		return q, err
	}
	if copy(q.stream[:], id) != len(id) || len(id) != len(q.stream) || gen > math.MaxUint32 || flags&^flagRegisters != 0 || q.rg.Wraps() && q.rg.End != ring.MinToken || len(q.after) > endBytesMax {
		return q, errMessage
	}
	q.table, q.registers = schema.Generation(gen), flags&flagRegisters != 0
	q.pieceSize = int(min(size, pieceBytesMax))
	return q, nil
}

// opened is the answer to an open.
type opened struct {
	session uint64
	bytes   uint64 // on disk, about
}

func (o opened) append(dst []byte) []byte {
	return rpc.AppendUint(rpc.AppendUint(head(dst, 2), o.session), o.bytes)
}

func decodeOpened(src []byte) (o opened, err error) {
	r, more := begin(src, 2)
	o = opened{r.Uint(), r.Uint()}
	return o, end(&r, more)
}

// appendSession is the body of next and close.
func appendSession(dst []byte, session uint64) []byte { return rpc.AppendUint(head(dst, 1), session) }

func decodeSession(src []byte) (session uint64, err error) {
	r, more := begin(src, 1)
	session = r.Uint()
	return session, end(&r, more)
}

// piece is the answer to a next. Decoded, it aliases the body.
type piece struct {
	number  uint64 // from 0, in the session
	flags   uint8
	end     []byte // stream key up to which the range is covered
	records []byte
}

// Flags of a piece.
const (
	pieceMore  = 1 << 0 // the last record goes on in the next piece
	pieceLast  = 1 << 1 // nothing follows
	pieceLater = 1 << 2 // nothing to send yet: ask again
	pieceFlags = pieceMore | pieceLast | pieceLater
)

func (p *piece) append(dst []byte) []byte {
	dst = head(dst, 5)
	dst = rpc.AppendUint(dst, p.number)
	dst = rpc.AppendUint(dst, uint64(p.flags))
	dst = rpc.AppendBytes(dst, p.end)
	dst = rpc.AppendUint(dst, p.checksum())
	return rpc.AppendBytes(dst, p.records)
}

// checksum covers everything in the piece.
func (p *piece) checksum() uint64 {
	var h xxhash.Digest
	h.Reset()
	var b [13]byte
	binary.BigEndian.PutUint64(b[:], p.number)
	b[8] = p.flags
	binary.BigEndian.PutUint32(b[9:], uint32(len(p.end)))
	_, _ = h.Write(b[:])
	_, _ = h.Write(p.end)
	_, _ = h.Write(p.records)
	return h.Sum64()
}

// errChecksum: the piece is not what the source sent.
var errChecksum = errors.New("stream: checksum mismatch")

func decodePiece(src []byte) (p piece, err error) {
	r, more := begin(src, 5)
	p.number = r.Uint()
	flags := r.Uint()
	p.end = r.Bytes()
	sum := r.Uint()
	p.records = r.Bytes()
	if err = end(&r, more); err != nil {
		return p, err
	}
	if flags&^pieceFlags != 0 || len(p.end) > endBytesMax {
		return p, errMessage
	}
	if p.flags = uint8(flags); p.checksum() != sum {
		return p, errChecksum
	}
	return p, nil
}

// head begins a message of n elements behind its version.
func head(dst []byte, n int) []byte {
	return rpc.AppendUint(rpc.AppendArrayHeader(dst, n+1), version)
}

// begin reads what head wrote, and returns how many elements follow the n that are known.
func begin(src []byte, n int) (r rpc.Reader, more int) {
	r = rpc.NewReader(src)
	got := r.ArrayLen()
	if v := r.Uint(); r.Err() != nil || got < n+1 || v != version {
		return rpc.NewReader(nil), 0 // whatever is read of it fails
	}
	return r, got - n - 1
}

// end skips what a newer version has added.
func end(r *rpc.Reader, more int) error {
	for ; more > 0 && r.Err() == nil; more-- {
		r.Skip()
	}
	if err := r.Done(); err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	return nil
}

// recordWriter encodes the records of one chunk.
type recordWriter struct {
	buf  []byte
	last []byte
}

func (w *recordWriter) reset() { w.buf, w.last = w.buf[:0], w.last[:0] }

// add appends a record; it never fails, so that it can be handed to a scan.
func (w *recordWriter) add(key, value []byte) error {
	shared := 0
	for shared < len(key) && shared < len(w.last) && key[shared] == w.last[shared] {
		shared++
	}
	w.buf = binary.AppendUvarint(w.buf, uint64(shared))
	w.buf = binary.AppendUvarint(w.buf, uint64(len(key)-shared))
	w.buf = append(w.buf, key[shared:]...)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(value)))
	w.buf = append(w.buf, value...)
	w.last = append(w.last[:0], key...)
	return nil
}

// eachRecord calls f for the records of a chunk; key is valid during the call only, value aliases src. Errors: errMessage, f's.
func eachRecord(src []byte, f func(key, value []byte) error) error {
	var key []byte
	for len(src) > 0 {
		shared, n := binary.Uvarint(src)
		if n <= 0 || shared > uint64(len(key)) {
			return errMessage
		}
		rest, src2, ok := cutBytes(src[n:])
		if !ok || shared+uint64(len(rest)) > endBytesMax {
			return errMessage
		}
		key = append(key[:shared], rest...)
		var value []byte
		if value, src, ok = cutBytes(src2); !ok {
			return errMessage
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	return nil
}

// cutBytes takes a length and so many bytes off src.
func cutBytes(src []byte) (b, rest []byte, ok bool) {
	size, n := binary.Uvarint(src)
	if n <= 0 || size > uint64(len(src)-n) {
		return nil, nil, false
	}
	return src[n : n+int(size)], src[n+int(size):], true
}

// markKey names the mark of a part of a stream.
func markKey(id ID, table schema.Generation, rg ring.Range) []byte {
	k := binary.BigEndian.AppendUint32(append([]byte{}, id[:]...), uint32(table))
	k = binary.BigEndian.AppendUint64(k, uint64(rg.Start)^1<<63)
	return binary.BigEndian.AppendUint64(k, uint64(rg.End)^1<<63)
}

// mark is how far a part of a stream has come.
type mark struct {
	bytes, records int64
	after          []byte // stream key; empty in a stored one: the part is complete
}

func (m *mark) append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, version), uint64(m.bytes))
	return append(binary.AppendUvarint(dst, uint64(m.records)), m.after...)
}

// decodeMark reads one; false for bytes that are none. after aliases src.
func decodeMark(src []byte) (m mark, ok bool) {
	if len(src) == 0 || src[0] != version {
		return m, false
	}
	b, n := binary.Uvarint(src[1:])
	if n <= 0 || b > math.MaxInt64 {
		return m, false
	}
	r, k := binary.Uvarint(src[1+n:])
	if k <= 0 || r > math.MaxInt64 {
		return m, false
	}
	return mark{int64(b), int64(r), src[1+n+k:]}, true
}
