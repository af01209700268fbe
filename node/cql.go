package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/cql/exec"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/server"
	"github.com/helenusdb/helenus/cql/system"
	"github.com/helenusdb/helenus/gossip"
	"github.com/helenusdb/helenus/internal/hlc"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// cqlService is what clients talk to, and what tells them of changes.
type cqlService struct {
	n        *Node
	server   *server.Server
	executor *exec.Executor

	mu    sync.Mutex // guards told; not held while clients are told
	told  map[ring.HostID]bool
	uuids uuidSource
}

// makeCQL makes what startCQL opens to clients: its metrics are shown before.
func (n *Node) makeCQL(context.Context) error {
	c := n.o.Config
	s := &cqlService{n: n, told: map[ring.HostID]bool{}, uuids: uuidSource{now: n.o.Now, node: n.o.uint64()}}
	tables, err := system.New(system.Options{Current: n.log.Current, Self: n.home.HostID, Native: c.Native(),
		Listen: n.self.Internode, Settings: func() []system.Setting { return settings(c) },
		Clients:  func() []server.ConnState { return s.server.Connections() },
		Prepared: func(fn func(id [16]byte, keyspace, text string)) { s.executor.Prepared(fn) },
		Sizes:    (&sizes{n: n, token: make(chan struct{}, 1)}).get, Caches: n.caches, Pools: s.pools, Repairs: n.repairRows})
	if err != nil {
		return err
	}
	s.executor, err = exec.New(exec.Options{Coordinator: n.coord, Schema: ddl{n}, System: tables, Native: c.Native(),
		Clock: n.clock.Timestamp, NewTimeUUID: s.uuids.next, NewUUID: n.o.uuid, Now: n.o.Now,
		Limits: exec.Limits{PreparedBytes: int64(c.PreparedCache), Heavy: c.HeavyQueries, BatchWarn: int(c.BatchWarn), BatchFail: int(c.BatchFail),
			Stamps:       exec.StampLimits{MaxWarn: c.MaxStampWarn, MaxFail: c.MaxStampFail, MinWarn: c.MinStampWarn, MinFail: c.MinStampFail},
			UnloggedWarn: c.UnloggedWarn},
		SlowThreshold: c.SlowQueryThreshold, SlowValues: c.SlowQueryValues, FailWritesTo: c.FailWritesTo, IsInvalid: isInvalid, Logger: n.o.Logger})
	if err != nil {
		return err
	}
	tlsConfig, err := n.nativeTLS()
	if err != nil {
		return err
	}
	s.server, err = server.New(server.Options{Listeners: []server.Listener{{Addr: c.NativeListen(), TLS: tlsConfig}}, Handler: s.executor,
		Limits:   server.Limits{ConnsMax: c.MaxConnections, ConnsPerAddrMax: c.MaxConnectionsIP, InFlightBytes: int64(c.InFlight), InFlightBytesPerAddr: int64(c.InFlightIP)},
		Timeouts: server.Timeouts{Idle: c.IdleTimeout}, EchoPayload: c.EchoCustomPayload,
		Listen: func(ctx context.Context, addr string) (net.Listener, error) { return n.o.Net.Listen(ctx, addr) }, Logger: n.o.Logger})
	if err != nil {
		return err
	}
	n.cql.Store(s)
	return nil
}

// startCQL serves clients.
func (n *Node) startCQL(ctx context.Context) error {
	s := n.cql.Load()
	n.services.start("executor", s.executor.Run, nil)
	if lead := n.clock.Lead(); lead > 0 && lead <= hlc.Ahead { // after a crash an instant ago
		sleep(ctx, lead)
	}
	if err := s.server.Listen(ctx); err != nil {
		return err
	}
	n.services.start("CQL server", s.server.Run, func(gentle context.Context) {
		if err := s.server.Shutdown(gentle); err != nil {
			n.o.Logger.Warn("drain", "err", err)
		}
	})
	return nil
}

func settings(c *config.Config) []system.Setting {
	var out []system.Setting
	for _, s := range c.Values() {
		out = append(out, system.Setting{Name: s.Key, Value: s.Value})
	}
	return out
}

// tell passes events of the metadata on to clients.
func (s *cqlService) tell(events []meta.Event) {
	for _, e := range events {
		switch {
		case e.Schema != nil:
			s.server.Broadcast(&protocol.Event{Type: protocol.SchemaChange, Change: string(e.Schema.Change), Target: string(e.Schema.Target),
				Keyspace: e.Schema.Keyspace, Name: e.Schema.Name})
		case e.Node != nil && e.Node.Kind == meta.NodeRemoved:
			s.server.Broadcast(&protocol.Event{Type: protocol.TopologyChange, Change: protocol.RemovedNode, Addr: e.Node.Node.Native})
			s.mu.Lock()
			delete(s.told, e.Node.Node.ID)
			s.mu.Unlock()
		case e.Node != nil && e.Node.Kind == meta.NodeMoved:
			s.server.Broadcast(&protocol.Event{Type: protocol.TopologyChange, Change: protocol.MovedNode, Addr: e.Node.Node.Native})
		case e.Node != nil && e.Node.Kind == meta.NodeAdded: // it may have said that it serves clients before this was known
			if g := s.n.liveness(); g != nil && e.Node.Node.ID != s.n.home.HostID {
				if st, ok := g.State(e.Node.Node.ID); ok && st.Alive {
					s.up(st)
				}
			}
		}
	}
}

// up tells clients once that a member serves clients, as soon as it says so.
func (s *cqlService) up(st gossip.State) {
	state := s.n.log.Current()
	m := state.Node(st.ID)
	if !st.Meta.Native.IsValid() || st.Meta.Phase != gossip.Normal || m == nil || !state.Owns(st.ID) {
		return
	}
	s.mu.Lock()
	before, known := s.told[st.ID]
	s.told[st.ID] = true
	s.mu.Unlock()
	if before {
		return
	}
	if !known {
		s.server.Broadcast(&protocol.Event{Type: protocol.TopologyChange, Change: protocol.NewNode, Addr: m.Native})
	}
	s.server.Broadcast(&protocol.Event{Type: protocol.StatusChange, Change: protocol.StatusUp, Addr: m.Native})
}

func (s *cqlService) down(st gossip.State) {
	state := s.n.log.Current()
	m := state.Node(st.ID)
	if m == nil || !state.Owns(st.ID) {
		return
	}
	s.mu.Lock()
	was, known := s.told[st.ID]
	s.told[st.ID] = false
	s.mu.Unlock()
	if was || !known {
		s.server.Broadcast(&protocol.Event{Type: protocol.StatusChange, Change: protocol.StatusDown, Addr: m.Native})
	}
}

// uuidSource makes version 1 UUIDs, each later than the one before.
type uuidSource struct {
	now  func() time.Time
	node uint64
	last atomic.Int64 // 100 ns since 1582
}

// gregorian is the offset between the UUID epoch (1582-10-15) and the Unix epoch, in units of 100 ns.
const gregorian = 0x01B21DD213814000

func (u *uuidSource) next() (id [16]byte) {
	var t int64
	for {
		last := u.last.Load()
		t = max(u.now().UnixNano()/100+gregorian, last+1)
		if u.last.CompareAndSwap(last, t) {
			break
		}
	}
	return timeUUID(t, u.node)
}

// timeUUID returns a UUID, version 1, of a time in units of 100 ns since 1582.
func timeUUID(t int64, node uint64) (id [16]byte) {
	binary.BigEndian.PutUint32(id[0:], uint32(t))
	binary.BigEndian.PutUint16(id[4:], uint16(t>>32))
	binary.BigEndian.PutUint16(id[6:], uint16(t>>48)&0x0fff|0x1000)
	binary.BigEndian.PutUint64(id[8:], node)
	id[8] = id[8]&0x3f | 0x80
	id[10] |= 1 // a random node id has the multicast bit set, RFC 9562 section 6.10
	return id
}

func (n *Node) servesClients() (bool, string) {
	select {
	case <-n.ready:
		return true, ""
	default:
		return false, fmt.Sprintf("starting: epoch %d, member %t", n.log.Current().Epoch, n.log.Current().Node(n.home.HostID) != nil)
	}
}
