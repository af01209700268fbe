package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// SpaceID is the first key byte of a part of the store that another component owns: hints, batches, the node's identity, Paxos state, marks of streams. The
// engine's own ones, 'D', 'L', 'M', 'R' and 'Y', are not available.
type SpaceID byte

// The spaces in use.
const (
	SpaceBatchlog SpaceID = 'B'
	SpaceHints    SpaceID = 'H'
	SpaceNode     SpaceID = 'N'
	SpacePaxos    SpaceID = 'P'
	SpaceStreams  SpaceID = 'S'
)

func (id SpaceID) check() {
	if b := byte(id); b == spaceMarkers || b == spaceRows || b == spaceEngine || b == spaceDeaths || b == spaceLeaves || b == 0xFF {
		panic(fmt.Sprintf("storage: space %q is the engine's own", b))
	}
}

// Space reads ordered byte keys of one space. Writes go through a Batch, together with rows if wanted.
type Space struct {
	e  *Engine
	id SpaceID
}

// Space returns the space id. It panics for the engine's own spaces.
func (e *Engine) Space(id SpaceID) *Space {
	id.check()
	return &Space{e: e, id: id}
}

func (s *Space) key(k []byte) []byte {
	return append(append(make([]byte, 0, len(k)+1), byte(s.id)), k...)
}

// Get returns a copy of k's value, false if there is none. What it returns may not be durable yet.
func (s *Space) Get(k []byte) ([]byte, bool, error) {
	v, closer, err := s.e.db.Get(s.key(k))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("storage: space %q: %w", byte(s.id), err)
	}
	out := append([]byte{}, v...)
	return out, true, closer.Close()
}

// Scan calls fn for the keys in [start, end) in order until it returns false; end nil means to the last key. Keys and values are
// valid during the call only.
func (s *Space) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	upper := []byte{byte(s.id) + 1}
	if end != nil {
		upper = s.key(end)
	}
	it, err := s.e.db.NewIter(&pebble.IterOptions{LowerBound: s.key(start), UpperBound: upper})
	if err != nil {
		return fmt.Errorf("storage: space %q: %w", byte(s.id), err)
	}
	for ok := it.First(); ok && fn(it.Key()[1:], it.Value()); ok = it.Next() {
	}
	return it.Close()
}

// Set adds a write of k in a space; the bytes are copied. What the node keeps for itself, a few bytes now and then, is
// taken on a full disk too, or the node could not start on one. ErrDiskFull, ErrTooLarge, ErrFailed, ErrClosed.
func (b *Batch) Set(id SpaceID, k, v []byte) error {
	id.check()
	check := b.e.writable
	if id == SpaceNode {
		check = b.e.usable
	}
	if err := check(); err != nil {
		return err
	}
	if size, limit := len(k)+len(v), b.e.opts.MutationBytesMax; size > limit || len(k) > keysBytesMax {
		return fmt.Errorf("storage: %d bytes, at most %d: %w", size, limit, ErrTooLarge)
	}
	b.open()
	op := b.pb.SetDeferred(len(k)+1, len(v))
	op.Key[0] = byte(id)
	copy(op.Key[1:], k)
	copy(op.Value, v)
	return op.Finish()
}

// Delete adds a deletion of k. It is taken on a full disk too.
func (b *Batch) Delete(id SpaceID, k []byte) error {
	id.check()
	if b.e.hasFailed() {
		return ErrFailed
	}
	b.open()
	op := b.pb.DeleteDeferred(len(k) + 1)
	op.Key[0] = byte(id)
	copy(op.Key[1:], k)
	return op.Finish()
}

// DeleteRange adds a deletion of the keys in [start, end); end nil means to the last key. It is taken on a full disk too.
func (b *Batch) DeleteRange(id SpaceID, start, end []byte) error {
	id.check()
	if b.e.hasFailed() {
		return ErrFailed
	}
	b.open()
	s := Space{b.e, id}
	upper := []byte{byte(id) + 1}
	if end != nil {
		upper = s.key(end)
	}
	return b.pb.DeleteRange(s.key(start), upper, nil)
}
