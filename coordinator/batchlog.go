package coordinator

import (
	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/rpc"
)

// This file is the half of the batchlog that keeps batches for other coordinators; replay.go makes them again.

// Verbs of the batchlog; docs/format/messages.md draws the bodies.
const (
	VerbBatchStore  rpc.Verb = 36 // an id and the mutations of a batch; answer: empty, when it is durable
	VerbBatchRemove rpc.Verb = 37 // ids of batches that were made; answer: empty
)

// BatchlogStore reads the entries that batches put.
type BatchlogStore interface {
	// ScanBatchlog calls fn for the entries with start <= key < end in order until it returns false.
	ScanBatchlog(start, end []byte, fn func(key, value []byte) bool) error
}

func (c *Coordinator) newBatchlog() *batchlog.Log {
	return batchlog.New(batchlog.Options{Age: 2 * c.o.WriteTimeout, Interval: c.o.BatchlogInterval, Rate: c.replayRate, Scan: c.o.Batchlog.ScanBatchlog,
		NewBatch: func() batchlog.Batch { return batchlogBatch{c.o.Storage.NewBatch()} }, Replay: c.replay, Now: c.o.Now, Logger: c.o.Logger})
}

// batchlogBatch is a Batch as package batchlog wants it.
type batchlogBatch struct{ Batch }

func (b batchlogBatch) Commit(done func(error)) { b.Batch.Commit(committedFunc(done)) }

// Batchlog returns the part of the batchlog that this node keeps, for metrics.
func (c *Coordinator) Batchlog() *batchlog.Log { return c.batchlog }

// replayRate is this node's share of the cluster's throttle, in bytes per second; 0: unlimited.
func (c *Coordinator) replayRate() int64 {
	if c.o.BatchlogThrottle <= 0 {
		return 0
	}
	return max(1, c.o.BatchlogThrottle/int64(max(1, len(c.view().state.Ring.Nodes()))))
}

// random is a function of the seed and of how many numbers were drawn before (splitmix64).
func (c *Coordinator) random() uint64 {
	z := c.o.Seed + c.draws.Add(1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// storeBatch keeps a batch for its coordinator. It needs no metadata: what its tables have become is looked at when it is
// replayed.
func (s *replicaSession) storeBatch(req *rpc.Request, rsp rpc.Responder) {
	id, mutations, err := batchlog.DecodeStore(req.Body)
	if err != nil {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	if s.c.view().parting() {
		rsp.Reply(rpc.StatusNotReady, nil)
		return
	}
	s.out = batchlog.AppendValue(s.out[:0], s.c.o.Now(), mutations)
	if err := s.room(len(s.out)).PutBatchlog(id[:], s.out); err != nil {
		rsp.Reply(rpc.StatusFailed, []byte(err.Error()))
		return
	}
	if cap(s.out) > bodyKeptMax {
		s.out = nil
	}
	s.stored = append(s.stored, id)
	if planted.On(planted.BatchlogNotSynced) {
		s.commit()
		rsp.Reply(rpc.StatusOK, nil)
		return
	}
	s.acks = append(s.acks, rsp)
}

// removeBatches forgets batches that were made.
func (s *replicaSession) removeBatches(req *rpc.Request, rsp rpc.Responder) {
	var err error
	if s.removed, err = batchlog.DecodeRemove(s.removed[:0], req.Body); err != nil {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	for i := range s.removed {
		if err := s.room(len(s.removed[i])).DeleteBatchlog(s.removed[i][:]); err != nil {
			rsp.Reply(rpc.StatusFailed, []byte(err.Error()))
			return
		}
	}
	s.acks = append(s.acks, rsp)
}
