package coordinator

import (
	"encoding/binary"
	"errors"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// The bodies of VerbCount, drawn in docs/format/messages.md.
const (
	countVersion    = 1
	countHeaderLen  = 19 // version, number, level, RingEpoch
	countAnswerLen  = 2
	hostIDLen       = len(ring.HostID{})
	countFailureLen = hostIDLen + 2
	failuresMax     = 1 << 10
)

// What a leader answers with StatusOK.
const (
	countAcked       = 0
	countUnavailable = 1 // nothing is applied
	countTimeout     = 2
	countFailure     = 3
)

// appendCountHeader appends what stands before the mutations of a request, without its number and what it is planned under.
func appendCountHeader(dst []byte, level Level) []byte {
	dst = append(dst, countVersion, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(level))
	return binary.BigEndian.AppendUint64(dst, 0)
}

// planCount says under which RingEpoch a request is planned.
func planCount(request []byte, planned uint64) { binary.BigEndian.PutUint64(request[11:], planned) }

// numberCount gives a request its number, a new one for each time that it is sent.
func numberCount(request []byte, number uint64) { binary.BigEndian.PutUint64(request[1:], number) }

// decodeCount splits a request; ok is false for bytes that are none.
func decodeCount(src []byte) (number uint64, level Level, planned uint64, mutations []byte, ok bool) {
	if len(src) <= countHeaderLen || src[0] != countVersion {
		return 0, 0, 0, nil, false
	}
	return binary.BigEndian.Uint64(src[1:]), Level(binary.BigEndian.Uint16(src[9:])), binary.BigEndian.Uint64(src[11:]), src[countHeaderLen:], true
}

// appendCountAnswer appends how a counter write ended: nil, *Unavailable, *WriteTimeout or *WriteFailure.
func appendCountAnswer(dst []byte, err error) []byte {
	var (
		unavailable *Unavailable
		timeout     *WriteTimeout
		failure     *WriteFailure
	)
	two := func(kind byte, a, b int) {
		dst = binary.AppendUvarint(append(dst, countVersion, kind), uint64(a))
		dst = binary.AppendUvarint(dst, uint64(b))
	}
	switch {
	case err == nil:
		dst = append(dst, countVersion, countAcked)
	case errors.As(err, &unavailable):
		two(countUnavailable, unavailable.Required, unavailable.Alive)
	case errors.As(err, &failure):
		two(countFailure, failure.Received, failure.BlockFor)
		dst = binary.AppendUvarint(dst, uint64(len(failure.Failures)))
		for _, f := range failure.Failures {
			dst = binary.BigEndian.AppendUint16(append(dst, f.Host[:]...), f.Code)
			dst = append(binary.AppendUvarint(dst, uint64(len(f.Why))), f.Why...)
		}
	case errors.As(err, &timeout):
		two(countTimeout, timeout.Received, timeout.BlockFor)
	default:
		two(countTimeout, 0, 0)
	}
	return dst
}

// errMalformed is the answer of a leader that does not decode: what became of the write is not known.
var errMalformed = errors.New("coordinator: malformed answer of a leader replica")

// decodeCountAnswer is the inverse of appendCountAnswer for a write at a level.
func (c *Coordinator) decodeCountAnswer(src []byte, level Level) error {
	if len(src) < countAnswerLen || src[0] != countVersion {
		return errMalformed
	}
	kind, d := src[1], numbers{src[2:], true}
	if kind == countAcked {
		return nil
	}
	a, b := d.next(), d.next()
	switch {
	case !d.ok:
		return errMalformed
	case kind == countUnavailable:
		return &Unavailable{Level: level, Required: a, Alive: b}
	case kind == countTimeout:
		return &WriteTimeout{Level: level, Received: a, BlockFor: b, Type: CounterWrite}
	case kind == countFailure:
		if list, ok := c.decodeFailures(&d); ok {
			return &WriteFailure{Level: level, Received: a, BlockFor: b, Type: CounterWrite, Failures: list}
		}
	}
	return errMalformed
}

func (c *Coordinator) decodeFailures(d *numbers) (list []Failure, ok bool) {
	for n := d.next(); n > 0; n-- {
		if n > failuresMax || len(d.b) < countFailureLen {
			return nil, false
		}
		f := c.peers.of(ring.HostID(d.b[:hostIDLen])).failure(binary.BigEndian.Uint16(d.b[hostIDLen:]))
		d.b = d.b[countFailureLen:]
		size := d.next()
		if size > min(len(d.b), whyBytesMax) {
			return nil, false
		}
		f.Why, d.b = string(d.b[:size]), d.b[size:]
		list = append(list, f)
	}
	return list, d.ok
}

// numbers reads unsigned varints that are no larger than an int32.
type numbers struct {
	b  []byte
	ok bool
}

func (d *numbers) next() int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > 1<<31-1 {
		d.b, d.ok = nil, false
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

// refusal says that a leader has done nothing of what it was asked.
type refusal struct {
	status rpc.Status
	why    string
}

// Error names the status and what the leader says.
func (r *refusal) Error() string { return "counter write refused: " + r.status.String() + " " + r.why }
