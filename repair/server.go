package repair

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

const (
	servedMax   = 8               // requests of others that are answered at a time; more are told to try again
	tallyTime   = 2 * time.Second // after which a tally is answered with what it has come to
	answerBytes = 1 << 20         // of content in one answer
	skewMax     = 60              // seconds: a horizon further ahead of this node's clock is refused
)

// Errors of a replica, in the statuses of answers.
var (
	errNotOwner  = errors.New("repair: the node is no replica of these tokens")
	errSkew      = errors.New("repair: the leader's clock is ahead")
	errNoSuch    = errors.New("repair: unknown table")
	errWrongTime = errors.New("repair: the node's metadata is behind")
)

// compare orders entries as a scan meets them.
func (e *entry) compare(o *entry) int {
	c := cmp.Compare(e.token, o.token)
	if c == 0 {
		c = bytes.Compare(e.key, o.key)
	}
	if c == 0 && e.static != o.static {
		if c = 1; e.static {
			c = -1
		}
	}
	if c == 0 {
		c = bytes.Compare(e.ckey, o.ckey)
	}
	return c
}

// replica answers what a session asks of one of them: this node, or another one.
type replica interface {
	host() ring.HostID
	hello(ctx context.Context, q *hello) (helloAnswer, error)
	finish(ctx context.Context, q *finishRequest) error
	// oldest says when the oldest conditional write was made that this replica may have written again to those that lack it.
	oldest(ctx context.Context, q *finishRequest) (waitingAnswer, error)
	tally(ctx context.Context, q *tallyRequest) (tallyAnswer, error)
	list(ctx context.Context, q *listRequest) (listsAnswer, error)
	fetch(ctx context.Context, q *fetchRequest) (fetchAnswer, error)
	// apply makes mutations durable before it returns.
	apply(ctx context.Context, ms []row.Mutation) error
	// fill fetches tokens from another replica by a stream.
	fill(ctx context.Context, q *fillRequest) (fillAnswer, error)
}

// local is this node as a replica.
type local struct{ o *Options }

func (l local) host() ring.HostID { return l.o.Self }

func (l local) waiting(context.Context, *waitingRequest) (a waitingAnswer, err error) {
	since, some, err := l.o.Waiting()
	if a.since = noneWaits; some {
		a.since = since
	}
	return a, err
}

// repaired records what a session led by another node has achieved.
func (l local) repaired(ctx context.Context, q *repairedRequest) error {
	if q.entry.At > l.o.Now().Unix()+skewMax || q.entry.Before > q.entry.At {
		return errSkew
	}
	if _, err := l.table(q.generation, q.entry.Tokens); err != nil {
		return err
	}
	if l.o.Cluster.Lost(q.entry.Replicas, q.entry.At) { // who led the session may not have heard of it
		q.entry.Before = history.None
	}
	return l.o.History.Put(ctx, q.generation, q.entry)
}

func (l local) hello(_ context.Context, q *hello) (a helloAnswer, err error) {
	t, err := l.table(q.generation, q.tokens)
	if err != nil {
		return a, err
	}
	a.now = l.o.Now().Unix()
	a.gcBefore = l.o.GCBefore(t, q.tokens, a.now)
	return a, nil
}

// table returns a table that this node has, if it is a replica of tokens.
func (l local) table(gen schema.Generation, tokens ring.Interval) (*schema.Table, error) {
	t, ok := l.o.Cluster.Table(gen)
	if !ok {
		return nil, errNoSuch
	}
	if !l.o.Cluster.Owns(gen, tokens) {
		return nil, errNotOwner
	}
	return t, nil
}

func (l local) check(gen schema.Generation, tokens ring.Interval, at row.Purge) error {
	if at.Now > l.o.Now().Unix()+skewMax {
		return errSkew
	}
	_, err := l.table(gen, tokens)
	return err
}

func (l local) finish(ctx context.Context, q *finishRequest) error {
	if _, err := l.table(q.generation, q.tokens); err != nil || l.o.Registers == nil {
		return err
	}
	return l.o.Registers.FinishRange(ctx, q.generation, q.tokens)
}

func (l local) oldest(_ context.Context, q *finishRequest) (waitingAnswer, error) {
	a := waitingAnswer{noneWaits}
	if _, err := l.table(q.generation, q.tokens); err != nil || l.o.Registers == nil {
		return a, err
	}
	since, some, err := l.o.Registers.OldestIn(q.generation, q.tokens)
	if some {
		a.since = since
	}
	return a, err
}

func (l local) tally(ctx context.Context, q *tallyRequest) (a tallyAnswer, err error) {
	whole := ring.Interval{First: q.spans[0].First, Last: q.spans[len(q.spans)-1].Last}
	if err := l.check(q.generation, whole, q.at); err != nil {
		return a, err
	}
	until := time.Now().Add(tallyTime)
	for rest := q.spans; len(rest) > 0; rest = q.spans[len(a.tallies):] {
		if !q.keep && !q.fresh {
			ts, err := l.o.Store.TallyParts(ctx, Tally{Generation: q.generation, At: q.at}, rest)
			if err != nil {
				return a, err
			}
			if len(ts) > 0 {
				a.tallies, a.covered = append(a.tallies, ts...), rest[len(ts)-1].Last
				continue
			}
		}
		t, covered, err := l.o.Store.Tally(ctx, Tally{Generation: q.generation, At: q.at, Tokens: rest[0], Keep: q.keep, Fresh: q.fresh, Until: until})
		if err != nil {
			return a, err
		}
		a.tallies, a.covered = append(a.tallies, t), covered
		if covered < rest[0].Last || !time.Now().Before(until) {
			break
		}
	}
	return a, nil
}

// command reads all there is at tokens.
func command(gen schema.Generation, at row.Purge, tokens ring.Interval) row.Command {
	first := max(tokens.First, ring.MinToken+1) // no key has the token MinToken
	return row.Command{Generation: gen, Now: at.Now, GCBefore: at.GCBefore, Range: &ring.Range{Start: first - 1, End: max(tokens.Last, first)},
		WithStatic: true, Bytes: answerBytes}
}

func (l local) list(ctx context.Context, q *listRequest) (a listsAnswer, err error) {
	whole := ring.Interval{First: q.spans[0].First, Last: q.spans[len(q.spans)-1].Last}
	if err := l.check(q.generation, whole, q.at); err != nil {
		return a, err
	}
	size := 0
	for _, s := range q.spans {
		one, bytes, err := l.listOne(q, s)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return a, err
		}
		a.lists = append(a.lists, one)
		if size += bytes; size > answerBytes {
			break
		}
	}
	return a, nil
}

// listOne returns the list of one span, and how many bytes were read for it.
func (l local) listOne(q *listRequest, tokens ring.Interval) (a listAnswer, size int, err error) {
	c := command(q.generation, q.at, tokens)
	c.From = q.from
	var page row.Page
	if err := l.o.Store.Read(&c, &page); err != nil {
		return a, 0, err
	}
	var items row.Items
	items.Init(q.at, l.o.Store.Dropped(q.generation))
	items.Resume(q.from)
	add := func(i *row.Item) error {
		if i.Kind == row.ItemRow || i.Kind == row.ItemStatic {
			a.entries = append(a.entries, entry{token: i.Token, key: bytes.Clone(i.Key), static: i.Kind == row.ItemStatic, ckey: bytes.Clone(i.Ckey), hash: i.Hash})
		}
		return nil
	}
	if err := errors.Join(items.Page(&page, add), items.Finish(add)); err != nil {
		return a, 0, err
	}
	a.deletions = row.Page{More: page.More, Cut: page.Cut}
	a.deletions.Data, err = row.AppendDeletions(nil, page.Data)
	return a, len(page.Data), err
}

func (l local) fetch(ctx context.Context, q *fetchRequest) (a fetchAnswer, err error) {
	size := 0
	for i := range q.commands {
		c := &q.commands[i]
		if c.Bytes <= 0 || c.Bytes > answerBytes {
			c.Bytes = answerBytes
		}
		tokens := ring.Interval{First: c.Token, Last: c.Token}
		if c.Range != nil {
			tokens = ring.Interval{First: c.Range.Start + 1, Last: c.Range.End}
		}
		if err := l.check(c.Generation, tokens, row.Purge{Now: c.Now, GCBefore: c.GCBefore}); err != nil {
			return a, err
		}
		p := new(row.Page)
		if err := errors.Join(ctx.Err(), l.o.Store.Read(c, p)); err != nil {
			return a, err
		}
		a.pages = append(a.pages, p)
		if size += len(p.Data) + 64; size > answerBytes {
			break
		}
	}
	return a, nil
}

func (l local) apply(ctx context.Context, ms []row.Mutation) error {
	for i := range ms {
		if _, err := l.table(ms[i].Generation, ring.Interval{First: ms[i].Token, Last: ms[i].Token}); err != nil {
			return err
		}
	}
	return l.o.Store.Apply(ctx, ms)
}

func (l local) settle(ctx context.Context, q *finishRequest) (a settleAnswer, err error) {
	if _, err := l.table(q.generation, q.tokens); err != nil || l.o.Settle == nil {
		return a, err
	}
	a.promised, err = l.o.Settle(ctx, q.generation, q.tokens)
	return a, err
}

// handle answers one request of another node.
func (l local) handle(ctx context.Context, verb rpc.Verb, body []byte) (out []byte, err error) {
	switch verb {
	case verbHello:
		return answer(ctx, body, decodeHello, l.hello, (*helloAnswer).append)
	case verbTally:
		return answer(ctx, body, decodeTally, l.tally, (*tallyAnswer).append)
	case verbList:
		return answer(ctx, body, decodeList, l.list, (*listsAnswer).append)
	case verbFetch:
		return answer(ctx, body, decodeFetch, l.fetch, (*fetchAnswer).append)
	case verbFinish:
		q, err := decodeFinish(body)
		if err == nil {
			err = l.finish(ctx, &q)
		}
		return nil, err
	case verbWaiting:
		return answer(ctx, body, decodeWaiting, l.waiting, (*waitingAnswer).append)
	case verbRepaired:
		q, err := decodeRepaired(body)
		if err == nil {
			err = l.repaired(ctx, &q)
		}
		return nil, err
	case verbSettle:
		return answer(ctx, body, decodeFinish, l.settle, (*settleAnswer).append)
	case verbOldest:
		return answer(ctx, body, decodeFinish, l.oldest, (*waitingAnswer).append)
	case verbFill:
		return answer(ctx, body, decodeFill, l.fill, (*fillAnswer).append)
	case verbApply:
		ms, err := decodeApply(body)
		if err == nil {
			err = l.apply(ctx, ms)
		}
		return nil, err
	}
	return nil, errUnknownVerb
}

var errUnknownVerb = errors.New("repair: unknown verb")

func answer[Q, A any](ctx context.Context, body []byte, decode func([]byte) (Q, error), f func(context.Context, *Q) (A, error),
	encode func(*A, []byte) []byte) ([]byte, error) {
	q, err := decode(body)
	if err != nil {
		return nil, err
	}
	a, err := f(ctx, &q)
	if err != nil {
		return nil, err
	}
	return encode(&a, nil), nil
}

// statusOf says how an answer tells of an error.
func (l local) statusOf(err error) rpc.Status {
	switch {
	case err == nil:
		return rpc.StatusOK
	case errors.Is(err, errMalformed):
		return rpc.StatusBadRequest
	case errors.Is(err, errUnknownVerb):
		return rpc.StatusUnknownVerb
	case errors.Is(err, errNotOwner):
		return rpc.StatusNotOwner
	case errors.Is(err, errNoSuch), l.o.Store.IsUnknownTable(err):
		return rpc.StatusUnknownTable
	case errors.Is(err, errWrongTime):
		return rpc.StatusWrongEpoch
	}
	return rpc.StatusFailed
}

// serving is the handler of one accepted connection.
type serving struct{ s *Service }

// NewSession is for rpc's accepted connections.
func (s *Service) NewSession() rpc.Session { return serving{s} }

// Handle implements rpc.Session: every request runs on a goroutine of its own, a few at a time.
func (v serving) Handle(req *rpc.Request, rsp rpc.Responder) {
	s := v.s
	if req.Epoch > s.o.Cluster.Epoch() { // rpc has told: it is being fetched
		rsp.Reply(rpc.StatusWrongEpoch, nil)
		return
	}
	verb, body, deadline := req.Verb, req.Retain(), req.Deadline
	if !s.enter() {
		rsp.Reply(rpc.StatusOverloaded, nil)
		return
	}
	go func() {
		defer s.leave()
		ctx, cancel := context.WithDeadline(s.life, deadline)
		defer cancel()
		out, err := s.local.handle(ctx, verb, body)
		if status := s.local.statusOf(err); err != nil {
			rsp.ReplyText(status, err.Error())
		} else {
			rsp.Reply(rpc.StatusOK, out)
		}
	}()
}

// Flush implements rpc.Session.
func (serving) Flush() {}

// Close implements rpc.Session.
func (serving) Close() {}

// enter takes one of the places of requests that are answered; false: all are taken, or the service ends.
func (s *Service) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started || s.ended || s.served >= servedMax {
		return false
	}
	s.served++
	s.running.Add(1)
	return true
}

func (s *Service) leave() {
	s.mu.Lock()
	s.served--
	s.mu.Unlock()
	s.running.Done()
}

// peer is another node as a replica.
type peer struct {
	o  *Options
	id ring.HostID
	r  *PeerReport
}

// call sends a request, again where that may help, and decodes the answer.
func (p *peer) call(ctx context.Context, verb rpc.Verb, body []byte, decode func([]byte) error) error {
	var err error
	for try := range p.o.Tries {
		if try > 0 && !wait(ctx, p.o.Pause<<(try-1)) {
			break
		}
		var again bool
		if again, err = p.once(ctx, verb, body, decode); !again {
			break
		}
	}
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return err
}

func (p *peer) once(ctx context.Context, verb rpc.Verb, body []byte, decode func([]byte) error) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.CallTimeout)
	defer cancel()
	out, status, err := p.o.Transport.Call(ctx, p.id, rpc.Stream, verb, body)
	p.r.Traffic.Add(int64(len(body) + len(out)))
	if err != nil {
		return true, fmt.Errorf("repair: replica %s: %w", p.id, err)
	}
	switch status {
	case rpc.StatusOK:
		if err := decode(out); err != nil {
			return false, fmt.Errorf("repair: replica %s: %w", p.id, err)
		}
		return false, nil
	case rpc.StatusOverloaded, rpc.StatusWrongEpoch, rpc.StatusNotReady, rpc.StatusExpired:
		again = true
	}
	return again, fmt.Errorf("repair: replica %s: %w", p.id, &Refusal{Status: status, Text: string(out)})
}

// Refusal is what a replica answers when it does not do what it is asked.
type Refusal struct {
	Status rpc.Status
	Text   string
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Text == "" {
		return "refuses: " + r.Status.String()
	}
	return "refuses (" + r.Status.String() + "): " + r.Text
}

// wait sleeps; false: ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func nothing(out []byte) error {
	if len(out) > 0 {
		return errMalformed
	}
	return nil
}

func (p *peer) host() ring.HostID { return p.id }

func (p *peer) hello(ctx context.Context, q *hello) (a helloAnswer, err error) {
	err = p.call(ctx, verbHello, q.append(nil), func(out []byte) (err error) { a, err = decodeHelloAnswer(out); return err })
	return a, err
}

func (p *peer) finish(ctx context.Context, q *finishRequest) error {
	return p.call(ctx, verbFinish, q.append(nil), nothing)
}

func (p *peer) oldest(ctx context.Context, q *finishRequest) (a waitingAnswer, err error) {
	err = p.call(ctx, verbOldest, q.append(nil), func(out []byte) (err error) { a, err = decodeWaitingAnswer(out); return err })
	return a, err
}

func (p *peer) settle(ctx context.Context, q *finishRequest) (a settleAnswer, err error) {
	err = p.call(ctx, verbSettle, q.append(nil), func(out []byte) (err error) { a, err = decodeSettleAnswer(out); return err })
	return a, err
}

func (p *peer) tally(ctx context.Context, q *tallyRequest) (a tallyAnswer, err error) {
	err = p.call(ctx, verbTally, q.append(nil), func(out []byte) (err error) { a, err = decodeTallyAnswer(out); return err })
	return a, err
}

func (p *peer) list(ctx context.Context, q *listRequest) (a listsAnswer, err error) {
	err = p.call(ctx, verbList, q.append(nil), func(out []byte) (err error) { a, err = decodeLists(out); return err })
	return a, err
}

func (p *peer) fetch(ctx context.Context, q *fetchRequest) (a fetchAnswer, err error) {
	err = p.call(ctx, verbFetch, q.append(nil), func(out []byte) (err error) { a, err = decodeFetchAnswer(out); return err })
	return a, err
}

func (p *peer) apply(ctx context.Context, ms []row.Mutation) error {
	return p.call(ctx, verbApply, appendApply(nil, ms), nothing)
}
