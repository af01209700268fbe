package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/helenusdb/helenus/internal/sim/workload"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/meta/formation"
	"github.com/helenusdb/helenus/node"
	"github.com/helenusdb/helenus/ring"
)

// This file is what an operator does in the scenarios in which ranges move: machines join, leave, are replaced and removed, tokens move and
// replication changes. Each is an event of the schedule, so that a prefix of it is a smaller run. What has begun when the time for faults is over goes
// on, and finishMoves waits for it.

const (
	membersMin  = 3                // that an operator keeps
	operateTime = 20 * time.Second // of one command, as the admin interface has it
	againAfter  = time.Second      // until a command that failed is tried again
	moveWithin  = 5 * time.Minute  // in which everything that has begun has ended, once the faults are over
)

// inUse returns the machines that run a node, or will again, in the order of their numbers.
func (w *World) inUse() []*host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.members)
}

// serves returns the numbers of the machines that clients know.
func (w *World) serves() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]int, 0, len(w.members))
	for _, h := range w.members {
		if h.i < w.plan.nodes || h.id != "" {
			out = append(out, h.i)
		}
	}
	return out
}

// enlist makes an unused machine one that is in use, prepares it and starts it; nil: there is none, or the cluster is as large as it may be.
func (w *World) enlist(most int, prepare func(h *host)) *host {
	w.mu.Lock()
	if len(w.members) >= most || w.recruits == len(w.hosts)-w.plan.nodes {
		w.mu.Unlock()
		return nil
	}
	h := w.hosts[w.plan.nodes+w.recruits]
	w.recruits++
	for _, m := range w.members {
		h.seeds = append(h.seeds, m.name)
	}
	prepare(h)
	w.members = append(w.members, h)
	h.busy.Store(true)
	w.mu.Unlock()
	h.boot(nil)
	h.busy.Store(false)
	return h
}

// retire takes a machine out of use for good.
func (w *World) retire(h *host, how string) {
	w.trace.add("gone", "%d %s", h.i, how)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members = slices.DeleteFunc(w.members, func(m *host) bool { return m == h })
}

// excused tells whether a life that ended by itself may have: its node has left, or was let go while it was down.
func (w *World) excused(l *life) bool {
	var refused *formation.Refused
	switch {
	case l.err != nil && !errors.As(l.err, &refused):
		return false
	case l.h.early(l):
		return true
	case !l.h.leaves.Load():
		return false
	case l.err != nil:
		w.retire(l.h, "refused: "+refused.Reason)
	default:
		w.retire(l.h, "left")
	}
	return true
}

// early tells whether a life ended because nobody had noticed yet that the node that it replaces is dead: the operator tries again.
func (h *host) early(l *life) bool {
	var refused *formation.Refused
	return h.replaces != "" && errors.As(l.err, &refused) && strings.Contains(refused.Reason, "is alive")
}

// learnIDs notes the host ids of nodes that serve clients.
func (w *World) learnIDs() {
	for _, l := range w.serving() {
		id := l.node.Status().Self
		w.mu.Lock()
		l.h.id = id
		w.mu.Unlock()
	}
}

func (w *World) idOf(h *host) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return h.id
}

// aimed chooses the machines of a fault among those that are in use now; Host is negative when there are not enough.
func (w *World) aimed(f Fault) Fault {
	if !w.plan.scenario.moves {
		return f
	}
	all := w.inUse()
	if len(all) < 2 {
		f.Host = -1
		return f
	}
	h := f.Host % len(all)
	f.Peer = all[(h+1+f.Peer%(len(all)-1))%len(all)].i
	f.Host = all[h].i
	for _, other := range all {
		if f.Aim != "" && f.Peer != other.i && w.is(f.Aim, other) {
			f.Host = other.i
			break
		}
	}
	return f
}

// is tells whether a machine's node does what the aim names, by what the first node that serves clients knows.
func (w *World) is(a aim, h *host) bool {
	id := w.idOf(h)
	l := w.adviser(nil)
	if l == nil {
		return false
	}
	if a == aimLeader {
		return id != "" && l.node.Status().Leader == id
	}
	return slices.ContainsFunc(l.node.Operations().Operations, func(o node.OperationStatus) bool { return o.Address == h.name })
}

// adviser returns a node that serves clients, of another machine than that one; nil: none does.
func (w *World) adviser(not *host) *life {
	var leaving *life
	for _, l := range w.serving() {
		switch {
		case l.h == not:
		case l.h.leaves.Load():
			leaving = l
		default:
			return l
		}
	}
	return leaving
}

// joins lets a new machine join the cluster, and waits for it.
func (w *World) joins(ctx context.Context, f Fault) bool {
	h := w.enlist(w.plan.scenario.most, func(h *host) { h.rack = int(f.Arg>>3) % w.plan.racks })
	if h == nil {
		return false
	}
	w.trace.add("join", "%d", h.i)
	w.awaitServing(ctx, h)
	return true
}

// awaitServing waits until a machine's node serves clients, whatever happens to it meanwhile.
func (w *World) awaitServing(ctx context.Context, h *host) bool {
	for i := 0; sleep(ctx, w.look(h, i)); i++ {
		w.mu.Lock()
		l, left := w.current[h.i], !slices.Contains(w.members, h)
		w.mu.Unlock()
		if left {
			return false
		}
		if l != nil && l.ready() {
			w.learnIDs()
			return true
		}
		w.tryAgain(h)
	}
	return false
}

// tryAgain starts a node again that came too early.
func (w *World) tryAgain(h *host) {
	if !h.busy.CompareAndSwap(false, true) {
		return
	}
	defer h.busy.Store(false)
	if l := h.life; l != nil && !l.dead.Load() && l.hasEnded() && h.early(l) {
		time.Sleep(againAfter)
		h.boot(nil)
	}
}

// look is the time between two looks at something: it shares no instant with others.
func (w *World) look(h *host, n int) time.Duration {
	return 100*time.Millisecond + time.Duration(w.plan.seed.of("operator", uint64(h.i), uint64(n)).below(int64(10*time.Millisecond)))
}

// operate gives a command to a node, once.
func (w *World) operate(ctx context.Context, l *life, q node.OperationRequest) error {
	ctx, cancel := context.WithTimeout(ctx, operateTime)
	defer cancel()
	_, err := l.node.StartOperations(ctx, []node.OperationRequest{q})
	w.trace.add("operation", "%s %s at %d: %v", q.Kind, q.Host, l.h.i, err)
	if err != nil {
		w.note("operations refused: "+q.Kind, 1)
	}
	return err
}

// decommission lets a node leave, and waits for its end.
func (w *World) decommission(ctx context.Context, f Fault) bool {
	h := w.hosts[f.Host]
	l := w.lifeOf(h)
	if l == nil || !l.ready() || len(w.inUse()) <= membersMin || h.leaves.Swap(true) {
		return false
	}
	if isRefused(w.operate(ctx, l, node.OperationRequest{Kind: "decommission"})) {
		h.leaves.Store(false)
		return false
	}
	for i := 0; sleep(ctx, w.look(h, i)); i++ {
		if !slices.Contains(w.inUse(), h) {
			return true
		}
	}
	return true
}

// isRefused tells whether a command has no effect: what only went unanswered may have one.
func isRefused(err error) bool {
	var refused *meta.Refused
	return errors.As(err, &refused)
}

func (w *World) lifeOf(h *host) *life {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current[h.i]
}

// move gives a node other tokens.
func (w *World) move(ctx context.Context, f Fault) bool {
	l := w.lifeOf(w.hosts[f.Host])
	if l == nil || !l.ready() {
		return false
	}
	q := node.OperationRequest{Kind: "move"}
	for i := range w.plan.tokens {
		q.Tokens = append(q.Tokens, ring.Token(w.plan.seed.of("move", uint64(f.Arg), uint64(i))))
	}
	return w.operate(ctx, l, q) == nil
}

// replicasOf returns what replication is changed to, more often what clients are used to.
func (p *plan) replicasOf(f Fault) int {
	all := []int{3, 3, 2, 3, 1, 4, 3, 5}
	switch {
	case p.scenario.hintsOff: // a replica that missed much stays alone
		all = []int{3, 1}
	case p.scenario.rf == 1:
		all = []int{1, 2, 1, 3}
	case p.scenario.loses(): // what one machine alone had is lost with it
		all = []int{3, 3, 2, 3, 3, 4, 3, 5}
	}
	return all[f.Arg%int64(len(all))]
}

// alter changes the replication of a workload's keyspace.
func (w *World) alter(ctx context.Context, f Fault) bool {
	load := w.loads[int(f.Arg>>4)%len(w.loads)]
	rf := min(w.plan.replicasOf(f), w.staying())
	q := fmt.Sprintf("ALTER KEYSPACE %s WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': %d}", load.Keyspace(), rf)
	err := workload.Tell(ctx, env{w, "operator"}, w.hosts[f.Host].i, q)
	w.trace.add("alter", "%s: %v", q, err)
	if err != nil {
		w.note("operations refused: alter", 1)
	}
	return err == nil
}

// staying counts the nodes that serve clients and were not told to leave: no keyspace gets more replicas.
func (w *World) staying() (n int) {
	for _, l := range w.serving() {
		if !l.h.leaves.Load() {
			n++
		}
	}
	return max(n, 1)
}

// abort ends one of the operations under way, if it can be ended.
func (w *World) abort(ctx context.Context, f Fault) bool {
	l := w.adviser(nil)
	if l == nil {
		return false
	}
	all := l.node.Operations().Operations
	if len(all) == 0 {
		return false
	}
	o := &all[int(f.Arg>>3)%len(all)]
	if h := w.memberAt(o.Address); h != nil && h.lost.Load() {
		return false // it would be begun again
	} else if h != nil && (o.Kind == "join" || o.Kind == "replace") {
		h.leaves.Store(true)
	}
	ctx, cancel := context.WithTimeout(ctx, operateTime)
	defer cancel()
	err := l.node.AbortOperation(ctx, o.ID)
	w.trace.add("operation", "abort %s %d: %v", o.Kind, o.ID, err)
	return err == nil
}

// memberAt returns the machine in use that has an address, the newest when one is replaced by another with the same.
func (w *World) memberAt(address string) *host {
	all := w.inUse()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].name == address {
			return all[i]
		}
	}
	return nil
}

// loses takes a machine away for good, and has its node replaced or removed. One at a time: what two of three replicas have lost nobody can bring back.
func (w *World) loses(ctx context.Context, f Fault) bool {
	h := w.hosts[f.Host]
	if id := w.idOf(h); id == "" || h.leaves.Load() {
		return false
	}
	if !w.startLosing(h) {
		return false
	}
	if _, ok := w.claim(f); !ok {
		w.endLosing()
		return false
	}
	if h.leaves.Load() || !w.powerOff(ctx, h, f) {
		w.endLosing()
		w.release(h)
		return false
	}
	h.lost.Store(true)
	h.leaves.Store(true)
	h.fate = f
	w.trace.add("lost", "%d", h.i)
	w.makeUp(ctx, h)
	return true
}

func (w *World) startLosing(h *host) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.losing != nil || len(w.members) <= membersMin {
		return false
	}
	w.losing = h
	return true
}

func (w *World) endLosing() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.losing = nil
}

// makeUp has a lost machine's node replaced or removed, until ctx ends; finishMoves calls it again.
func (w *World) makeUp(ctx context.Context, h *host) {
	refusals := 0
	for i := 0; w.isMember(h); i++ {
		if h.heir != nil && !slices.Contains(w.inUse(), h.heir) { // its operation was aborted
			h.heir = nil
		}
		if h.heir == nil && (h.fate.Kind == Replace || refusals > refusalsMax) {
			h.heir = w.bequeath(h)
		}
		if h.heir != nil {
			w.awaitServing(ctx, h.heir)
		} else if l := w.adviser(h); l != nil && !underWay(l, w.idOf(h)) && isRefused(w.operate(ctx, l, node.OperationRequest{Kind: "remove", Host: w.idOf(h)})) {
			refusals++
		}
		if !sleep(ctx, w.look(h, i)+againAfter) {
			return
		}
	}
	w.retire(h, "lost")
	w.endLosing()
	w.bringBack()
}

// underWay tells whether a node knows of an operation on another.
func underWay(l *life, id string) bool {
	return slices.ContainsFunc(l.node.Operations().Operations, func(o node.OperationStatus) bool { return o.HostID == id || o.Replaces == id })
}

// refusalsMax is how often a removal may be refused before the operator has the node replaced: nobody may have noticed that it is dead, or
// too few nodes would be left.
const refusalsMax = 15

// bequeath starts the node that replaces another, sometimes at the same address; nil: there is no machine.
func (w *World) bequeath(h *host) *host {
	heir := w.enlist(len(w.hosts), func(heir *host) {
		heir.rack, heir.dc, heir.replaces = h.rack, h.dc, h.id
		heir.seeds = slices.DeleteFunc(heir.seeds, func(s string) bool { return s == h.name })
		if h.fate.Arg%3 == 0 {
			heir.name = h.name
		}
	})
	if heir != nil {
		w.trace.add("replace", "%d by %d at %s", h.i, heir.i, heir.name)
	}
	return heir
}

// isMember tells whether a lost machine's node still is a member, by the newest of the nodes that serve clients; true when none does.
func (w *World) isMember(h *host) bool {
	id := w.idOf(h)
	var newest node.Status
	for _, l := range w.serving() {
		if s := l.node.Status(); s.Epoch >= newest.Epoch {
			newest = s
		}
	}
	return newest.Nodes == nil || slices.ContainsFunc(newest.Nodes, func(n node.NodeStatus) bool { return n.HostID == id })
}

// movement describes what moves, as the first node that serves clients knows it; "" when nothing does.
func (w *World) movement() string {
	l := w.adviser(nil)
	if l == nil {
		return ""
	}
	o := l.node.Operations()
	if len(o.Operations) == 0 {
		return ""
	}
	return fmt.Sprintf(" %d says: %s %+v, waits for %+v, %s, here %+v", l.h.i, o.Phase, o.Operations, o.WaitsFor, o.Stale, o.Here)
}

// finishMoves ends what has begun: no fault is left.
func (w *World) finishMoves() bool {
	w.mu.Lock()
	lost := w.losing
	w.mu.Unlock()
	if lost != nil {
		w.enter("a lost node is replaced or removed")
		if !w.makeUpWithin(lost, patience) {
			w.force()
			w.makeUpWithin(lost, moveWithin)
		}
	}
	done := w.await("all operations have ended", moveWithin, w.nothingMoves)
	w.learnIDs()
	return done
}

// patience is how long an operator waits for an operation beside a lost machine before forcing it.
const patience = time.Minute

// makeUpWithin is makeUp for a while; false: its node still is a member.
func (w *World) makeUpWithin(lost *host, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	w.makeUp(ctx, lost)
	return !w.isMember(lost)
}

// force lets everything go on that does not end by itself: of two replicas, one of them lost, the other cannot end a conditional write that is in doubt.
func (w *World) force() {
	l := w.adviser(nil)
	if l == nil {
		return
	}
	for _, o := range l.node.Operations().Operations {
		ctx, cancel := context.WithTimeout(context.Background(), operateTime)
		err := l.node.ForceOperation(ctx, o.ID)
		cancel()
		w.trace.add("operation", "force %s %d: %v", o.Kind, o.ID, err)
		w.note("operations forced: "+o.Kind, 1)
	}
}

// nothingMoves tells whether all nodes serve clients and know that no operation is under way. A node that has ended although it is a member is
// started again, as an operator would.
func (w *World) nothingMoves() bool {
	for _, h := range w.inUse() {
		w.revive(h)
		if !h.ready() {
			return false
		}
		if o := h.life.node.Operations(); len(o.Operations) > 0 || o.Phase != "none" {
			return false
		}
	}
	return true
}
