package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/helenusdb/helenus/ring"
)

// ErrOptions is returned, wrapped, by New for options that cannot work.
var ErrOptions = errors.New("gossip: bad options")

// Options say who the local node is and how it gossips. They are not changed after New.
type Options struct {
	HostID ring.HostID // must be set
	// Generation numbers this life of the node: at least 1 and higher than in every life before, so it is made durable
	// before Run.
	Generation int64
	ClusterID  string         // 1 to 255 bytes; nodes with another one are never heard of
	Bind       netip.AddrPort // UDP and TCP; port 0 takes a free one
	Advertise  netip.AddrPort // what others are told; zero: the bound address (or a private one if that is unspecified)
	Seeds      []string       // host:port; contacted again and again while nobody alive has that address
	// Keys encrypt gossip (AES-GCM): 16, 24 or 32 bytes each; the first one encrypts, all decrypt. Empty: no
	// encryption.
	Keys   [][]byte
	Meta   NodeMeta // initial facts
	Events Events
	Logger *slog.Logger     // nil: no logs
	Now    func() time.Time // for State.Since and for noticing pauses; nil: time.Now

	ProbeInterval    time.Duration // one member is probed per interval; 0: 500 ms
	ProbeTimeout     time.Duration // round trip expected within this, then others are asked; 0: 200 ms; below ProbeInterval
	SuspicionMult    int           // suspicion lasts SuspicionMult * max(1, log10 N) * ProbeInterval; 0: 6
	GossipInterval   time.Duration // 0: 100 ms
	PushPullInterval time.Duration // full exchange with one random member; 0: 15 s
	RejoinInterval   time.Duration // dead and missing addresses are contacted this often; 0: 3 s
	PauseMin         time.Duration // a tick that comes later than this is a pause of the local process; 0: 1.5 s
	PauseGrace       time.Duration // after a pause convictions are held this long; 0: 5 s
	StreamTimeout    time.Duration // dialling, and reading or writing a full exchange; 0: 2 s
	MembersMax       int           // nodes known at most, dead ones included; more are ignored; 0: 4096

	gossipToTheDead time.Duration // 30 s; the dead are reaped by memberlist after that
	filter          func(addr string) bool
}

// Limits that are not options.
const (
	contactsMax    = 1024 // addresses besides those of members
	rejoinBatchMax = 64   // addresses contacted in one round
	rejoinParallel = 8
	udpBytesMax    = 1400
	handoffMax     = 1024 // UDP messages waiting to be handled; more are dropped
	updateTimeout  = 2 * time.Second
	tickInterval   = 100 * time.Millisecond
)

func (o Options) withDefaults() Options {
	duration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	duration(&o.ProbeInterval, 500*time.Millisecond)
	duration(&o.ProbeTimeout, 200*time.Millisecond)
	duration(&o.GossipInterval, 100*time.Millisecond)
	duration(&o.PushPullInterval, 15*time.Second)
	duration(&o.RejoinInterval, 3*time.Second)
	duration(&o.PauseMin, 1500*time.Millisecond)
	duration(&o.PauseGrace, 5*time.Second)
	duration(&o.StreamTimeout, 2*time.Second)
	duration(&o.gossipToTheDead, 30*time.Second)
	if o.SuspicionMult == 0 {
		o.SuspicionMult = 6
	}
	if o.MembersMax == 0 {
		o.MembersMax = 4096
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) validate() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrOptions, what) }
	switch {
	case o.HostID.IsZero():
		return bad("no host id")
	case o.Generation < 1:
		return bad("generation must be at least 1")
	case o.ClusterID == "" || len(o.ClusterID) > memberlist.LabelMaxSize:
		return bad("cluster id must have 1 to 255 bytes")
	case !o.Bind.IsValid():
		return bad("no bind address")
	case o.Advertise.IsValid() && o.Advertise.Port() == 0:
		return bad("advertised port is 0")
	case len(o.Seeds) > contactsMax:
		return bad("too many seeds")
	case o.ProbeTimeout >= o.ProbeInterval:
		return bad("probe timeout must be below the probe interval")
	case o.ProbeInterval < 0 || o.ProbeTimeout < 0 || o.GossipInterval < 0 || o.PushPullInterval < 0 || o.RejoinInterval < 0 ||
		o.PauseMin < 0 || o.PauseGrace < 0 || o.StreamTimeout < 0 || o.SuspicionMult < 0 || o.MembersMax < 0:
		return bad("negative interval or limit")
	}
	for _, k := range o.Keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return bad("a key must have 16, 24 or 32 bytes")
		}
	}
	return o.Meta.Validate()
}

// memberlistConfig translates the options; see the package comment for what they amount to.
func (o Options) memberlistConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = memberName(o.HostID, o.Generation)
	c.Label = o.ClusterID
	c.BindAddr, c.BindPort = o.Bind.Addr().String(), int(o.Bind.Port())
	c.AdvertiseAddr, c.AdvertisePort = "", c.BindPort
	if o.Advertise.IsValid() {
		c.AdvertiseAddr, c.AdvertisePort = o.Advertise.Addr().String(), int(o.Advertise.Port())
	}
	c.ProbeInterval, c.ProbeTimeout = o.ProbeInterval, o.ProbeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = o.SuspicionMult, 3
	c.GossipInterval, c.PushPullInterval = o.GossipInterval, o.PushPullInterval
	c.GossipToTheDeadTime = o.gossipToTheDead
	c.TCPTimeout = o.StreamTimeout
	c.UDPBufferSize = udpBytesMax
	c.HandoffQueueDepth = handoffMax
	c.DelegateProtocolMin, c.DelegateProtocolMax, c.DelegateProtocolVersion = metaVersion, metaVersion, metaVersion
	return c
}
