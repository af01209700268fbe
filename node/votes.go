package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// This file gives a node whose log has lost its end its vote on conditional writes back (docs/design/0006-paxos.md, "A node that forgot"). An operator's
// word that its rows are back (Options.ClearSuspect) says nothing of what it had promised and accepted.

// votes is why this node does not vote on conditional writes, beside that its store is suspect.
type votes struct {
	unsettled atomic.Bool            // it may have forgotten what it had promised and accepted, and that is not made up for yet; durable
	waits     atomic.Pointer[string] // for what; nil before the first look
}

var unsettledKey = []byte("paxos unsettled")

const unsettledVersion = 1

// openVotes finds out whether votes are unsettled, from this start on if the operator is about to clear a store that is suspect.
func (n *Node) openVotes(suspect bool) error {
	_, noted, err := n.engine.Space(storage.SpaceNode).Get(unsettledKey)
	if err != nil {
		return fmt.Errorf("node: votes: %w", err)
	}
	clears := suspect && n.o.ClearSuspect
	switch {
	case !noted && !clears, suspect && !clears:
		return nil
	case n.o.VoteUnsettled:
		n.o.Logger.Warn("this node votes on conditional writes at once, as the operator says, though what it has forgotten of them is not settled: one that was acknowledged may be lost")
		return n.noteUnsettled(false)
	case !noted: // before the store counts as whole
		if err := n.noteUnsettled(true); err != nil {
			return err
		}
	}
	n.votes.unsettled.Store(true)
	return nil
}

// noteUnsettled is durable when it returns.
func (n *Node) noteUnsettled(yes bool) error {
	b := n.engine.NewBatch()
	var err error
	if yes {
		err = b.Set(storage.SpaceNode, unsettledKey, []byte{unsettledVersion})
	} else {
		err = b.Delete(storage.SpaceNode, unsettledKey)
	}
	if err != nil {
		b.Discard()
	} else {
		err = commitSynced(n.life, func(c committed) { b.CommitSynced(c) })
	}
	if err != nil {
		return fmt.Errorf("node: votes: %w", err)
	}
	return nil
}

// abstains tells why this node does not vote on conditional writes; "": it does.
func (n *Node) abstains() string {
	switch w := n.votes.waits.Load(); {
	case n.engine.Suspect():
		return "the end of its log is missing"
	case !n.votes.unsettled.Load():
		return ""
	case w != nil:
		return *w
	}
	return "it starts"
}

// startVotes comes after catchUp: by old metadata the replicas are others.
func (n *Node) startVotes(context.Context) error {
	if n.votes.unsettled.Load() {
		n.services.start("votes", n.settleVotes, nil)
	}
	return nil
}

const settleAgain = 2 * time.Second // after a look that has left something to settle

// settleWait is how long after the start nothing is settled yet. Whoever counted on a promise or an acceptance from before has come to its end by then,
// and all ballots that were taken from right clocks are in the past.
func (n *Node) settleWait() time.Duration {
	if n.o.SettleWait != 0 {
		return n.o.SettleWait
	}
	c := n.o.Config
	return max(coordinator.BallotAheadMax, 2*max(c.WriteTimeout, c.CASTimeout, c.ReadTimeout))
}

// settleVotes makes up for what this node has forgotten, as long as it takes, and has it vote then.
func (n *Node) settleVotes(ctx context.Context) error {
	wait := n.settleWait()
	if len(n.log.Current().Members()) == 1 { // nobody else has counted on anything
		wait = 0
	}
	v := settler{n: n, low: n.o.Now().Add(wait).UnixMicro()}
	n.waitsFor(fmt.Sprintf("what was under way before it started, %s", wait))
	sleep(ctx, wait)
	for ctx.Err() == nil {
		waits := v.pass(ctx)
		if waits == "" {
			n.votes.unsettled.Store(false)
			n.o.Logger.Info("what this node may have forgotten of conditional writes is settled: it votes on them again")
			break
		}
		if ctx.Err() == nil {
			n.waitsFor(waits)
		}
		sleep(ctx, settleAgain)
	}
	<-ctx.Done()
	return nil
}

// waitsFor says what the vote waits for, and logs it when it is something else than before.
func (n *Node) waitsFor(what string) {
	if old := n.votes.waits.Swap(&what); old == nil || *old != what {
		n.o.Logger.Warn("this node does not vote on conditional writes yet: what it may have forgotten of them is settled with the other replicas first", "waits_for", what)
	}
}

// settler goes through this node's ranges. It belongs to one goroutine.
type settler struct {
	n     *Node
	low   int64 // the latest ballot that may have been promised here, µs since the epoch
	under uint64
	done  map[settled]bool // under that RingEpoch
}

type settled struct {
	table  schema.Generation
	tokens ring.Interval
}

// pass settles what can be settled now and returns what it waits for; "": everything is settled, and this node knows of it durably.
func (v *settler) pass(ctx context.Context) (waits string) {
	n := v.n
	s := n.log.Current()
	if s.RingEpoch != v.under || v.done == nil { // the replicas are others, and an operation may have been forced
		v.under, v.done = s.RingEpoch, map[settled]bool{}
	}
	if s.Phase() != meta.None {
		return "the movement of ranges to end"
	}
	for _, k := range s.Catalog.Keyspaces() {
		for _, q := range inquiries(s.Placement(k.Name), n.home.HostID) {
			who, down, enough := q.choose(n.alive)
			if !enough {
				waits = "replicas of keyspace " + k.Name + " that are down: " + v.addresses(s, down)
				continue
			}
			for _, t := range k.Tables() {
				if err := v.settle(ctx, t, &q, who); err != nil {
					waits = err.Error()
				}
			}
		}
	}
	if waits != "" {
		return waits
	}
	if n.log.Current().RingEpoch != v.under {
		return "ranges that have changed hands"
	}
	if err := n.coord.RaiseLowBound(ctx, v.low); err != nil {
		return err.Error()
	}
	if err := n.noteUnsettled(false); err != nil {
		return err.Error()
	}
	return ""
}

// settle settles ranges of a table with other replicas, and has this node give up then what it has accepted of them.
func (v *settler) settle(ctx context.Context, t *schema.Table, q *inquiry, who []ring.HostID) error {
	for _, rg := range q.ranges {
		for _, iv := range rg.Intervals(nil) {
			if v.done[settled{t.Generation, iv}] {
				continue
			}
			promised, err := v.n.repair.Settle(ctx, t.Generation, iv, who)
			if err == nil {
				err = v.n.coord.Disown(ctx, t.Generation, iv, len(q.here) > 0)
			}
			if _, there := v.n.log.Current().Catalog.TableByGeneration(t.Generation); err != nil && there {
				return fmt.Errorf("table %s.%s: %w", t.Keyspace, t.Name, err)
			}
			v.low = max(v.low, promised)
			v.done[settled{t.Generation, iv}] = true
		}
	}
	return nil
}

func (v *settler) addresses(s *meta.State, ids []ring.HostID) string {
	var out []string
	for _, id := range ids {
		out = append(out, s.Node(id).Internode.Addr().String())
	}
	return strings.Join(out, ", ")
}

// inquiry is who has to be heard about ranges that this node replicates with others.
type inquiry struct {
	ranges     []ring.Range // with the same replicas
	here       []ring.HostID
	there      []ring.HostID
	need       int // of all of them; 0: nobody, whoever votes later meets one that knows
	needOfHere int // of those in this node's data centre; likewise
}

// inquiries returns what has to be settled of a placement, nil for one by which this node has nothing in common with others.
func inquiries(p *ring.Placement, self ring.HostID) (out []inquiry) {
	if p == nil {
		return nil
	}
	r := p.Ring()
	me, member := r.Node(self)
	if !member {
		return nil
	}
	at := map[string]int{}
	for i := range r.Segments() {
		replicas := slices.Sorted(slices.Values(p.SegmentReplicas(i)))
		if !slices.Contains(replicas, me) {
			continue
		}
		key := fmt.Sprint(replicas)
		k, seen := at[key]
		if !seen {
			k = len(out)
			at[key], out = k, append(out, inquiryOf(r, replicas, me))
		}
		out[k].ranges = append(out[k].ranges, r.Segment(i))
	}
	out = slices.DeleteFunc(out, func(q inquiry) bool { return len(q.here)+len(q.there) == 0 })
	for i := range out {
		out[i].ranges = ring.Normalize(out[i].ranges)
	}
	return out
}

func inquiryOf(r *ring.Ring, replicas []int32, me int32) (q inquiry) {
	nodes := r.Nodes()
	for _, i := range replicas {
		switch {
		case i == me:
		case nodes[i].DC == nodes[me].DC:
			q.here = append(q.here, nodes[i].ID)
		default:
			q.there = append(q.there, nodes[i].ID)
		}
	}
	q.need, q.needOfHere = witnesses(len(replicas)), witnesses(len(q.here)+1)
	return q
}

// witnesses is how many of the others of an electorate have to be heard, so that one of them is in every majority that this node was in. None where two
// majorities meet in two acceptors: then one that has not forgotten is among them anyway.
func witnesses(electorate int) int {
	if electorate%2 == 0 || electorate == 1 {
		return 0
	}
	return ring.Quorum(electorate)
}

// choose returns who is asked, those in this node's data centre first, and who is down; enough is false when too few are alive.
func (q *inquiry) choose(alive func(ring.HostID) bool) (who, down []ring.HostID, enough bool) {
	here := 0
	for i, id := range slices.Concat(q.here, q.there) {
		local := i < len(q.here)
		switch {
		case !alive(id):
			down = append(down, id)
		case local && (here < q.needOfHere || len(who) < q.need), !local && len(who) < q.need:
			who = append(who, id)
			if local {
				here++
			}
		}
	}
	return who, down, len(who) >= q.need && here >= q.needOfHere
}
