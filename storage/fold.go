package storage

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/internal/planted"
)

const foldBytesPerOperand = 1024

// foldQueue holds keys whose value was just made of many operands. A full queue drops offers: the next such read offers again.
type foldQueue struct {
	mu      sync.Mutex
	pending map[string]int // operands last seen; a key leaves when it was folded
	keys    chan string
	metrics *Metrics
}

func (q *foldQueue) init(size int, m *Metrics) {
	q.pending = make(map[string]int, size)
	q.keys = make(chan string, size)
	q.metrics = m
}

// offer is called by the merger, in reads and in compactions.
func (q *foldQueue) offer(key []byte, operands int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.pending[string(key)]; ok {
		q.pending[string(key)] = operands
		return
	}
	k := string(key)
	select {
	case q.keys <- k:
		q.pending[k] = operands
	default:
		q.metrics.FoldsDropped.Add(1)
	}
}

// seen returns how many operands the last merge of a pending key had, and forgets the number.
func (q *foldQueue) seen(key string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.pending[key]
	q.pending[key] = 0
	return n
}

func (q *foldQueue) done(key string) {
	q.mu.Lock()
	delete(q.pending, key)
	q.mu.Unlock()
}

func (e *Engine) runFolds() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.failed:
			return
		case key := <-e.folds.keys:
			if err := e.fold(key); err != nil {
				e.opts.Logger.Error("storage: fold", "error", err)
			}
		}
	}
}

// fold replaces the operands of key by their merged value. It holds the stripe exclusively, so that no operand lands between the
// read and the Set.
func (e *Engine) fold(key string) error {
	defer e.folds.done(key)
	if len(key) < partitionOffset || e.reserve.exhausted() {
		return nil
	}
	k := []byte(key)
	s := &e.stripes[e.stripeOf(generationOf(k), tokenOf(k))]
	if !planted.On(planted.FoldWithoutStripe) {
		s.acquire()
		defer s.release()
	}
	if e.isDropped(generationOf(k)) { // under the stripe, as in Batch.Apply: the Set would outlive the range deletion
		return nil
	}
	e.folds.seen(key)
	value, closer, err := e.db.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil // dropped
	}
	if err != nil {
		return fmt.Errorf("read %x: %w", k, err)
	}
	operands := e.folds.seen(key)
	if planted.On(planted.FoldWithoutStripe) {
		time.Sleep(100 * time.Millisecond) // a rare race becomes a frequent one
	}
	// A value of megabytes (very many range tombstones) is rewritten only after operands in proportion.
	if operands > 1 && operands >= len(value)/foldBytesPerOperand {
		// No sync: the log keeps the order, so the Set is never durable without the operands it was made of.
		if err = e.db.Set(k, value, pebble.NoSync); err == nil {
			e.opts.Metrics.Folds.Add(1)
			e.opts.Metrics.FoldedOperand.Add(int64(operands))
		}
	}
	return errors.Join(err, closer.Close())
}
