package repair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/repair/merkle"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

const (
	itemsPerLeaf       = 32   // of an interval that is listed: a level of tallies more would cost more reads than it saves
	leavesPerMend      = 256  // intervals that differ and are gathered before they are mended: a step waits for the slowest replica, whatever it asks for
	rowsPerFetch       = 1024 // rows that are asked for in one message
	partitionsPerFetch = 512  // in as many commands
	listsPerRequest    = spansMax
	applyBytes         = 1 << 20 // of mutations in one message, unless one alone has more
	applyMutations     = 1024
	stepsMax           = 1 << 22 // requests of one session to one replica
)

// errNoProgress ends a session with a replica whose answers lead nowhere.
var errNoProgress = errors.New("repair: a replica's answers get no further")

// session repairs one interval of a table between replicas of which this node is one.
type session struct {
	o        *Options
	spec     *Spec
	gen      schema.Generation
	tokens   ring.Interval
	replicas []replica
	reports  []*PeerReport // by replica
	table    *TableReport
	metrics  *Metrics
	ahead    int64 // how far the latest clock of the replicas is ahead of this node's, seconds
	rolling  bool  // GCBefore goes on with the clock, by mode timeout; otherwise it is fixed
	gcBefore int64 // of the horizon, as of start
	began    int64 // when the horizon was agreed on, by the latest of the replicas' clocks
	start    int64 // when the session began, by the slowest of the replicas' clocks, seconds since the epoch
	vouched  int64 // history.Entry.Before of the tokens when the session succeeds
	steps    int
}

// run returns whether anything differed.
func (s *session) run(ctx context.Context) (differed bool, err error) {
	if err := s.agree(ctx); err != nil {
		return false, err
	}
	if !s.spec.readOnly() && (!s.spec.pull || s.spec.Rebuild != "") {
		if err := s.each(ctx, func(r replica) error {
			return r.finish(ctx, &finishRequest{s.gen, s.tokens})
		}); err != nil {
			return false, err
		}
		s.boundByRegisters(ctx)
	}
	return s.walk(ctx, s.tokens, true)
}

// walk finds what differs in tokens and mends it. whole: they are those of the session; else those of a part of it that was filled by streams, which is compared again.
func (s *session) walk(ctx context.Context, tokens ring.Interval, whole bool) (differed bool, err error) {
	at := s.horizon()
	w := merkle.NewWalk(tokens, len(s.replicas), merkle.Limits{Batch: spansMax, Items: itemsPerLeaf})
	root := true
	var found []merkle.Leaf
	for spans := w.Next(); spans != nil; spans = w.Next() {
		tallies, err := s.tallies(ctx, at, spans, root, whole)
		if err != nil {
			return differed, err
		}
		if root && whole {
			s.table.Items.Add(int64(mostItems(tallies)))
		}
		root = false
		leaves := w.Compare(tallies)
		differed = differed || len(leaves) > 0
		s.table.Leaves.Add(int64(len(leaves)))
		s.metrics.Different.Add(int64(len(leaves)))
		if s.spec.Validate {
			continue
		}
		if found = append(found, leaves...); len(found) < leavesPerMend {
			continue
		}
		if err := s.mend(ctx, found, whole); err != nil {
			return differed, err
		}
		found = found[:0]
	}
	return differed, s.mend(ctx, found, whole)
}

func mostItems(tallies [][]row.Tally) (most uint64) {
	for _, t := range tallies {
		most = max(most, t[0].Items)
	}
	return most
}

// agree asks all replicas for what the horizon is made of.
func (s *session) agree(ctx context.Context) error {
	answers := make([]helloAnswer, len(s.replicas))
	if err := s.eachIndexed(ctx, func(i int, r replica) (err error) {
		answers[i], err = r.hello(ctx, &hello{s.gen, s.tokens})
		return err
	}); err != nil {
		return err
	}
	mine := s.o.Now().Unix()
	s.start = mine
	for _, a := range answers {
		s.ahead, s.start = max(s.ahead, a.now-mine), min(s.start, a.now)
	}
	if s.ahead > skewMax {
		return fmt.Errorf("repair: the clock of a replica is %d s ahead of this node's: at most %d s are borne", s.ahead, skewMax)
	}
	t, ok := s.o.Cluster.Table(s.gen)
	if !ok {
		return errNoSuch
	}
	s.began = mine + s.ahead
	s.bound(t, answers, s.began)
	s.vouched = s.vouch(ctx)
	return nil
}

// bound sets what of the horizon is about tombstones. By mode repair it is the earliest of what the replicas would purge, so that every deletion counts that one of
// them may still have to hear of: only with those the session can say afterwards that all have seen all. Otherwise it is the latest, because deletions go
// by their age alone, and what a replica has purged should not be looked for on the others.
func (s *session) bound(t *schema.Table, answers []helloAnswer, now int64) {
	mode, _ := t.Options.TombstoneGC()
	if s.rolling = mode != schema.TombstoneGCRepair; !s.rolling {
		s.gcBefore = now
		for _, a := range answers {
			s.gcBefore = min(s.gcBefore, a.gcBefore)
		}
		return
	}
	s.gcBefore = row.NoTimestamp
	for _, a := range answers {
		if a.gcBefore != row.NoTimestamp {
			s.gcBefore = max(s.gcBefore, now-(a.now-a.gcBefore))
		}
	}
}

// vouch returns the time from which on, when the session succeeds, no deletion is missing on any replica and nothing older than it can come any more; none
// where that cannot be told.
func (s *session) vouch(ctx context.Context) int64 {
	if s.rolling || s.spec.pull || !s.spec.everybody() || s.spec.readOnly() {
		return history.None
	}
	before, err := s.waiting(ctx)
	if err != nil {
		s.table.doubt(err)
		return history.None
	}
	return min(s.start, before)
}

// boundByRegisters lets the session vouch for no deletion that is later than a conditional write which some replica still knows as the last of its partition: a replica that
// has no register of it would purge the deletion, and be given the rows by the next ballot again.
func (s *session) boundByRegisters(ctx context.Context) {
	if s.vouched == history.None {
		return
	}
	oldest := make([]int64, len(s.replicas))
	if err := s.eachIndexed(ctx, func(i int, r replica) error {
		a, err := r.oldest(ctx, &finishRequest{s.gen, s.tokens})
		oldest[i] = a.since
		return err
	}); err != nil {
		s.table.doubt(fmt.Errorf("repair: how old conditional writes are is not known: %w", err))
		s.vouched = history.None
		return
	}
	s.vouched = min(s.vouched, slices.Min(oldest))
}

// waiting returns when the oldest hint or batch was written that waits anywhere.
func (s *session) waiting(ctx context.Context) (int64, error) {
	for _, r := range s.replicas {
		if id := r.host(); !s.o.Cluster.Sound(id) {
			return 0, fmt.Errorf("repair: replica %s may have lost the end of a log", id)
		}
	}
	members := s.o.Cluster.Members()
	oldest, errs := make([]int64, len(members)), make([]error, len(members))
	var wg sync.WaitGroup
	for i, id := range members {
		wg.Go(func() { oldest[i], errs[i] = s.waitingOn(ctx, id) })
	}
	wg.Wait()
	for i, id := range members {
		if errs[i] != nil {
			return 0, fmt.Errorf("repair: whether hints or batches wait on node %s is not known: %w", id, errs[i])
		}
	}
	before := int64(noneWaits)
	for _, since := range oldest {
		before = min(before, since)
	}
	if planted.On(planted.PurgeWithHintPending) {
		before = noneWaits
	}
	return before, nil
}

func (s *session) waitingOn(ctx context.Context, id ring.HostID) (int64, error) {
	var q waitingRequest
	if id == s.o.Self {
		a, err := local{s.o}.waiting(ctx, &q)
		return a.since, err
	}
	if !s.o.Alive(id) {
		if planted.On(planted.PurgeWithReplicaDown) {
			return noneWaits, nil
		}
		return 0, errDown
	}
	var a waitingAnswer
	p := &peer{s.o, id, new(PeerReport)}
	err := p.call(ctx, verbWaiting, q.append(nil), func(out []byte) (err error) { a, err = decodeWaitingAnswer(out); return err })
	return a.since, err
}

var errDown = errors.New("it is down")

// horizon returns the horizon of this moment.
func (s *session) horizon() row.Purge {
	p := row.Purge{Now: s.o.Now().Unix() + s.ahead, GCBefore: s.gcBefore}
	if s.rolling && s.gcBefore != row.NoTimestamp {
		p.GCBefore += p.Now - s.began
	}
	return p
}

func (s *session) each(ctx context.Context, f func(replica) error) error {
	return s.eachIndexed(ctx, func(_ int, r replica) error { return f(r) })
}

// eachIndexed calls f for all replicas side by side, waits for all of them and returns the error of the first that failed, in their order.
func (s *session) eachIndexed(ctx context.Context, f func(int, replica) error) error {
	if s.steps++; s.steps > stepsMax {
		return errNoProgress
	}
	if s.spec.pause != nil {
		s.spec.pause(ctx)
	}
	errs := make([]error, len(s.replicas))
	var wg sync.WaitGroup
	for i, r := range s.replicas {
		wg.Go(func() { errs[i] = f(i, r) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// tallies returns what each replica has in spans. Leaves of the root of a walk are kept, and with Full not believed the first time.
func (s *session) tallies(ctx context.Context, at row.Purge, spans []ring.Interval, root, whole bool) ([][]row.Tally, error) {
	out := make([][]row.Tally, len(s.replicas))
	err := s.eachIndexed(ctx, func(i int, r replica) (err error) {
		out[i], err = s.tallyOne(ctx, r, &tallyRequest{generation: s.gen, at: at, keep: root, fresh: root && whole && s.spec.Full, spans: spans})
		return err
	})
	return out, err
}

// tallyOne asks a replica until it has covered all spans.
func (s *session) tallyOne(ctx context.Context, r replica, q *tallyRequest) ([]row.Tally, error) {
	out := make([]row.Tally, len(q.spans))
	rest := slices.Clone(q.spans)
	for done := 0; len(rest) > 0; {
		q.spans = rest
		a, err := r.tally(ctx, q)
		if err != nil {
			return nil, err
		}
		n := len(a.tallies)
		if n == 0 || n > len(rest) || a.covered < rest[n-1].First {
			return nil, errNoProgress
		}
		for i, t := range a.tallies {
			out[done+i].Add(t)
		}
		if last := &rest[n-1]; a.covered < last.Last {
			last.First = a.covered + 1
			n--
		}
		rest, done = rest[n:], done+n
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// place is where a comparison row by row goes on.
type place struct {
	tokens  ring.Interval
	from    *row.Position // nil: at its beginning
	deleted bool          // the deletions of what is listed from there have been sent
}

// mend makes the replicas equal in leaves. stream: what a replica lacks nearly whole may be streamed to it.
func (s *session) mend(ctx context.Context, leaves []merkle.Leaf, stream bool) error {
	var places []place
	for i := range leaves {
		l := &leaves[i]
		if !l.Lopsided() {
			places = append(places, place{tokens: l.Tokens})
			continue
		}
		if stream && s.streamed(l) {
			if err := s.fill(ctx, l); err != nil {
				return err
			}
			if _, err := s.walk(ctx, l.Tokens, false); err != nil {
				return err
			}
			continue
		}
		if err := s.exchange(ctx, []row.Command{command(s.gen, s.horizon(), l.Tokens)}); err != nil {
			return err
		}
	}
	for len(places) > 0 {
		more, n, err := s.compare(ctx, places)
		if err != nil {
			return err
		}
		places = append(more, places[n:]...)
	}
	return nil
}

// compare makes the replicas equal at the first n places, row by row, and returns where to go on from those.
func (s *session) compare(ctx context.Context, places []place) (more []place, n int, err error) {
	q := listRequest{generation: s.gen, at: s.horizon()}
	for n < len(places) && n < listsPerRequest && (n == 0 || places[n].from == nil && q.from == nil && places[n].tokens.First > places[n-1].tokens.Last) {
		q.spans, q.from = append(q.spans, places[n].tokens), places[n].from
		n++
	}
	answers := make([]listsAnswer, len(s.replicas))
	if err := s.eachIndexed(ctx, func(i int, r replica) (err error) {
		answers[i], err = r.list(ctx, &q)
		return err
	}); err != nil {
		return nil, 0, err
	}
	for _, a := range answers {
		n = min(n, len(a.lists))
	}
	if n == 0 {
		return nil, 0, errNoProgress
	}
	var cmds []row.Command
	lacking := make([][]row.Mutation, len(s.replicas))
	for i := range n {
		next, err := s.compareOne(q.at, &places[i], answers, i, lacking, &cmds)
		if err != nil {
			return nil, 0, err
		}
		if next != nil {
			more = append(more, *next)
		}
	}
	if err := s.send(ctx, lacking); err != nil {
		return nil, 0, err
	}
	return more, n, s.exchange(ctx, cmds)
}

// compareOne adds the deletions that replicas lack, and the commands that fetch rows that differ, at a place whose lists are the i-th of answers. It
// returns where to go on: at the same place when deletions are sent, because what they shadow need not be fetched then; nil: nowhere.
func (s *session) compareOne(at row.Purge, p *place, answers []listsAnswer, i int, lacking [][]row.Mutation, cmds *[]row.Command) (*place, error) {
	var lists [][]entry
	pages := make([]*row.Page, len(answers))
	for j := range answers {
		l := &answers[j].lists[i]
		lists, pages[j] = append(lists, l.entries), &l.deletions
	}
	c := command(s.gen, at, p.tokens)
	c.From = p.from
	var merged row.Page
	repairs, err := row.ReconcilePages(&merged, &c, pages)
	if err != nil {
		return nil, err
	}
	if !p.deleted || s.spec.Preview {
		any := false
		for j, ms := range s.wantedBy(repairs) {
			any = any || len(ms) > 0
			lacking[j] = append(lacking[j], ms...)
		}
		if any && !s.spec.Preview {
			return &place{p.tokens, p.from, true}, nil
		}
	}
	if !merged.More {
		*cmds = s.wanted(*cmds, at, lists, nil)
		return nil, nil
	}
	cut := merged.Cut
	cut.Key, cut.Clustering = bytes.Clone(cut.Key), bytes.Clone(cut.Clustering)
	if p.from != nil && cut.Compare(p.from, false) <= 0 {
		return nil, errNoProgress
	}
	*cmds = s.wanted(*cmds, at, lists, &cut)
	return &place{p.tokens, &cut, false}, nil
}

// wantedBy returns those of the repairs that are made: of the first replica, this node, only when it pulls.
func (s *session) wantedBy(repairs [][]row.Mutation) [][]row.Mutation {
	if s.spec.pull {
		return repairs[:min(1, len(repairs))]
	}
	return repairs
}

// wanted appends the commands that fetch what differs between lists before cut: one for each partition, or more when it has many rows.
func (s *session) wanted(cmds []row.Command, at row.Purge, lists [][]entry, cut *row.Position) []row.Command {
	next := make([]int, len(lists))
	for {
		var first *entry
		for i, l := range lists {
			if next[i] < len(l) && (first == nil || l[next[i]].compare(first) < 0) {
				first = &l[next[i]]
			}
		}
		if first == nil || cut != nil && beyond(first, cut) {
			return cmds
		}
		differs := false
		for i, l := range lists {
			if next[i] < len(l) && l[next[i]].compare(first) == 0 {
				differs = differs || l[next[i]].hash != first.hash
				next[i]++
			} else {
				differs = true
			}
		}
		if differs {
			cmds = s.want(cmds, at, first)
		}
	}
}

// beyond tells whether an entry lies behind what a cut covers.
func beyond(e *entry, cut *row.Position) bool {
	p := row.Position{Kind: row.InPartition, Token: e.token, Key: e.key, Clustering: e.ckey}
	if e.static { // covered with the first row
		p.Clustering = nil
		return p.Compare(cut, false) > 0
	}
	return p.Compare(cut, false) >= 0
}

// want adds an entry to the last command, if it is of the same partition, or in a new one.
func (s *session) want(cmds []row.Command, at row.Purge, e *entry) []row.Command {
	n := len(cmds)
	if n == 0 || cmds[n-1].Token != e.token || !bytes.Equal(cmds[n-1].Key, e.key) || len(cmds[n-1].Slices) >= rowsPerFetch {
		cmds = append(cmds, row.Command{Generation: s.gen, Now: at.Now, GCBefore: at.GCBefore, Token: e.token, Key: e.key, StaticOnly: true, Bytes: answerBytes})
		n++
	}
	c := &cmds[n-1]
	if e.static {
		c.WithStatic = true
		return cmds
	}
	c.StaticOnly = false
	end := append(slices.Clone(e.ckey), 0xFF)
	c.Slices = append(c.Slices, row.Slice{Start: end[:len(e.ckey):len(e.ckey)], End: end, Point: true})
	return cmds
}

// exchange fetches what commands ask for from all replicas and sends each what it lacks of the others'.
func (s *session) exchange(ctx context.Context, cmds []row.Command) error {
	for len(cmds) > 0 {
		n, rows := 0, 0
		for n < len(cmds) && n < partitionsPerFetch && (n == 0 || rows+len(cmds[n].Slices) <= rowsPerFetch) {
			rows += len(cmds[n].Slices)
			n++
		}
		answers := make([]fetchAnswer, len(s.replicas))
		if err := s.eachIndexed(ctx, func(i int, r replica) (err error) {
			answers[i], err = r.fetch(ctx, &fetchRequest{slices.Clone(cmds[:n])})
			return err
		}); err != nil {
			return err
		}
		for _, a := range answers {
			n = min(n, len(a.pages))
		}
		if n == 0 {
			return errNoProgress
		}
		rest, err := s.reconcile(ctx, cmds[:n], answers)
		if err != nil {
			return err
		}
		cmds = append(rest, cmds[n:]...)
	}
	return nil
}

// reconcile sends each replica what it lacks of the pages that all have given for commands, and returns what is left of those that pages were too
// small for.
func (s *session) reconcile(ctx context.Context, cmds []row.Command, answers []fetchAnswer) (rest []row.Command, err error) {
	lacking := make([][]row.Mutation, len(s.replicas))
	for i := range cmds {
		c := &cmds[i]
		var pages []*row.Page
		for _, a := range answers {
			pages = append(pages, a.pages[i])
		}
		var merged row.Page
		repairs, err := row.ReconcilePages(&merged, c, pages)
		if err != nil {
			return nil, err
		}
		for j, ms := range s.wantedBy(repairs) {
			lacking[j] = append(lacking[j], ms...)
		}
		if merged.More {
			if c.From != nil && merged.Cut.Compare(c.From, false) <= 0 {
				return nil, errNoProgress
			}
			more := *c
			from := merged.Cut
			from.Key, from.Clustering = bytes.Clone(from.Key), bytes.Clone(from.Clustering)
			more.From = &from
			if c.Range != nil { // a horizon of this moment: purges go on
				at := s.horizon()
				more.Now, more.GCBefore = at.Now, at.GCBefore
			}
			rest = append(rest, more)
		}
	}
	return rest, s.send(ctx, lacking)
}
