package stream

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// ID names a stream: what its marks are kept under. The zero ID keeps none.
type ID [16]byte

// Progress is one range on its way.
type Progress struct {
	Stream   ID
	Peer     ring.HostID
	Outgoing bool // from this node
	Table    schema.Generation
	Range    ring.Range
	Bytes    int64     // of records, sent or added so far; of an incoming one, those of earlier runs included
	Records  int64     // likewise: rows, static rows, and deletions of partitions
	Expected int64     // bytes that the range takes on the source's disk, about; 0: not known. Bytes may end above or below it
	Started  time.Time // of this run
	Resumed  int       // how often it was cut off in this run
	Error    string    // what cut it off last
}

// Peer is what went to and came from one node since this one started.
type Peer struct {
	ID                   ring.HostID
	BytesIn, BytesOut    int64 // of pieces' records, repeated ones included
	RangesIn, RangesOut  int64 // that came to their end; a range that wraps counts once as incoming, and as two outgoing ones
	Resumes              int64 // incoming streams that were cut off and went on
	FailedIn, SessionsIn int64 // fetches that ended with an error; fetches
}

// Ledger says what is being streamed and what was, for operators and metrics. A Server and a Fetcher share one. It is safe for
// concurrent use; make it with NewLedger.
type Ledger struct {
	mu      sync.Mutex // held for a few instructions
	counter uint64
	active  map[uint64]*entry
	peers   map[ring.HostID]*Peer
}

// NewLedger returns an empty one.
func NewLedger() *Ledger { return &Ledger{active: map[uint64]*entry{}, peers: map[ring.HostID]*Peer{}} }

// Active returns what is under way, in the order in which it began.
func (l *Ledger) Active() []Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := make([]*entry, 0, len(l.active))
	for _, e := range l.active {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b *entry) int { return int(int64(a.number) - int64(b.number)) })
	out := make([]Progress, len(entries))
	for i, e := range entries {
		out[i] = e.p
	}
	return out
}

// Peers returns the totals of each peer, by host id.
func (l *Ledger) Peers() []Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Peer, 0, len(l.peers))
	for _, p := range l.peers {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Peer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out
}

// Total returns the sum over all peers.
func (l *Ledger) Total() (sum Peer) {
	for _, p := range l.Peers() {
		sum.BytesIn += p.BytesIn
		sum.BytesOut += p.BytesOut
		sum.RangesIn += p.RangesIn
		sum.RangesOut += p.RangesOut
		sum.Resumes += p.Resumes
		sum.FailedIn += p.FailedIn
		sum.SessionsIn += p.SessionsIn
	}
	return sum
}

// entry is one Progress in the ledger.
type entry struct {
	l      *Ledger
	number uint64
	p      Progress // guarded by l.mu
}

func (l *Ledger) begin(p Progress) *entry {
	p.Started = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counter++
	e := &entry{l: l, number: l.counter, p: p}
	l.active[e.number] = e
	if !p.Outgoing {
		l.peer(p.Peer).SessionsIn++
	}
	return e
}

// peer is called under mu.
func (l *Ledger) peer(id ring.HostID) *Peer {
	p := l.peers[id]
	if p == nil {
		p = &Peer{ID: id}
		l.peers[id] = p
	}
	return p
}

// update changes the progress, and the totals of its peer, and returns a copy.
func (e *entry) update(f func(p *Progress, total *Peer)) Progress {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	f(&e.p, e.l.peer(e.p.Peer))
	return e.p
}

// end takes it out of what is under way.
func (e *entry) end() {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	delete(e.l.active, e.number)
}
