package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

const (
	spacePaxos   = byte(SpacePaxos)
	registerHead = 1 // the part that every register has
)

// appendRegister appends the key of one part of a partition's Paxos register (docs/format/storage-keys.md).
func appendRegister(dst []byte, gen schema.Generation, token ring.Token, key []byte, part byte) []byte {
	return append(appendPartition(dst, spacePaxos, gen, token, key), part)
}

// Register returns a copy of one part of a partition's Paxos register, false if there is none. When unsynced is not 0 it may not
// be durable yet, also under Periodic: WhenSynced tells.
func (e *Engine) Register(gen schema.Generation, token ring.Token, key []byte, part byte) (value []byte, ok bool, unsynced Seq, err error) {
	v, closer, err := e.db.Get(appendRegister(nil, gen, token, key, part))
	missing := errors.Is(err, pebble.ErrNotFound)
	if err != nil && !missing {
		return nil, false, 0, fmt.Errorf("storage: register of generation %d: %w", gen, err)
	}
	if unsynced = e.stripes[e.stripeOf(gen, token)].last.Load(); e.pipe.isSynced(unsynced) {
		unsynced = 0
	}
	if missing {
		return nil, false, unsynced, nil
	}
	value = append([]byte{}, v...)
	return value, true, unsynced, closer.Close()
}

// RegisterHead is one register of a ScanRegisters walk. Its bytes are valid during the call only.
type RegisterHead struct {
	Generation schema.Generation
	Token      ring.Token
	Key, Value []byte
}

// RegistersFrom returns the cursor of ScanRegisters that begins with a token of a generation.
func RegistersFrom(gen schema.Generation, token ring.Token) []byte {
	return appendToken(nil, spacePaxos, gen, token)[1:]
}

// ScanRegisters calls fn for the given part of all registers in key order, those behind the cursor at first (nil: all), until
// it returns false, and returns the cursor to go on from; nil at the end.
func (e *Engine) ScanRegisters(at []byte, part byte, fn func(RegisterHead) bool) (next []byte, err error) {
	lower := append([]byte{spacePaxos}, at...)
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{spacePaxos + 1}})
	if err != nil {
		return nil, fmt.Errorf("storage: registers: %w", err)
	}
	var buf []byte
	for ok := it.First(); ok; ok = it.Next() {
		k := it.Key()
		p, n, err := decodePartition(buf, k)
		if err != nil || n+1 != len(k) {
			return nil, errors.Join(fmt.Errorf("storage: register %x: %w", k, errBadKey), it.Close())
		}
		buf = p.key
		if k[n] == part && !fn(RegisterHead{p.generation, p.token, p.key, it.Value()}) {
			next = append(append([]byte{}, k[1:]...), 0)
			return next, it.Close()
		}
	}
	return nil, it.Close()
}

// SetRegister adds a write of one part of a partition's Paxos register; the bytes are copied. It holds the partition's stripe,
// so that a reader of the partition waits until the register is durable, and DropGeneration sees it. Errors as of Apply.
func (b *Batch) SetRegister(gen schema.Generation, token ring.Token, key []byte, part byte, value []byte) error {
	e := b.e
	if err := e.writable(); err != nil {
		return err
	}
	if size := len(key) + len(value); size > e.opts.MutationBytesMax || len(key) == 0 || len(key) > ring.ComponentBytesMax {
		return fmt.Errorf("storage: register of %d bytes: %w", size, ErrTooLarge)
	}
	if _, ok := e.opts.Tables.Table(gen); !ok {
		return fmt.Errorf("storage: register of generation %d: %w", gen, ErrUnknownTable)
	}
	if err := b.hold(e.stripeOf(gen, token)); err != nil {
		return err
	}
	if e.isDropped(gen) {
		return fmt.Errorf("storage: register of generation %d: %w", gen, ErrUnknownTable)
	}
	b.open()
	b.prefix = appendRegister(b.prefix[:0], gen, token, key, part)
	return b.pb.Set(b.prefix, value, nil)
}

// RegisterParts is how many parts a register can have: 1 to RegisterParts.
const RegisterParts = 3

// DeleteRegister adds the deletion of all parts of a partition's register. It is taken on a full disk too.
func (b *Batch) DeleteRegister(gen schema.Generation, token ring.Token, key []byte) error {
	if err := b.e.usable(); err != nil {
		return err
	}
	if err := b.hold(b.e.stripeOf(gen, token)); err != nil {
		return err
	}
	b.open()
	for part := byte(1); part <= RegisterParts; part++ {
		b.prefix = appendRegister(b.prefix[:0], gen, token, key, part)
		if err := b.pb.Delete(b.prefix, nil); err != nil {
			return fmt.Errorf("storage: delete register: %w", err)
		}
	}
	return nil
}

// CommitSynced is Commit, but c is called when the batch is on disk under Periodic too.
func (b *Batch) CommitSynced(c Committed) { b.commit(c) }
