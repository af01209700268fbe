package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// clearedSpaces hold what a token range of a table has. The death index is not among them: it is ordered by time, and a purge drops entries of keys
// that are gone.
var clearedSpaces = []byte{spaceRows, spaceMarkers, spacePaxos}

// ClearRanges deletes what a table holds of token ranges, which may wrap: rows, deletions and Paxos registers. It is durable when it returns; found tells
// whether there was anything. Nothing is deleted when still returns false; it is asked when no fold and no purge touches the table any more.
// Writes go on beside it: one of these ranges that is applied meanwhile may go too. A full disk does not keep it from deleting.
// Errors: ErrStuck, ErrFailed, ErrClosed, those of Pebble.
func (e *Engine) ClearRanges(gen schema.Generation, rgs []ring.Range, still func() bool) (found bool, err error) {
	if err := e.usable(); err != nil || e.isDropped(gen) {
		return false, err
	}
	if found, err = e.anyIn(gen, rgs); err != nil || !found {
		return false, err
	}
	for _, rg := range rgs {
		for _, iv := range rg.Intervals(nil) {
			done, err := e.Ingesting(gen, iv) // no leaf that counts the rows is believed, or made meanwhile
			if err != nil {
				return true, err
			}
			defer done()
		}
	}
	if err := e.clear(gen, rgs, still); err != nil {
		return true, fmt.Errorf("storage: clear ranges of generation %d: %w", gen, err)
	}
	return true, nil
}

// anyIn tells whether there is anything in the ranges.
func (e *Engine) anyIn(gen schema.Generation, rgs []ring.Range) (bool, error) {
	for _, rg := range rgs {
		for _, part := range rg.Unwrap() {
			for _, space := range clearedSpaces {
				lower, upper := scanBounds(space, gen, part)
				it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
				if err != nil {
					return false, err
				}
				found := it.First()
				if err := errors.Join(it.Error(), it.Close()); err != nil || found {
					return found, err
				}
			}
		}
	}
	return false, nil
}

// clear holds all stripes shared, as an ingest does: what reads and then Sets, a fold or a purge, holds one exclusively, and would bring a row back.
// See stripe for the order in which readers and the row cache learn of it.
func (e *Engine) clear(gen schema.Generation, rgs []ring.Range, still func() bool) error {
	held := 0
	defer func() {
		for i := range held {
			e.stripes[i].releaseShared()
		}
	}()
	for ; held < len(e.stripes); held++ {
		if !e.stripes[held].acquireShared(held > 0, e.opts.StripeWait) {
			return ErrStuck
		}
	}
	if !still() {
		return nil
	}
	pb := e.db.NewBatch()
	var err error
	for _, rg := range rgs {
		for _, part := range rg.Unwrap() {
			for _, space := range clearedSpaces {
				lower, upper := scanBounds(space, gen, part)
				err = errors.Join(err, pb.DeleteRange(lower, upper, nil))
			}
		}
	}
	if err == nil {
		err = e.applyClear(gen, rgs, pb)
	}
	return errors.Join(err, pb.Close())
}

func (e *Engine) applyClear(gen schema.Generation, rgs []ring.Range, pb *pebble.Batch) error {
	for i := range e.stripes {
		e.stripes[i].applying.Add(1)
	}
	err := e.db.Apply(pb, pebble.Sync)
	for i := range e.stripes { // after an error too: nobody knows how far it came
		e.stripes[i].epoch.Add(1)
		e.stripes[i].markerEpoch.Add(1)
	}
	if e.cache != nil {
		e.cache.dropIf(func(key []byte) bool { return generationOf(key) == gen && containsToken(rgs, tokenOf(key)) })
	}
	for i := range e.stripes {
		e.stripes[i].applying.Add(-1)
	}
	return err
}

func containsToken(rgs []ring.Range, t ring.Token) bool {
	for _, rg := range rgs {
		if rg.Contains(t) {
			return true
		}
	}
	return false
}
