package node

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/coordinator/hints"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// This file binds what is known of repairs to what may be purged.

// openBook reads what an earlier run of the process has recorded of repairs.
func (n *Node) openBook() error {
	b, err := history.Open(historyStore{n.engine})
	if err != nil {
		return err
	}
	if b.Damaged > 0 {
		n.o.Logger.Warn("records of repairs do not decode: their ranges count as not repaired", "records", b.Damaged)
	}
	n.book.Store(b)
	return nil
}

// historyStore is storage as package history sees it.
type historyStore struct{ e *storage.Engine }

func (s historyStore) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	return s.e.Space(storage.SpaceNode).Scan(start, end, fn)
}

// Commit is durable under commit_sync periodic too: what is purged by a record must not be older than the record.
func (s historyStore) Commit(ctx context.Context, changes []history.Write) error {
	b := s.e.NewBatch()
	for _, c := range changes {
		var err error
		if c.Value == nil {
			err = b.Delete(storage.SpaceNode, c.Key)
		} else {
			err = b.Set(storage.SpaceNode, c.Key, c.Value)
		}
		if err != nil {
			b.Discard()
			return err
		}
	}
	return commitSynced(ctx, func(c committed) { b.CommitSynced(c) })
}

// forgetTables removes what is recorded of tables that the catalog has given out and does not have any more.
func (n *Node) forgetTables(ctx context.Context) error {
	book, c := n.book.Load(), n.log.Current().Catalog
	var gone []schema.Generation
	for _, gen := range book.Generations() {
		if _, ok := c.TableByGeneration(gen); !ok && gen < c.NextGeneration {
			gone = append(gone, gen)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return book.Forget(ctx, gone...)
}

// losses are the members that may have lost the end of their log, as the metadata have told since the start. Their state says so for seconds only, until they have what the
// metadata log had: what their rows lack they lack for longer.
type losses struct {
	mu   sync.Mutex // held for an instant
	at   map[ring.HostID]int64
	void map[ring.HostID]bool // what is recorded of their ranges is still to be removed
}

// lossMargin is by how many seconds clocks may differ: who was heard of as late as that after a session began may have lost what the session gave it.
const lossMargin = 60

// note takes down who has lost something between two states, at now in seconds since the epoch, and tells whether anybody has.
func (l *losses) note(before, after *meta.State, now int64) (any bool) {
	for i := range after.Nodes {
		m := &after.Nodes[i]
		if old := before.Node(m.ID); m.Health == meta.Sound || old != nil && old.Health != meta.Sound && old.Generation == m.Generation {
			continue
		}
		l.mu.Lock()
		if l.at == nil {
			l.at, l.void = map[ring.HostID]int64{}, map[ring.HostID]bool{}
		}
		l.at[m.ID], l.void[m.ID] = now, true
		l.mu.Unlock()
		any = true
	}
	return any
}

// after tells whether one of the members may have lost something since a time, in seconds since the epoch.
func (l *losses) after(ids []ring.HostID, since int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(ids, func(id ring.HostID) bool { at, ok := l.at[id]; return ok && at+lossMargin >= since })
}

// pending tells whether voided has not been called for a member yet.
func (l *losses) pending(id ring.HostID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.void[id]
}

// open returns for whom voided has not been called, in order.
func (l *losses) open() []ring.HostID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Keys(l.void), ring.HostID.Compare)
}

func (l *losses) voided(id ring.HostID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.void, id)
}

// voidUnsound removes what is recorded of ranges with replicas that may have lost the end of their log.
func (n *Node) voidUnsound(ctx context.Context) error {
	ids := n.losses.open()
	for _, m := range n.log.Current().Members() {
		if !n.sound(m.ID) && !slices.Contains(ids, m.ID) {
			ids = append(ids, m.ID)
		}
	}
	for _, id := range ids {
		if err := n.book.Load().Void(ctx, id); err != nil {
			return err
		}
		n.losses.voided(id)
	}
	return nil
}

// sound tells whether a member is known to have everything that it has acknowledged.
func (n *Node) sound(id ring.HostID) bool {
	m := n.log.Current().Node(id)
	return m != nil && m.Health == meta.Sound && (id != n.home.HostID || !n.engine.Suspect()) && !n.losses.pending(id)
}

// termsOf returns the terms of a table. Those of system keyspaces go by gc_grace_seconds, as Cassandra's own do: nobody repairs traces.
func termsOf(t *schema.Table) history.Terms {
	terms := history.TermsOf(&t.Options)
	if terms.Mode == schema.TombstoneGCRepair && schema.IsSystemKeyspace(t.Keyspace) {
		terms.Mode = schema.TombstoneGCTimeout
	}
	return terms
}

// gcBefore is storage.Options.GCBefore.
func (n *Node) gcBefore(t *schema.Table, now int64) storage.GCBefore {
	return keepWhatMoves(n.log.Current, t.Keyspace, n.repairedBefore(t, now))
}

// keepWhatMoves lets no tombstone go whose range is changing hands, at any replica, from the plan to the end of the movement:
// a node that fills it reads one replica after another, and a deletion that one lacked when it was read must still be at the others when they
// are. A node asks for rows only when those that it reads have the plan (movement.Log.AwaitAll). The state is looked at for each partition.
func keepWhatMoves(current func() *meta.State, keyspace string, b storage.GCBefore) storage.GCBefore {
	of := b.Of
	b.Of = func(token ring.Token, conditional bool) int64 {
		switch {
		case current().MovesAt(keyspace, token):
			return history.None
		case of != nil:
			return of(token, conditional)
		}
		return b.Latest
	}
	return b
}

// repairedBefore is gcBefore without regard to movement.
func (n *Node) repairedBefore(t *schema.Table, now int64) storage.GCBefore {
	terms := termsOf(t)
	switch terms.Mode {
	case schema.TombstoneGCTimeout, schema.TombstoneGCDisabled:
		return storage.GCBefore{Latest: history.Bound(now, &terms)}
	case schema.TombstoneGCImmediate:
		return storage.GCBefore{Latest: history.Bound(now, &terms), Of: func(_ ring.Token, conditional bool) int64 {
			terms := terms
			terms.Again = conditional
			return history.Bound(now, &terms)
		}}
	}
	if n.book.Load() == nil { // the store is being opened
		return storage.GCBefore{Latest: history.None}
	}
	return storage.GCBefore{Latest: n.latestBound(t, terms, now), Of: func(token ring.Token, _ bool) int64 {
		return n.tokenBound(t, terms, token, now)
	}}
}

// latestBound returns what no token's bound exceeds.
func (n *Node) latestBound(t *schema.Table, terms history.Terms, now int64) int64 {
	latest := int64(history.None)
	if n.alone(t) {
		latest = history.Bound(now, &terms)
	}
	terms.Replicas = math.MaxInt
	for _, e := range n.book.Load().Table(t.Generation).Entries() {
		terms.Before = e.Before
		latest = max(latest, history.Bound(now, &terms))
	}
	return latest
}

// alone tells whether some token of a table has one replica only.
func (n *Node) alone(t *schema.Table) bool {
	p := n.log.Current().Placement(t.Keyspace)
	if p == nil {
		return true
	}
	for i := range p.Ring().Segments() {
		if len(p.SegmentReplicas(i)) < 2 {
			return true
		}
	}
	return false
}

// tokenBound returns the bound of one token by mode repair.
func (n *Node) tokenBound(t *schema.Table, terms history.Terms, token ring.Token, now int64) int64 {
	s := n.log.Current()
	var room [16]ring.HostID
	replicas := replicasOf(room[:0], s, t.Keyspace, token)
	terms.Replicas = len(replicas)
	if e, ok := n.book.Load().Table(t.Generation).Lookup(token); ok && n.counts(&e, replicas) {
		terms.Before = e.Before
	}
	return history.Bound(now, &terms)
}

// purgedBefore is storage.Options.PurgedBefore.
func (n *Node) purgedBefore(t *schema.Table, token ring.Token, now int64) int64 {
	terms := termsOf(t)
	if terms.Mode != schema.TombstoneGCRepair || n.book.Load() == nil {
		return history.None
	}
	return n.tokenBound(t, terms, token, now)
}

// counts tells whether a record says something about these replicas.
func (n *Node) counts(e *history.Entry, replicas []ring.HostID) bool {
	return e.Covers(replicas) && !slices.ContainsFunc(replicas, func(id ring.HostID) bool { return !n.sound(id) })
}

// placements returns where a keyspace is, and where it is going to be or has been; none for one that is not replicated.
func placements(s *meta.State, keyspace string) []*ring.Placement {
	return slices.DeleteFunc([]*ring.Placement{s.Placement(keyspace), s.OtherPlacement(keyspace)}, func(p *ring.Placement) bool { return p == nil })
}

// replicasOf appends the replicas of a token, those that are becoming one too; none for a keyspace that is not replicated.
func replicasOf(dst []ring.HostID, s *meta.State, keyspace string, token ring.Token) []ring.HostID {
	for _, p := range placements(s, keyspace) {
		for _, i := range p.Replicas(token) {
			if id := p.Ring().Nodes()[i].ID; !slices.Contains(dst, id) {
				dst = append(dst, id)
			}
		}
	}
	return dst
}

// intervalBound is repair.Options.GCBefore.
func (n *Node) intervalBound(t *schema.Table, tokens ring.Interval, now int64) int64 {
	terms := termsOf(t)
	if terms.Mode != schema.TombstoneGCRepair {
		return history.Bound(now, &terms)
	}
	terms.Replicas = math.MaxInt
	bound := now
	n.book.Load().Table(t.Generation).Visit(tokens, func(e history.Entry) {
		terms.Before = history.None
		if n.counts(&e, n.replicasWithin(t.Keyspace, e.Tokens)) {
			terms.Before = e.Before
		}
		bound = min(bound, history.Bound(now, &terms))
	})
	return bound
}

// replicasWithin returns all that are, or are becoming, a replica of some of the tokens.
func (n *Node) replicasWithin(keyspace string, tokens ring.Interval) (out []ring.HostID) {
	s, within := n.log.Current(), rangeOf(tokens)
	for _, p := range placements(s, keyspace) {
		for i := range p.Ring().Segments() {
			if !p.Ring().Segment(i).Intersects(within) {
				continue
			}
			for _, r := range p.SegmentReplicas(i) {
				if id := p.Ring().Nodes()[r].ID; !slices.Contains(out, id) {
					out = append(out, id)
				}
			}
		}
	}
	return out
}

// waiting is repair.Options.Waiting. Whose rows a hint is of is not looked at: one whose target does not replicate them any more, or has left, goes to all that do
// (coordinator.deliver), and so does a batch. Batches are looked at first, since one that is made again becomes hints before it goes.
func (n *Node) waiting() (since int64, some bool, err error) {
	oldest := int64(math.MaxInt64)
	hinted, batches := n.engine.Space(storage.SpaceHints), n.engine.Space(storage.SpaceBatchlog)
	err = batches.Scan(nil, nil, func(key, _ []byte) bool {
		if len(key) != len(batchlog.ID{}) {
			return true
		}
		oldest = min(oldest, batchlog.ID(key).Time().Unix())
		return false
	})
	for at := []byte{}; at != nil && err == nil; {
		next := []byte(nil)
		err = hinted.Scan(at, nil, func(key, _ []byte) bool {
			to, made, ok := hints.ParseKey(key)
			if !ok {
				return true
			}
			oldest = min(oldest, made.Unix())
			next = successor(to[:])
			return false
		})
		at = next
	}
	if now := n.log.Current(); err == nil && now.Phase() == meta.Switched && now.Node(n.home.HostID).State == meta.Leaving { // before it was, nothing was given away
		err = errHandsOver
	}
	return oldest, oldest != math.MaxInt64, err
}

// errHandsOver is the answer of a node whose hints may be under way to one that has answered before.
var errHandsOver = errors.New("node: it leaves the cluster and hands its hints over")
