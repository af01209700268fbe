package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/gossip"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/storage"
)

// Network opens the connections of a node.
type Network interface {
	Listen(ctx context.Context, addr string) (net.Listener, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// Detector is the failure detector of a node: *gossip.Gossip, or a deterministic one in simulations.
type Detector interface {
	gossip.Detector
	// Run watches the others until ctx ends. Before Ready is closed the detector knows only the node itself.
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	// Join contacts the addresses now and returns how many were reached.
	Join(ctx context.Context, addrs []string) (reached int, err error)
	// SetPeers replaces the addresses that the cluster metadata name.
	SetPeers(addrs []string)
	// Forget drops a node that has left for good and ended.
	Forget(id ring.HostID)
	// UpdateMeta spreads new facts about this node.
	UpdateMeta(m gossip.NodeMeta) error
	// Leave tells the others that this node stops.
	Leave(ctx context.Context) error
}

// Options are what a node needs besides its configuration. Zero values mean the real world.
type Options struct {
	Config *config.Config
	FS     storage.FS // nil: the disk
	Net    Network    // nil: TCP
	// Detector makes the failure detector from the identity, the facts and the events of the node. nil: gossip.New
	Detector func(gossip.Options) (Detector, error)
	// Now tells the wall clock where time is data: timestamps, TTL, the age of hints. nil: time.Now
	Now func() time.Time
	// Random fills b; everything random in the node comes from it. nil: crypto/rand
	Random func(b []byte)
	// Fatal ends the process after an error that must not be survived, such as a failed fsync. nil: exit code 70
	Fatal   func(error)
	Logger  *slog.Logger // nil: discard
	Version string       // of the binary, for logs and status
	// PurgeInterval is the time between two background purges of the store. 0: its default
	PurgeInterval time.Duration
	// ClearSuspect: stores whose logs were found too short count as whole again (storage.Engine.Suspect, raftlog.Service.Suspect).
	// The node votes on conditional writes again when what it has forgotten of them is settled with the other replicas.
	ClearSuspect bool
	// VoteUnsettled: it votes at once.
	VoteUnsettled bool
	// SettleWait is how long after its start that is not begun. 0: 30 s, or twice the longest timeout of the configuration
	SettleWait time.Duration
	// Replace is the host id or the address of a dead node whose tokens and place an empty node takes. Empty: none
	Replace string
	// Filler makes what brings rows to a node that gains ranges: Filling does. nil: nothing can, and operations that move ranges are refused
	Filler func(*Node) movement.Filler
	// Endpoints are further commands of the admin interface, of whoever runs the node. nil: none
	Endpoints []admin.Endpoint
}

const fatalExit = 70 // EX_SOFTWARE

func (o Options) withDefaults() Options {
	if o.Config == nil {
		o.Config = config.Default()
	}
	if o.FS == nil {
		o.FS = storage.Disk()
	}
	if o.Net == nil {
		o.Net = tcp{}
	}
	if o.Detector == nil {
		o.Detector = func(g gossip.Options) (Detector, error) { return gossip.New(g) }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = func(b []byte) { _, _ = rand.Read(b) } // never fails, see crypto/rand
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		log := o.Logger
		o.Fatal = func(err error) {
			log.Error("the node ends: what it would say from here on could not be trusted", "err", err)
			os.Exit(fatalExit)
		}
	}
	return o
}

func (o *Options) uint64() uint64 {
	var b [8]byte
	o.Random(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// intn returns a number in [0, n).
func (o *Options) intn(n int) int { return int(o.uint64() % uint64(n)) }

// uuid returns a random UUID, version 4.
func (o *Options) uuid() (id [16]byte) {
	o.Random(id[:])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

type tcp struct{}

func (tcp) Listen(ctx context.Context, addr string) (net.Listener, error) {
	var l net.ListenConfig
	return l.Listen(ctx, "tcp", addr)
}

func (tcp) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}
