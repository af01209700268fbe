package repair

import (
	"errors"
	"fmt"

	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// Verbs of repair; docs/format/repair.md draws the bodies.
const (
	VerbFirst rpc.Verb = 112
	VerbLast  rpc.Verb = 127

	verbHello  rpc.Verb = 112
	verbTally  rpc.Verb = 113
	verbList   rpc.Verb = 114
	verbFetch  rpc.Verb = 115
	verbApply  rpc.Verb = 116
	verbFinish rpc.Verb = 117

	verbWaiting  rpc.Verb = 118
	verbRepaired rpc.Verb = 119
	verbSettle   rpc.Verb = 120
	verbOldest   rpc.Verb = 121 // asked as finishRequest, answered as waitingAnswer
	verbFill     rpc.Verb = 122
)

const (
	version = 1

	spansMax     = 256  // intervals of one tally request
	commandsMax  = 1024 // of one fetch request
	mutationsMax = 4096 // of one apply request
	replicasMax  = 1024 // of a range
	idLen        = 16
)

// errMalformed is returned for bodies that are none of this version.
var errMalformed = errors.New("repair: malformed message")

// hello asks for what a horizon is agreed on.
type hello struct {
	generation schema.Generation
	tokens     ring.Interval
}

type helloAnswer struct {
	now, gcBefore int64 // of the answering replica's clock, seconds since the epoch
}

// tallyRequest asks for the tallies of spans, ascending and disjoint.
type tallyRequest struct {
	generation  schema.Generation
	at          row.Purge
	keep, fresh bool
	spans       []ring.Interval
}

// tallyAnswer has the tallies of the first spans that were asked for; the last one ends at covered, when that is inside of its span.
type tallyAnswer struct {
	tallies []row.Tally
	covered ring.Token
}

// listRequest asks what there is in spans, ascending and disjoint; from a position on, which is in the one span, when there is one.
type listRequest struct {
	generation schema.Generation
	at         row.Purge
	spans      []ring.Interval
	from       *row.Position
}

// entry is a static row or a row of a replica: where it is and the hash of what counts of it.
type entry struct {
	token  ring.Token
	key    []byte
	static bool
	ckey   []byte
	hash   uint64
}

// listsAnswer has the lists of the first spans, at least one.
type listsAnswer struct {
	lists []listAnswer
}

// listAnswer is one list. It has the entries up to the cut of deletions, ascending, and the deletions that cover more than a row, as a page without rows.
type listAnswer struct {
	entries   []entry
	deletions row.Page
}

// fetchRequest asks for pages in full.
type fetchRequest struct {
	commands []row.Command
}

// fetchAnswer has the pages of the first commands, at least one.
type fetchAnswer struct {
	pages []*row.Page
}

// finishRequest asks a replica to finish the conditional writes of an interval that are accepted there and not decided.
type finishRequest struct {
	generation schema.Generation
	tokens     ring.Interval
}

// waitingRequest asks a member for the oldest hint or batch that waits there.
type waitingRequest struct{}

// waitingAnswer says when the oldest was written, in seconds since the epoch; noneWaits: there is none. It answers verbOldest too, for conditional writes.
type waitingAnswer struct {
	since int64
}

const noneWaits = 1<<63 - 1

// repairedRequest tells a replica what a session has achieved.
type repairedRequest struct {
	generation schema.Generation
	entry      history.Entry
}

func begin(dst []byte, n int) []byte {
	return rpc.AppendUint(rpc.AppendArrayHeader(dst, n+1), version)
}

// open reads what begin wrote and returns how many elements follow.
func open(r *rpc.Reader) int {
	n := r.ArrayLen()
	if n < 1 || r.Uint() != version {
		return -1
	}
	return n - 1
}

func closed(r *rpc.Reader, ok bool) error {
	if err := r.Done(); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	if !ok {
		return errMalformed
	}
	return nil
}

func appendInterval(dst []byte, iv ring.Interval) []byte {
	return rpc.AppendInt(rpc.AppendInt(dst, int64(iv.First)), int64(iv.Last))
}

func readInterval(r *rpc.Reader) (iv ring.Interval) {
	iv.First, iv.Last = ring.Token(r.Int()), ring.Token(r.Int())
	return iv
}

func readGeneration(r *rpc.Reader, ok *bool) schema.Generation {
	v := r.Uint()
	if v > 1<<32-1 {
		*ok = false
	}
	return schema.Generation(v)
}

func appendPurge(dst []byte, p row.Purge) []byte {
	return rpc.AppendInt(rpc.AppendInt(dst, p.Now), p.GCBefore)
}

func readPurge(r *rpc.Reader) (p row.Purge) {
	p.Now, p.GCBefore = r.Int(), r.Int()
	return p
}

func (h *hello) append(dst []byte) []byte {
	return appendInterval(rpc.AppendUint(begin(dst, 3), uint64(h.generation)), h.tokens)
}

func decodeHello(src []byte) (h hello, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 3
	h.generation = readGeneration(&r, &ok)
	h.tokens = readInterval(&r)
	return h, closed(&r, ok && h.tokens.First <= h.tokens.Last)
}

func (a *helloAnswer) append(dst []byte) []byte {
	return rpc.AppendInt(rpc.AppendInt(begin(dst, 2), a.now), a.gcBefore)
}

func decodeHelloAnswer(src []byte) (a helloAnswer, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 2
	a.now, a.gcBefore = r.Int(), r.Int()
	return a, closed(&r, ok)
}

func (q *finishRequest) append(dst []byte) []byte {
	return (&hello{q.generation, q.tokens}).append(dst)
}

func decodeFinish(src []byte) (q finishRequest, err error) {
	h, err := decodeHello(src)
	return finishRequest(h), err
}

func appendReplicas(dst []byte, ids []ring.HostID) []byte {
	dst = rpc.AppendBytesHeader(dst, len(ids)*idLen)
	for _, id := range ids {
		dst = append(dst, id[:]...)
	}
	return dst
}

// readReplicas returns nil for what are no host ids.
func readReplicas(r *rpc.Reader) (ids []ring.HostID) {
	b := r.Bytes()
	if len(b) == 0 || len(b)%idLen != 0 || len(b)/idLen > replicasMax {
		return nil
	}
	for ; len(b) > 0; b = b[idLen:] {
		ids = append(ids, ring.HostID(b[:idLen]))
	}
	return ids
}

func (q *waitingRequest) append(dst []byte) []byte { return begin(dst, 0) }

func decodeWaiting(src []byte) (q waitingRequest, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 0
	return q, closed(&r, ok)
}

func (a *waitingAnswer) append(dst []byte) []byte { return rpc.AppendInt(begin(dst, 1), a.since) }

func decodeWaitingAnswer(src []byte) (a waitingAnswer, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 1
	a.since = r.Int()
	return a, closed(&r, ok)
}

func (q *repairedRequest) append(dst []byte) []byte {
	dst = appendInterval(rpc.AppendUint(begin(dst, 6), uint64(q.generation)), q.entry.Tokens)
	return appendReplicas(rpc.AppendInt(rpc.AppendInt(dst, q.entry.At), q.entry.Before), q.entry.Replicas)
}

func decodeRepaired(src []byte) (q repairedRequest, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 6
	q.generation = readGeneration(&r, &ok)
	q.entry.Tokens = readInterval(&r)
	q.entry.At, q.entry.Before = r.Int(), r.Int()
	q.entry.Replicas = readReplicas(&r)
	return q, closed(&r, ok && q.entry.Replicas != nil && q.entry.Tokens.First <= q.entry.Tokens.Last)
}

// settleAnswer is the latest ballot that a replica has promised, µs since the epoch.
type settleAnswer struct{ promised int64 }

func (a *settleAnswer) append(dst []byte) []byte { return rpc.AppendInt(begin(dst, 1), a.promised) }

func decodeSettleAnswer(src []byte) (a settleAnswer, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 1
	a.promised = r.Int()
	return a, closed(&r, ok)
}

// fillRequest asks a replica to fetch tokens from another one by a stream.
type fillRequest struct {
	generation schema.Generation
	tokens     ring.Interval
	from       ring.HostID
}

// fillAnswer says what has come, durably.
type fillAnswer struct{ records, bytes int64 }

func (q *fillRequest) append(dst []byte) []byte {
	dst = appendInterval(rpc.AppendUint(begin(dst, 4), uint64(q.generation)), q.tokens)
	return rpc.AppendBytes(dst, q.from[:])
}

func decodeFill(src []byte) (q fillRequest, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 4
	q.generation = readGeneration(&r, &ok)
	q.tokens = readInterval(&r)
	from := r.Bytes()
	ok = len(from) == idLen && ok
	copy(q.from[:], from)
	return q, closed(&r, ok && q.tokens.First <= q.tokens.Last)
}

func (a *fillAnswer) append(dst []byte) []byte {
	return rpc.AppendInt(rpc.AppendInt(begin(dst, 2), a.records), a.bytes)
}

func decodeFillAnswer(src []byte) (a fillAnswer, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 2
	a.records, a.bytes = r.Int(), r.Int()
	return a, closed(&r, ok && a.records >= 0 && a.bytes >= 0)
}

func appendSpans(dst []byte, spans []ring.Interval) []byte {
	dst = rpc.AppendArrayHeader(dst, 2*len(spans))
	for _, s := range spans {
		dst = appendInterval(dst, s)
	}
	return dst
}

// readSpans returns nil for what are no spans.
func readSpans(r *rpc.Reader) (spans []ring.Interval) {
	n := r.ArrayLen()
	if n%2 != 0 || n <= 0 || n > 2*spansMax {
		return nil
	}
	for i := range n / 2 {
		s := readInterval(r)
		if s.First > s.Last || i > 0 && s.First <= spans[i-1].Last {
			return nil
		}
		spans = append(spans, s)
	}
	return spans
}

func (q *tallyRequest) append(dst []byte) []byte {
	dst = appendPurge(rpc.AppendUint(begin(dst, 6), uint64(q.generation)), q.at)
	dst = rpc.AppendBool(rpc.AppendBool(dst, q.keep), q.fresh)
	return appendSpans(dst, q.spans)
}

func decodeTally(src []byte) (q tallyRequest, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 6
	q.generation = readGeneration(&r, &ok)
	q.at = readPurge(&r)
	q.keep, q.fresh = r.Bool(), r.Bool()
	q.spans = readSpans(&r)
	return q, closed(&r, ok && q.spans != nil)
}

func (a *tallyAnswer) append(dst []byte) []byte {
	dst = rpc.AppendInt(begin(dst, 2), int64(a.covered))
	dst = rpc.AppendArrayHeader(dst, 3*len(a.tallies))
	for _, t := range a.tallies {
		dst = rpc.AppendUint(rpc.AppendUint(rpc.AppendUint(dst, t.Sum), t.Items), t.Bytes)
	}
	return dst
}

func decodeTallyAnswer(src []byte) (a tallyAnswer, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 2
	a.covered = ring.Token(r.Int())
	n := r.ArrayLen()
	if ok = ok && n%3 == 0 && n > 0 && n <= 3*spansMax; !ok {
		return a, errMalformed
	}
	for range n / 3 {
		a.tallies = append(a.tallies, row.Tally{Sum: r.Uint(), Items: r.Uint(), Bytes: r.Uint()})
	}
	return a, closed(&r, ok)
}

func (q *listRequest) append(dst []byte) []byte {
	dst = appendSpans(appendPurge(rpc.AppendUint(begin(dst, 5), uint64(q.generation)), q.at), q.spans)
	if q.from == nil {
		return rpc.AppendNil(dst)
	}
	return rpc.AppendBytes(dst, q.from.Append(nil))
}

func decodeList(src []byte) (q listRequest, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 5
	q.generation = readGeneration(&r, &ok)
	q.at = readPurge(&r)
	if q.spans = readSpans(&r); q.spans == nil || !ok {
		return q, errMalformed
	}
	if !r.IsNil() {
		p, rest, err := row.DecodePosition(r.Bytes())
		if err != nil || len(rest) > 0 || len(q.spans) != 1 {
			return q, errMalformed
		}
		q.from = &p
	}
	return q, closed(&r, ok)
}

func (a *listsAnswer) append(dst []byte) []byte {
	dst = rpc.AppendArrayHeader(begin(dst, 1), 2*len(a.lists))
	for i := range a.lists {
		dst = a.lists[i].append(dst)
	}
	return dst
}

// decodeLists aliases src.
func decodeLists(src []byte) (a listsAnswer, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 1
	n := r.ArrayLen()
	if ok = ok && n%2 == 0 && n > 0 && n <= 2*spansMax; !ok {
		return a, errMalformed
	}
	for range n / 2 {
		l, ok := readList(&r)
		if !ok {
			return a, errMalformed
		}
		a.lists = append(a.lists, l)
	}
	return a, closed(&r, ok)
}

// append writes entries by partition: a new partition begins with its token.
func (a *listAnswer) append(dst []byte) []byte {
	dst = rpc.AppendBytes(dst, a.deletions.Append(nil))
	dst = rpc.AppendArrayHeader(dst, 5*len(a.entries))
	for i := range a.entries {
		e := &a.entries[i]
		if i > 0 && e.token == a.entries[i-1].token && string(e.key) == string(a.entries[i-1].key) {
			dst = rpc.AppendNil(rpc.AppendNil(dst))
		} else {
			dst = rpc.AppendBytes(rpc.AppendInt(dst, int64(e.token)), e.key)
		}
		dst = rpc.AppendBytes(rpc.AppendBool(dst, e.static), e.ckey)
		dst = rpc.AppendUint(dst, e.hash)
	}
	return dst
}

// readList returns false for what is no list. It aliases the message.
func readList(r *rpc.Reader) (a listAnswer, ok bool) {
	rest, err := row.DecodePage(&a.deletions, r.Bytes())
	n := r.ArrayLen()
	if err != nil || len(rest) > 0 || n%5 != 0 {
		return a, false
	}
	for i := range n / 5 {
		var e entry
		if r.IsNil() {
			if !r.IsNil() || i == 0 {
				return a, false
			}
			e.token, e.key = a.entries[i-1].token, a.entries[i-1].key
		} else {
			e.token, e.key = ring.Token(r.Int()), r.Bytes()
		}
		e.static, e.ckey, e.hash = r.Bool(), r.Bytes(), r.Uint()
		if r.Err() != nil || i > 0 && a.entries[i-1].compare(&e) >= 0 {
			return a, false
		}
		a.entries = append(a.entries, e)
	}
	return a, true
}

func (q *fetchRequest) append(dst []byte) []byte {
	dst = rpc.AppendArrayHeader(begin(dst, 1), len(q.commands))
	for i := range q.commands {
		dst = rpc.AppendBytes(dst, q.commands[i].Append(nil))
	}
	return dst
}

// decodeFetch aliases src.
func decodeFetch(src []byte) (q fetchRequest, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 1
	n := r.ArrayLen()
	if !ok || n < 1 || n > commandsMax {
		return q, errMalformed
	}
	for range n {
		var c row.Command
		rest, err := row.DecodeCommand(&c, r.Bytes())
		if err != nil || len(rest) > 0 || c.Digest || c.Columns != nil || c.Reverse {
			return q, errMalformed
		}
		q.commands = append(q.commands, c)
	}
	return q, closed(&r, true)
}

func (a *fetchAnswer) append(dst []byte) []byte {
	dst = rpc.AppendArrayHeader(begin(dst, 1), len(a.pages))
	for _, p := range a.pages {
		dst = rpc.AppendBytes(dst, p.Append(nil))
	}
	return dst
}

// decodeFetchAnswer aliases src.
func decodeFetchAnswer(src []byte) (a fetchAnswer, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 1
	n := r.ArrayLen()
	if !ok || n < 1 || n > commandsMax {
		return a, errMalformed
	}
	for range n {
		p := new(row.Page)
		rest, err := row.DecodePage(p, r.Bytes())
		if err != nil || len(rest) > 0 {
			return a, errMalformed
		}
		a.pages = append(a.pages, p)
	}
	return a, closed(&r, true)
}

func appendApply(dst []byte, ms []row.Mutation) []byte {
	dst = rpc.AppendArrayHeader(begin(dst, 1), len(ms))
	for i := range ms {
		dst = rpc.AppendBytes(dst, ms[i].Append(nil))
	}
	return dst
}

// decodeApply aliases src.
func decodeApply(src []byte) (ms []row.Mutation, err error) {
	r := rpc.NewReader(src)
	ok := open(&r) == 1
	n := r.ArrayLen()
	if !ok || n < 1 || n > mutationsMax {
		return nil, errMalformed
	}
	for range n {
		m, rest, err := row.DecodeMutation(r.Bytes())
		if err != nil || len(rest) > 0 {
			return nil, errMalformed
		}
		ms = append(ms, m)
	}
	return ms, closed(&r, true)
}
