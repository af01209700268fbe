package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// A stream key names a record of a snapshot: what follows space and generation in the key of a row, so that all a partition has is
// together and in order (docs/format/streaming.md).
//
//	token u64 | partition key, escaped | 00 01 | kind u8 | rest
const (
	kindMarkers  byte = 0x08 // rest: none; value: the fragment of the marker space
	kindRegister byte = 0x30 // rest: none; value: the parts of the Paxos register, see appendRegisterParts
)

// Snapshot is what one table holds of a token range, as of one moment. It belongs to one goroutine. While it is open compactions
// keep what it shows and no purge touches the range, so it must not live long.
type Snapshot struct {
	e         *Engine
	pebble    *pebble.Snapshot
	gen       schema.Generation
	rg        ring.Range
	registers bool
	release   func()

	rows, marks, regs stream
	prefix, key       []byte // of the partition and of the record at hand, without space and generation
	dead              *deadMarkers
	value             []byte
}

// stream walks one space of a snapshot.
type stream struct {
	it *pebble.Iterator // nil: nothing (more) there
	ok bool
}

// Snapshot opens one of a range that must not wrap. With registers it shows the Paxos registers too. Close it. ErrUnknownTable,
// ErrBadCommand, ErrClosed, ErrFailed.
func (e *Engine) Snapshot(gen schema.Generation, rg ring.Range, registers bool) (*Snapshot, error) {
	if err := e.usable(); err != nil {
		return nil, err
	}
	if _, ok := e.opts.Tables.Table(gen); !ok || e.isDropped(gen) {
		return nil, fmt.Errorf("storage: snapshot of generation %d: %w", gen, ErrUnknownTable)
	}
	if rg.Wraps() && rg.End != ring.MinToken {
		return nil, fmt.Errorf("%w: range %v wraps", ErrBadCommand, rg)
	}
	release := e.HoldPurge(gen, rg)
	return &Snapshot{e: e, pebble: e.db.NewSnapshot(), gen: gen, rg: rg, registers: registers, release: release}, nil
}

// Close ends the snapshot.
func (s *Snapshot) Close() error {
	s.release()
	return s.pebble.Close()
}

// Bytes estimates what the range takes on disk.
func (s *Snapshot) Bytes() uint64 {
	n, err := s.e.DiskUsageRange(s.gen, s.rg)
	if err != nil {
		return 0
	}
	return n
}

// Scan calls fn for the records after the stream key after (empty: from the start), ascending, until about budget bytes of the store
// were looked at, at least one record, or fn returns an error. What the partition's own deletions shadow is left out: they come
// before it. It returns the stream key up to which all was looked at, nil if nothing was, and whether that was the end. Keys and
// values are valid during the call only; end belongs to the caller. Errors: fn's, ctx's, ErrUnknownTable, those of Pebble.
func (s *Snapshot) Scan(ctx context.Context, after []byte, budget int, fn func(key, value []byte) error) (end []byte, done bool, err error) {
	if s.e.isDropped(s.gen) {
		return nil, false, fmt.Errorf("storage: snapshot of generation %d: %w", s.gen, ErrUnknownTable)
	}
	s.key = s.key[:0]
	err = s.open(after)
	if err == nil {
		done, err = s.walk(ctx, after, budget, fn)
	}
	if err = errors.Join(err, s.closeStreams()); err != nil {
		return nil, false, fmt.Errorf("storage: scan of generation %d: %w", s.gen, err)
	}
	if len(s.key) > 0 {
		end = slices.Clone(s.key)
	}
	return end, done, nil
}

// open places the iterators behind the stream key after.
func (s *Snapshot) open(after []byte) (err error) {
	n := 0
	if len(after) > 0 {
		if n, err = splitStreamKey(after); err != nil {
			return err
		}
	}
	if s.rows, err = s.stream(spaceRows, after, true); err != nil {
		return err
	}
	// The deletions of a partition that was begun are needed for the rest of it.
	if s.e.markers.any(s.gen) {
		if s.marks, err = s.stream(spaceMarkers, after[:n], false); err != nil {
			return err
		}
	}
	if s.registers {
		begun := len(after) > 0 && after[n] == kindRegister
		s.regs, err = s.stream(spacePaxos, after[:n], begun)
	}
	return err
}

// stream returns an iterator over a space, from the key after on; behind all keys that begin with it if past.
func (s *Snapshot) stream(space byte, after []byte, past bool) (stream, error) {
	lower, upper := scanBounds(space, s.gen, s.rg)
	if len(after) > 0 {
		from := append(appendGeneration(nil, space, s.gen), after...)
		switch {
		case past && space == spacePaxos:
			from = prefixSuccessor(nil, from)
		case past:
			from = append(from, 0)
		}
		if bytes.Compare(from, lower) > 0 {
			lower = from
		}
	}
	if bytes.Compare(lower, upper) >= 0 {
		return stream{}, nil
	}
	it, err := s.pebble.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return stream{}, err
	}
	return stream{it, it.First()}, nil
}

func (s *Snapshot) closeStreams() (err error) {
	for _, x := range []*stream{&s.rows, &s.marks, &s.regs} {
		if x.it != nil {
			err = errors.Join(err, x.it.Close())
		}
		*x = stream{}
	}
	return err
}

// partition returns the partition prefix under the iterator, without space and generation; nil at the end.
func (x *stream) partition(space byte) []byte {
	if !x.ok {
		return nil
	}
	key := x.it.Key()
	n := len(key)
	switch space {
	case spaceRows:
		n = split(key)
	case spacePaxos:
		n-- // the part
	}
	return key[tokenOffset:n]
}

// walk hands out the partitions one by one.
func (s *Snapshot) walk(ctx context.Context, after []byte, budget int, fn func(key, value []byte) error) (done bool, err error) {
	for budget > 0 && s.next() {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		s.dead = nil
		for _, part := range []func([]byte, *int, func(key, value []byte) error) error{s.giveMarkers, s.giveRows, s.giveRegister} {
			if err := part(after, &budget, fn); err != nil {
				return false, err
			}
			if budget <= 0 && s.inside() {
				return false, nil
			}
		}
	}
	for _, x := range []*stream{&s.rows, &s.marks, &s.regs} {
		if x.it != nil {
			err = errors.Join(err, x.it.Error())
		}
	}
	return !s.rows.ok && !s.marks.ok && !s.regs.ok, err
}

// next sets s.prefix to the smallest partition under the iterators.
func (s *Snapshot) next() bool {
	var first []byte
	for _, p := range [][]byte{s.rows.partition(spaceRows), s.marks.partition(spaceMarkers), s.regs.partition(spacePaxos)} {
		if p != nil && (first == nil || bytes.Compare(p, first) < 0) {
			first = p
		}
	}
	s.prefix = append(s.prefix[:0], first...)
	return first != nil
}

// inside tells whether the partition at hand has more rows or a register.
func (s *Snapshot) inside() bool {
	return bytes.Equal(s.rows.partition(spaceRows), s.prefix) || bytes.Equal(s.regs.partition(spacePaxos), s.prefix)
}

func (s *Snapshot) giveMarkers(after []byte, budget *int, fn func(key, value []byte) error) error {
	if !bytes.Equal(s.marks.partition(spaceMarkers), s.prefix) {
		return nil
	}
	value, err := s.marks.it.ValueAndErr()
	if err != nil {
		return err
	}
	if s.dead, err = decodeDeletions(value, func(row.Deletion) bool { return true }); err != nil {
		return err
	}
	if !bytes.HasPrefix(after, s.prefix) { // else it was handed out before
		s.key = append(append(s.key[:0], s.prefix...), kindMarkers)
		*budget -= len(s.key) + len(value)
		if err := fn(s.key, value); err != nil {
			return err
		}
	}
	s.marks.ok = s.marks.it.Next()
	return nil
}

func (s *Snapshot) giveRows(_ []byte, budget *int, fn func(key, value []byte) error) error {
	n := len(s.prefix)
	for s.rows.ok && *budget > 0 && bytes.Equal(s.rows.partition(spaceRows), s.prefix) {
		value, err := s.rows.it.ValueAndErr()
		if err != nil {
			return err
		}
		s.key = append(s.key[:0], s.rows.it.Key()[tokenOffset:]...)
		*budget -= len(s.key) + len(value)
		if s.dead != nil {
			if d := s.dead.over(s.key[n], s.key[n+1:]); !d.Live() {
				if s.value, err = row.Shadow(s.value[:0], value, d); err != nil {
					return err
				}
				value = s.value
			}
		}
		if len(value) > 0 {
			if err := fn(s.key, value); err != nil {
				return err
			}
		}
		s.rows.ok = s.rows.it.Next()
	}
	return nil
}

func (s *Snapshot) giveRegister(_ []byte, budget *int, fn func(key, value []byte) error) error {
	if *budget <= 0 || !bytes.Equal(s.regs.partition(spacePaxos), s.prefix) {
		return nil
	}
	var parts [RegisterParts][]byte
	for s.regs.ok && bytes.Equal(s.regs.partition(spacePaxos), s.prefix) {
		k := s.regs.it.Key()
		part := k[len(k)-1]
		if part < 1 || part > RegisterParts {
			return fmt.Errorf("register %x: %w", k, errBadKey)
		}
		value, err := s.regs.it.ValueAndErr()
		if err != nil {
			return err
		}
		parts[part-1] = append([]byte{}, value...)
		s.regs.ok = s.regs.it.Next()
	}
	s.key = append(append(s.key[:0], s.prefix...), kindRegister)
	s.value = appendRegisterParts(s.value[:0], parts)
	*budget -= len(s.key) + len(s.value)
	return fn(s.key, s.value)
}

// appendRegisterParts appends the parts of a register, each as its length plus one (0: there is none) and its bytes.
func appendRegisterParts(dst []byte, parts [RegisterParts][]byte) []byte {
	for _, p := range parts {
		if p == nil {
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(len(p))+1)
		dst = append(dst, p...)
	}
	return dst
}

// decodeRegisterParts is its reverse; the parts alias src. False: malformed.
func decodeRegisterParts(src []byte) (parts [RegisterParts][]byte, ok bool) {
	for i := range parts {
		size, n := binary.Uvarint(src)
		if n <= 0 {
			return parts, false
		}
		src = src[n:]
		if size == 0 {
			continue
		}
		if size--; size > uint64(len(src)) {
			return parts, false
		}
		parts[i], src = src[:size:size], src[size:]
	}
	return parts, len(src) == 0
}

// splitStreamKey returns the length of a stream key's partition prefix; a kind follows it.
func splitStreamKey(key []byte) (int, error) {
	for at := 8; at <= len(key); {
		i := bytes.IndexByte(key[at:], 0)
		if i < 0 || at+i+1 >= len(key) {
			break
		}
		mark := key[at+i+1]
		if at += i + 2; mark == partitionEnd && at < len(key) {
			return at, nil
		} else if mark != partitionEscape {
			break
		}
	}
	return 0, fmt.Errorf("storage: stream key %x: %w", key, ErrBadRecord)
}
