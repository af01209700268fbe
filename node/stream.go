package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/stream"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// This file binds repair/stream to storage and to the metadata.

// streams is both halves of streaming.
type streams struct {
	server   *stream.Server
	fetcher  *stream.Fetcher
	ledger   *stream.Ledger
	throttle *stream.Throttle // of all that the server sends
	store    streamStore
}

func (n *Node) makeStreams(context.Context) error {
	st := streamStore{n.engine}
	n.streams = streams{ledger: stream.NewLedger(), throttle: stream.NewThrottle(int64(n.o.Config.StreamThroughput)), store: st}
	n.streams.server = stream.NewServer(stream.ServerOptions{Source: st, Members: streamMembers{n}, Ledger: n.streams.ledger,
		Throttle: n.streams.throttle, Logger: n.o.Logger})
	n.streams.fetcher = stream.NewFetcher(stream.FetcherOptions{Transport: n.rpc, Sink: st, Ledger: n.streams.ledger, Logger: n.o.Logger})
	return nil
}

func (n *Node) startStreams(context.Context) error {
	n.services.start("streams", n.streams.server.Run, nil)
	return nil
}

// gated is the session of verbs that exist from cluster version meta.VersionMovement on: before, this build answers them as an older one
// does. What a sender knows of the version this node may still have to learn: the session itself catches up.
type gated struct {
	rpc.Session
	current func() *meta.State
}

// Handle implements rpc.Session.
func (g gated) Handle(req *rpc.Request, rsp rpc.Responder) {
	if s := g.current(); s.ClusterVersion < meta.VersionMovement && req.Epoch <= s.Epoch {
		rsp.Reply(rpc.StatusUnknownVerb, nil)
		return
	}
	g.Session.Handle(req, rsp)
}

// movable says why nothing may be sent in verbs of streaming and repair yet.
func movable(s *meta.State) error {
	if s.ClusterVersion < meta.VersionMovement {
		return fmt.Errorf("every node of the cluster has to be upgraded first (the cluster uses metadata version %d, this needs %d)", s.ClusterVersion, meta.VersionMovement)
	}
	return nil
}

// streamMembers is the metadata as a source of streams sees them.
type streamMembers struct{ n *Node }

func (m streamMembers) Epoch() uint64 { return m.n.log.Current().Epoch }

func (m streamMembers) CatchUp(ctx context.Context, from ring.HostID) error {
	return m.n.log.CatchUp(ctx, from)
}

// Admit implements stream.Members: this node is read for the range, and every write that was let in under an older view is visible
// (docs/design/0009-movement.md, F2).
func (m streamMembers) Admit(ctx context.Context, table schema.Generation, rg ring.Range) error {
	s := m.n.log.Current()
	t, ok := s.Catalog.TableByGeneration(table)
	if !ok {
		return stream.ErrUnknownTable
	}
	p := s.Placement(t.Keyspace)
	if p == nil {
		return stream.ErrNotOwner
	}
	self, member := p.Ring().Node(m.n.home.HostID)
	if !member || len(ring.Subtract([]ring.Range{rg}, p.Ranges(self))) > 0 {
		return stream.ErrNotOwner
	}
	return m.n.gate.drain(ctx, s.RingEpoch)
}

// streamStore is storage as both halves of streaming see it.
type streamStore struct {
	e *storage.Engine
}

// Snapshot implements stream.Source.
func (s streamStore) Snapshot(table schema.Generation, rg ring.Range, registers bool) (stream.Snapshot, error) {
	v, err := s.e.Snapshot(table, rg, registers)
	if err != nil {
		return nil, streamError(err)
	}
	return streamSnapshot{v}, nil
}

type streamSnapshot struct{ *storage.Snapshot }

// Scan implements stream.Snapshot.
func (s streamSnapshot) Scan(ctx context.Context, after []byte, budget int, fn func(key, value []byte) error) ([]byte, bool, error) {
	end, done, err := s.Snapshot.Scan(ctx, after, budget, fn)
	return end, done, streamError(err)
}

// streamError makes what storage says of a table that is gone what streaming says of it.
func streamError(err error) error {
	if errors.Is(err, storage.ErrUnknownTable) {
		return fmt.Errorf("%w: %w", stream.ErrUnknownTable, err)
	}
	return err
}

// Build implements stream.Sink. Paxos registers are not asked for, hence refused: who fills a range takes the outcome of what was agreed
// on as rows, and promises as one low bound (filler.go).
func (s streamStore) Build(table schema.Generation, rg ring.Range) (stream.Builder, error) {
	in, err := s.e.NewIngest(table, rg, nil)
	if err != nil {
		return nil, err
	}
	return in, nil
}

// HoldPurge implements stream.Sink.
func (s streamStore) HoldPurge(table schema.Generation, rg ring.Range) (release func()) {
	return s.e.HoldPurge(table, rg)
}

// Mark implements stream.Sink.
func (s streamStore) Mark(key []byte) ([]byte, error) {
	v, _, err := s.e.Space(storage.SpaceStreams).Get(key)
	return v, err
}

// SetMark implements stream.Sink.
func (s streamStore) SetMark(ctx context.Context, key, value []byte) error {
	return s.change(ctx, func(b *storage.Batch) error {
		if value == nil {
			return b.Delete(storage.SpaceStreams, key)
		}
		return b.Set(storage.SpaceStreams, key, value)
	})
}

// DropMarks implements stream.Sink.
func (s streamStore) DropMarks(ctx context.Context, prefix []byte) error {
	return s.change(ctx, func(b *storage.Batch) error {
		return b.DeleteRange(storage.SpaceStreams, prefix, successor(prefix))
	})
}

// dropMarksBeside removes the marks whose keys begin with prefix, but for those that begin with kept, which begins with it.
func (s streamStore) dropMarksBeside(ctx context.Context, prefix, kept []byte) error {
	return s.change(ctx, func(b *storage.Batch) error {
		if err := b.DeleteRange(storage.SpaceStreams, prefix, kept); err != nil {
			return err
		}
		return b.DeleteRange(storage.SpaceStreams, successor(kept), successor(prefix))
	})
}

// marked tells whether there is a mark whose key begins with prefix.
func (s streamStore) marked(prefix []byte) (found bool, err error) {
	err = s.e.Space(storage.SpaceStreams).Scan(prefix, successor(prefix), func(_, _ []byte) bool { found = true; return false })
	return found, err
}

// change commits durably under every commit_sync: what a mark says of rows outlives no stop that the rows do not outlive, and nothing is done
// twice for want of it.
func (s streamStore) change(ctx context.Context, fill func(*storage.Batch) error) error {
	b := s.e.NewBatch()
	if err := fill(b); err != nil {
		b.Discard()
		return err
	}
	return commitSynced(ctx, func(c committed) { b.CommitSynced(c) })
}

// successor returns the first key behind all that begin with prefix; nil: there is none.
func successor(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for len(end) > 0 {
		if end[len(end)-1]++; end[len(end)-1] != 0 {
			return end
		}
		end = end[:len(end)-1]
	}
	return nil
}

// StreamStats is what netstats says of streams.
type StreamStats struct {
	Active []StreamInfo `json:"active"`
	Peers  []StreamPeer `json:"peers"` // since the start of the node
}

// StreamInfo is one range of a table on its way.
type StreamInfo struct {
	Stream   string `json:"stream"`
	HostID   string `json:"host_id"`
	Address  string `json:"address"`
	Outgoing bool   `json:"outgoing"`
	Keyspace string `json:"keyspace"`
	Table    string `json:"table"`
	Range    string `json:"range"`
	Bytes    int64  `json:"bytes"`
	Expected int64  `json:"bytes_expected"` // about; 0: not known
	Rows     int64  `json:"rows"`
	Resumed  int    `json:"resumed"`
	Error    string `json:"error,omitempty"` // what cut it off last
}

// StreamPeer is what went to and came from one node.
type StreamPeer struct {
	HostID    string `json:"host_id"`
	Address   string `json:"address"`
	BytesIn   int64  `json:"bytes_in"`
	BytesOut  int64  `json:"bytes_out"`
	RangesIn  int64  `json:"ranges_in"`
	RangesOut int64  `json:"ranges_out"`
	Resumed   int64  `json:"resumed"`
	Failed    int64  `json:"failed"`
}

func (n *Node) streamStats() StreamStats {
	s := n.log.Current()
	out := StreamStats{Active: []StreamInfo{}, Peers: []StreamPeer{}}
	for _, p := range n.streams.ledger.Active() {
		i := StreamInfo{Stream: schema.ID(p.Stream).String(), HostID: p.Peer.String(), Address: n.addressOf(p.Peer), Outgoing: p.Outgoing, Range: p.Range.String(),
			Bytes: p.Bytes, Expected: p.Expected, Rows: p.Records, Resumed: p.Resumed, Error: p.Error}
		if t, ok := s.Catalog.TableByGeneration(p.Table); ok {
			i.Keyspace, i.Table = t.Keyspace, t.Name
		}
		out.Active = append(out.Active, i)
	}
	for _, p := range n.streams.ledger.Peers() {
		out.Peers = append(out.Peers, StreamPeer{p.ID.String(), n.addressOf(p.ID), p.BytesIn, p.BytesOut, p.RangesIn, p.RangesOut, p.Resumes, p.FailedIn})
	}
	return out
}

// streamPeersMax bounds the nodes that /metrics tells apart; those beyond, in the order of their ids, are one, other.
const streamPeersMax = 256

// streamMetrics are bytes and ranges of streams for each peer.
func (n *Node) streamMetrics() []admin.Sample {
	type column struct {
		name, help string
		of         func(*StreamPeer) int64
	}
	columns := []column{
		{"helenus_stream_in_bytes_total", "bytes of rows that came from a node in streams", func(p *StreamPeer) int64 { return p.BytesIn }},
		{"helenus_stream_out_bytes_total", "bytes of rows that went to a node in streams", func(p *StreamPeer) int64 { return p.BytesOut }},
		{"helenus_stream_in_ranges_total", "token ranges of tables that came from a node to their end", func(p *StreamPeer) int64 { return p.RangesIn }},
		{"helenus_stream_out_ranges_total", "token ranges of tables that went to a node to their end", func(p *StreamPeer) int64 { return p.RangesOut }},
		{"helenus_stream_resumed_total", "times that a stream from a node was cut off and went on", func(p *StreamPeer) int64 { return p.Resumed }},
		{"helenus_stream_failed_total", "streams from a node that ended with an error", func(p *StreamPeer) int64 { return p.Failed }},
	}
	peers := n.streamStats().Peers
	for i := streamPeersMax; i < len(peers); i++ {
		o, p := &peers[streamPeersMax-1], &peers[i]
		o.HostID = "other"
		o.BytesIn, o.BytesOut, o.RangesIn, o.RangesOut = o.BytesIn+p.BytesIn, o.BytesOut+p.BytesOut, o.RangesIn+p.RangesIn, o.RangesOut+p.RangesOut
		o.Resumed, o.Failed = o.Resumed+p.Resumed, o.Failed+p.Failed
	}
	var out []admin.Sample
	for i := range peers[:min(len(peers), streamPeersMax)] {
		for _, c := range columns {
			out = append(out, admin.Sample{Name: c.name, Help: c.help, Labels: []string{"peer"}, Values: []string{peers[i].HostID}, Value: float64(c.of(&peers[i]))})
		}
	}
	return out
}
