package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// This file is the replica's half of conditional writes: the acceptor of docs/design/0006-paxos.md.

// Registers is where this node keeps the Paxos registers of partitions.
type Registers interface {
	// Register returns a copy of one part of a register, false if there is none. unsynced is not 0 when it is not durable yet.
	Register(gen schema.Generation, token ring.Token, key []byte, part byte) (value []byte, ok bool, unsynced uint64, err error)
	// RegistersFrom returns the cursor of ScanRegisters that begins with a token of a table.
	RegistersFrom(gen schema.Generation, token ring.Token) []byte
	// ScanRegisters calls fn with the part of all registers behind a cursor, nil: of all, until it returns false. They come by generation and token. Bytes are valid in the call.
	ScanRegisters(at []byte, part byte, fn func(at Register, value []byte) bool) (next []byte, err error)
	NewRegisterBatch() RegisterBatch
	// Suspect tells that promises may have been lost: this node does not vote.
	Suspect() bool
}

// Register names the register of a partition.
type Register struct {
	Generation schema.Generation
	Token      ring.Token
	Key        []byte
}

// RegisterBatch collects writes that become visible and durable together; it belongs to one goroutine and can be used again
// after CommitSynced and Discard.
type RegisterBatch interface {
	// Planned, and ErrOtherPlan from ApplyAll and SetRegister, are as in Batch.
	Planned(ringEpoch uint64)
	ApplyAll(ms []row.Mutation) error
	SetRegister(gen schema.Generation, token ring.Token, key []byte, part byte, value []byte) error
	DeleteRegister(gen schema.Generation, token ring.Token, key []byte) error
	// SetLowBound keeps what Options.LowBound is at the next start.
	SetLowBound(micros int64) error
	// CommitSynced makes the batch visible before it returns and calls c when it is durable, in every mode of the store.
	CommitSynced(c Committed)
	Discard()
}

// The parts of a register.
const (
	partHead      byte = 1 // paxos.State without values
	partAccepted  byte = 2 // the value in flight; stale when nothing is
	partCommitted byte = 3 // the value of the last commit
)

const (
	// BallotAheadMax is how far a ballot may be ahead of an acceptor's clock.
	BallotAheadMax = 30 * time.Second
	// commitAgeMin is the shortest age at which a commit is recorded without its rows; gc_grace_seconds if that is longer.
	commitAgeMin = 3 * time.Hour

	acceptorStripes = 1024
)

// acceptor is the node's half of the registers.
type acceptor struct {
	c       *Coordinator
	store   Registers
	stripes [acceptorStripes]chan struct{} // the token of those partitions: look, decide and apply, never wait for the disk
	low     atomic.Int64                   // ballots at or below it are refused; durable
	raising chan struct{}                  // the token of low, taken after that of a stripe: it rises on disk as it does here
	batches chan RegisterBatch             // free list
}

func (a *acceptor) init(c *Coordinator) {
	a.c, a.store = c, c.o.Registers
	a.low.Store(c.o.LowBound)
	a.batches, a.raising = make(chan RegisterBatch, 64), make(chan struct{}, 1)
	for i := range a.stripes {
		a.stripes[i] = make(chan struct{}, 1)
	}
}

func (a *acceptor) stripe(q *ballotRequest) chan struct{} {
	h := (uint64(q.token) ^ uint64(q.generation)<<32) * 0x9E3779B97F4A7C15
	return a.stripes[h>>32%acceptorStripes]
}

// batch returns a batch for what was planned under a RingEpoch.
func (a *acceptor) batch(planned uint64) (b RegisterBatch) {
	select {
	case b = <-a.batches:
	default:
		b = a.store.NewRegisterBatch()
	}
	b.Planned(planned)
	return b
}

func (a *acceptor) giveBack(b RegisterBatch) {
	select {
	case a.batches <- b:
	default:
	}
}

// electorate returns who votes on a partition: the natural replicas and those that are joining, of the local data centre if
// local is set. The first natural ones are natural.
func (t *tablePlan) electorate(dst []*peer, token ring.Token, local bool) (all []*peer, natural int) {
	all, n := t.replicas(dst, token)
	if planted.On(planted.ElectorateWithoutPending) {
		all = all[:n]
	}
	if !local {
		return all, n
	}
	kept := all[:0]
	for i, p := range all {
		if *p.dc.Load() == t.view.localDC {
			kept = append(kept, p)
			if i < n {
				natural++
			}
		}
	}
	return kept, natural
}

// electorateHash names an electorate, whatever the order.
func electorateHash(all []*peer) uint64 {
	ids := make([]ring.HostID, len(all))
	for i, p := range all {
		ids[i] = p.id
	}
	slices.SortFunc(ids, ring.HostID.Compare)
	var d xxhash.Digest
	for i := range ids {
		_, _ = d.Write(ids[i][:])
	}
	return d.Sum64()
}

// eligible tells whether this node may act on a message by the newest metadata: they are those that the message was planned under as
// far as ranges go, and it is one of the electorate that the sender means. For commits and forgetting it is enough that it owns the partition.
func (a *acceptor) eligible(q *ballotRequest) rpc.Status {
	v := a.c.view()
	t := v.table(q.generation)
	if t == nil {
		return rpc.StatusUnknownTable
	}
	if status := v.fence(q.planned); status != rpc.StatusOK {
		return status
	}
	if q.verb != VerbPrepare && q.verb != VerbPeek && q.verb != VerbAccept {
		if !t.owns(v.self, q.token) {
			return rpc.StatusNotOwner
		}
		return rpc.StatusOK
	}
	if a.store.Suspect() {
		return rpc.StatusNotReady
	}
	var buf [2 * replicasInline]*peer
	all, _ := t.electorate(buf[:0], q.token, q.local)
	switch {
	case !slices.Contains(all, v.self):
		return rpc.StatusNotOwner
	case electorateHash(all) != q.electorate:
		return rpc.StatusWrongEpoch
	}
	return rpc.StatusOK
}

// vote acts on one message. done is called once, when what the answer says is durable: from here, or from the store's
// goroutine, where it must not block.
func (a *acceptor) vote(q *ballotRequest, done func(*ballotAnswer)) {
	if status := a.eligible(q); status != rpc.StatusOK {
		done(&ballotAnswer{status: status})
		return
	}
	giveBack := a.takeTokens(q)
	v := ballotVote{a: a, q: q, done: done}
	err := v.decide()
	if err == nil && v.batch != nil && (q.verb == VerbPrepare && planted.On(planted.PromiseNotPersisted) || q.verb == VerbAccept && planted.On(planted.AcceptNotPersisted)) {
		v.batch.CommitSynced(committedFunc(func(error) {}))
		a.giveBack(v.batch)
		v.batch = nil
	}
	if err == nil && v.batch != nil {
		v.batch.CommitSynced(&v)
		a.giveBack(v.batch)
		giveBack()
		return
	}
	giveBack()
	if v.batch != nil {
		v.batch.Discard()
		a.giveBack(v.batch)
	}
	switch {
	case err != nil:
		done(a.failed(err))
	case v.unsynced != 0:
		a.c.o.Storage.WhenSynced(v.unsynced, &v)
	default:
		v.Committed(nil)
	}
}

// takeTokens waits for the token of the partition, and of the low bound for what raises it, and returns what gives them back.
func (a *acceptor) takeTokens(q *ballotRequest) (giveBack func()) {
	stripe := a.stripe(q)
	stripe <- struct{}{}
	if q.verb != VerbForget {
		return func() { <-stripe }
	}
	a.raising <- struct{}{}
	return func() {
		<-a.raising
		<-stripe
	}
}

func (a *acceptor) failed(err error) *ballotAnswer {
	if errors.Is(err, ErrOtherPlan) {
		return &ballotAnswer{status: rpc.StatusWrongEpoch}
	}
	if a.c.o.IsUnknownTable(err) {
		return &ballotAnswer{status: rpc.StatusUnknownTable}
	}
	a.c.o.Logger.Debug("ballot refused", "err", err)
	return &ballotAnswer{status: rpc.StatusFailed, text: err.Error()}
}

// ballotVote is one message on its way through the acceptor.
type ballotVote struct {
	a        *acceptor
	q        *ballotRequest
	done     func(*ballotAnswer)
	answer   ballotAnswer
	state    paxos.State
	batch    RegisterBatch // nil: nothing to write
	unsynced uint64        // with nothing to write: what the answer shows is durable then
}

// Committed implements Committed: the answer may leave, if the node still has a say.
func (v *ballotVote) Committed(err error) {
	if err != nil {
		v.done(v.a.failed(err))
		return
	}
	if status := v.a.eligible(v.q); status != rpc.StatusOK {
		v.done(&ballotAnswer{status: status})
		return
	}
	v.done(&v.answer)
}

// decide looks at the register and fills answer and batch. It holds the token of the stripe.
func (v *ballotVote) decide() error {
	if err := v.load(); err != nil {
		return err
	}
	switch v.q.verb {
	case VerbPrepare:
		return v.prepare()
	case VerbPeek:
		v.answer.promise = v.state.Peek()
		v.leaveOut()
		return v.read()
	case VerbAccept:
		return v.accept()
	case VerbCommit:
		return v.commit()
	}
	return v.forget()
}

func (v *ballotVote) load() error {
	head, ok, unsynced, err := v.a.store.Register(v.q.generation, v.q.token, v.q.key, partHead)
	if err != nil {
		return err
	}
	v.unsynced = unsynced
	if !ok {
		return nil
	}
	if v.state, err = paxos.DecodeHead(head); err != nil {
		return fmt.Errorf("coordinator: the register of a partition: %w", err)
	}
	return nil
}

func (v *ballotVote) part(part byte) (value []byte, err error) {
	value, _, _, err = v.a.store.Register(v.q.generation, v.q.token, v.q.key, part)
	if len(value) == 0 {
		value = nil
	}
	return value, err
}

// values adds those of the values that the answer carries.
func (v *ballotVote) values() (err error) {
	p := &v.answer.promise
	if !p.Accepted.Ballot.IsZero() {
		if p.Accepted.Value, err = v.part(partAccepted); err != nil {
			return err
		}
	}
	if !v.answer.valueless {
		p.Committed.Value, err = v.part(partCommitted)
	}
	return err
}

// leaveOut tells that the asker needs no values.
func (v *ballotVote) leaveOut() { v.answer.valueless = true }

func (v *ballotVote) bounds() paxos.Bounds {
	return paxos.Bounds{Low: v.a.low.Load(), High: v.a.c.o.Now().Add(BallotAheadMax).UnixMicro()}
}

var errAhead = errors.New("the ballot is too far ahead of this node's clock")

func (v *ballotVote) prepare() error {
	var verdict paxos.Verdict
	v.answer.promise, verdict = v.state.Prepare(v.q.ballot, v.bounds())
	switch verdict {
	case paxos.Ahead:
		v.a.c.metrics.BallotsAhead.Add(1)
		return errAhead
	case paxos.Refused:
		return nil
	}
	v.state.Local = v.q.local
	if v.answer.promise.Committed.Ballot == v.q.known {
		v.leaveOut()
	}
	if err := v.values(); err != nil {
		return err
	}
	// The page is read before the batch gets its place in the log: when the batch is durable, so is what the page shows.
	if err := v.read(); err != nil {
		return err
	}
	return v.write()
}

// read answers the commands, or none of them when all together are too large: then they are read one by one.
func (v *ballotVote) read() error {
	v.answer.pages = make([]row.Page, len(v.q.commands))
	size := 0
	for i := range v.q.commands {
		if size > replyBytesMax {
			v.answer.leaveOutPages()
			return nil
		}
		cmd := &v.q.commands[i]
		cmd.Bytes = min(cmd.Bytes, replyBytesMax)
		seq, err := v.a.c.o.Storage.Read(cmd, &v.answer.pages[i])
		if err != nil {
			return err
		}
		v.unsynced = max(v.unsynced, seq)
		size += len(v.answer.pages[i].Data)
	}
	return nil
}

// write adds the register, without its values, to the batch.
func (v *ballotVote) write() error {
	if v.batch == nil {
		v.batch = v.a.batch(v.q.planned)
	}
	return v.set(partHead, v.state.AppendHead(nil))
}

func (v *ballotVote) set(part byte, value []byte) error {
	return v.batch.SetRegister(v.q.generation, v.q.token, v.q.key, part, value)
}

func (v *ballotVote) accept() error {
	obstacle, verdict := v.state.Accept(v.q.proposal, v.bounds())
	switch verdict {
	case paxos.Ahead:
		v.a.c.metrics.BallotsAhead.Add(1)
		return errAhead
	case paxos.Refused:
		v.answer.obstacle, v.answer.never = obstacle, v.state.NeverTook(v.q.proposal.Ballot)
		return nil
	}
	v.answer.accepted, v.state.Local = true, v.q.local
	if err := v.write(); err != nil {
		return err
	}
	return v.set(partAccepted, v.q.proposal.Value)
}

func (v *ballotVote) commit() error {
	p := v.q.proposal
	news := v.state.Commit(p)
	if !news && p.Ballot == v.state.Committed.Ballot {
		return nil // the answer waits until that is durable
	}
	v.batch = v.a.batch(v.q.planned)
	if v.a.c.appliesCommit(v.q.generation, p.Origin) {
		ms, err := decodeMutations(p.Value)
		if err != nil {
			return err
		}
		if err := v.batch.ApplyAll(ms); err != nil {
			return err
		}
	}
	if err := v.write(); err != nil || !news {
		return err
	}
	return v.set(partCommitted, p.Value)
}

// appliesCommit tells whether the rows of a commit are still to be written: a tombstone that was over them may be gone
// after gc_grace_seconds.
func (c *Coordinator) appliesCommit(gen schema.Generation, made paxos.Ballot) bool {
	t := c.view().table(gen)
	if t == nil {
		return true // the batch says so
	}
	age := time.Duration(c.o.Now().UnixMicro()-made.Micros) * time.Microsecond
	return age < max(commitAgeMin, time.Duration(t.table.Options.GCGraceSeconds)*time.Second)
}

// forget drops the register if nothing happened to it since it was found finished, and raises the low bound over it.
func (v *ballotVote) forget() error {
	s := &v.state
	if s.Committed.Ballot != v.q.ballot || !s.Finished() || !s.Accepted.Ballot.IsZero() {
		return nil
	}
	v.batch = v.a.batch(v.q.planned)
	low := max(v.a.low.Load(), s.Promised.Micros)
	if err := v.batch.SetLowBound(low); err != nil {
		return err
	}
	if err := v.batch.DeleteRegister(v.q.generation, v.q.token, v.q.key); err != nil {
		return err
	}
	v.a.low.Store(low)
	return nil
}

// ballot handles a message about a ballot that came over the network.
func (s *replicaSession) ballot(req *rpc.Request, rsp rpc.Responder) {
	s.Flush() // a batch that holds partitions must not wait for one that wants to
	c := s.c
	if c.o.Registers == nil {
		rsp.Reply(rpc.StatusNotReady, nil)
		return
	}
	q := &ballotRequest{}
	if q.decode(req.Verb, req.Body) != nil {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	status := c.acceptor.eligible(q)
	behind := c.lags(status, q.planned, req.Epoch)
	if !behind && !c.stalling() && c.allPoints(q.commands) {
		c.acceptor.vote(q, ballotReply(q.verb, rsp))
		return
	}
	body, from, epoch, deadline := append([]byte(nil), req.Body...), s.from, max(req.Epoch, q.planned), req.Deadline
	verb := req.Verb
	s.later(rsp, func() {
		if behind {
			c.catchUp(from, epoch, deadline)
		}
		q := &ballotRequest{}
		if q.decode(verb, body) != nil {
			rsp.Reply(rpc.StatusBadRequest, nil)
			return
		}
		c.acceptor.vote(q, ballotReply(verb, rsp))
	})
}

func (c *Coordinator) allPoints(cmds []row.Command) bool {
	for i := range cmds {
		if !c.isPoint(&cmds[i]) {
			return false
		}
	}
	return true
}

// ballotReply answers. A promise that its proposer does not hear of binds nobody: it may get lost like what a peek shows.
func ballotReply(verb rpc.Verb, rsp rpc.Responder) func(*ballotAnswer) {
	return func(a *ballotAnswer) {
		switch {
		case a.status != rpc.StatusOK:
			rsp.ReplyText(a.status, a.text)
		case verb == VerbPrepare || verb == VerbPeek:
			rsp.ReplyRead(a.fitted(verb, rpc.BodyMax))
		default:
			rsp.Reply(rpc.StatusOK, a.fitted(verb, rpc.BodyMax))
		}
	}
}
