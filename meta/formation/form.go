package formation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

const (
	seedsMax     = 64
	askTimeout   = joinTimeout + forgetTimeout + 5*time.Second // longer than a member works on a join
	probeTimeout = time.Second
	probeEvery   = 150 * time.Millisecond
	sayEvery     = 10 * time.Second
)

// Refused is returned when this node must not be part of the cluster that its seeds belong to; the node does not
// start.
type Refused struct {
	Reason string
	// Left: it was a member, and has left. Its data folder is of no use.
	Left bool
}

// Error returns the reason.
func (r *Refused) Error() string { return "this node cannot take part: " + r.Reason }

// Options configure one formation.
type Options struct {
	Self        meta.Node // without tokens and state
	ClusterName string
	NumTokens   int
	Seeds       []netip.AddrPort // in the order of the configuration, the same on all nodes
	// SilentFor is how long the first seed waits for other seeds that do not answer before it founds; default 3 s.
	SilentFor time.Duration
	Probe     func(ctx context.Context, addr string, body []byte) ([]byte, error)
	// Introduce is called before a member is asked to let this node join. It makes it durable that this node has begun to
	// join the cluster, starts its part in the metadata log, and tells the transport which cluster this node talks to and
	// where the member lives.
	Introduce func(ctx context.Context, cluster [16]byte, member ring.HostID, addr netip.AddrPort) error
	Call      func(ctx context.Context, to ring.HostID, class rpc.Class, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error)
	// Pledged is the cluster that this node has begun to join before: it founds none and joins no other. Zero: none.
	Pledged     [16]byte
	Partitioner string // configured full class name; empty: that of the cluster
	// Replaces asks the member who lives at what this node was told to replace; nil: it replaces nobody. An error that is a *Refused is final.
	Replaces func(ctx context.Context, member ring.HostID) (ring.HostID, error)
	Logger   *slog.Logger
}

func (o *Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// Outcome is how an empty node became part of a cluster: it founds one, or it has joined and State is the cluster's
// metadata with this node in it, encoded.
type Outcome struct {
	Founds bool
	State  []byte
}

// Form finds out, for an empty node, whether to found a cluster, and joins otherwise. It returns *Refused when the
// answer is no, and ctx's error when it ends first.
func Form(ctx context.Context, o Options) (*Outcome, error) {
	if len(o.Seeds) == 0 || len(o.Seeds) > seedsMax {
		return nil, fmt.Errorf("formation: %d seeds are not between 1 and %d", len(o.Seeds), seedsMax)
	}
	if o.SilentFor == 0 {
		o.SilentFor = 3 * time.Second
	}
	self := &Hello{Host: o.Self.ID, Internode: o.Self.Internode, FirstSeed: o.Seeds[0], ClusterName: o.ClusterName, Generation: o.Self.Generation}
	if self.ClusterID = o.Pledged; o.Pledged != [16]byte{} {
		self.Stage = Joining
	}
	began := time.Now()
	var said time.Time
	for attempt := 0; ; attempt++ {
		d := Decide(self, o.Seeds, ask(ctx, self, o.Seeds, o.Probe), time.Since(began), o.SilentFor)
		switch d.Action {
		case Found:
			return &Outcome{Founds: true}, nil
		case Refuse:
			return nil, &Refused{Reason: d.Reason}
		case Join: // each attempt through another member: one may be cut off from the rest
			through := d.Through[attempt%len(d.Through)]
			state, retry, err := join(ctx, o, through)
			if err == nil {
				return &Outcome{State: state}, nil
			}
			if !retry {
				return nil, err
			}
			self.Stage, self.ClusterID = Joining, through.ClusterID
			d.Reason = err.Error()
		}
		if time.Since(said) >= sayEvery {
			said = time.Now()
			o.logger().Info("not part of a cluster yet", "reason", d.Reason)
		}
		t := time.NewTimer(probeEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

// ask probes all seeds but self, at the same time, and returns their answers by place.
func ask(ctx context.Context, self *Hello, seeds []netip.AddrPort, probe func(context.Context, string, []byte) ([]byte, error)) []*Hello {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answers := make([]*Hello, len(seeds))
	body := self.Append(nil)
	var wg sync.WaitGroup
	for i, seed := range seeds {
		if seed == self.Internode {
			continue
		}
		wg.Go(func() {
			raw, err := probe(ctx, seed.String(), body)
			if err != nil {
				return
			}
			if h, err := DecodeHello(raw); err == nil {
				answers[i] = h
			}
		})
	}
	wg.Wait()
	return answers
}

// join asks a member; retry says that asking again may help.
func join(ctx context.Context, o Options, through *Hello) (state []byte, retry bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := o.Introduce(ctx, through.ClusterID, through.Host, through.Internode); err != nil {
		return nil, false, fmt.Errorf("formation: %w", err)
	}
	c := meta.Command{Kind: meta.AddPending, Node: o.Self, ClusterName: o.ClusterName, Partitioner: o.Partitioner, NumTokens: uint32(o.NumTokens)}
	if o.Replaces != nil {
		id, err := o.Replaces(ctx, through.Host)
		var no *Refused
		if err != nil {
			return nil, !errors.As(err, &no), err
		}
		c.Node.Replaces = id
	}
	body, status, err := o.Call(ctx, through.Host, rpc.Urgent, VerbJoin, c.Append(nil))
	switch {
	case err != nil:
		var re *rpc.Refusal
		if left := Dismissed(err); left != nil {
			return nil, false, left
		}
		if errors.As(err, &re) {
			return nil, true, fmt.Errorf("%s refuses the connection: %w", through.Internode, err)
		}
		return nil, true, fmt.Errorf("asking %s: %w", through.Internode, err)
	case status == StatusRefused:
		return nil, false, &Refused{Reason: string(body)}
	case status != rpc.StatusOK:
		return nil, true, fmt.Errorf("asking %s: %s %s", through.Internode, status, body)
	}
	return body, false, nil
}

const hasLeft = "it has left the cluster; wipe its data folder to join as a new node"

// Dismissed returns the refusal of a node to which a call to a member ended with err because the cluster has let it go, while it was down or cut off; nil for
// any other error. The word of one member is enough: who has left never comes back.
func Dismissed(err error) *Refused {
	var r *rpc.Refusal
	if errors.As(err, &r) && r.Remote && r.Code == rpc.RefusedNotMember {
		return &Refused{Reason: hasLeft, Left: true}
	}
	return nil
}

// Check compares what a node that has been part of a cluster knows with its configuration and with what the seeds and
// its former address answer now; *Refused when it must not start.
func Check(ctx context.Context, o Options, s *meta.State) error {
	me := s.Node(o.Self.ID)
	switch {
	case me == nil:
		return fmt.Errorf("formation: host id %s is not in the cluster's metadata", o.Self.ID)
	case s.ClusterName != o.ClusterName:
		return &Refused{Reason: fmt.Sprintf("its data belongs to cluster %q, the configuration says %q", s.ClusterName, o.ClusterName)}
	case me.State == meta.Left:
		return &Refused{Reason: hasLeft, Left: true}
	case me.DC != o.Self.DC || me.Rack != o.Self.Rack:
		return &Refused{Reason: fmt.Sprintf("it joined as %s/%s, and data centre and rack cannot change to %s/%s", me.DC, me.Rack, o.Self.DC, o.Self.Rack)}
	case o.Partitioner != "" && s.Partitioner != o.Partitioner:
		return &Refused{Reason: fmt.Sprintf("the cluster's partitioner is %s, the configuration says %s", s.Partitioner, o.Partitioner)}
	}
	self := memberHello(o, s)
	asked := o.Seeds
	if me.Internode != o.Self.Internode {
		asked = append(asked[:len(asked):len(asked)], me.Internode)
	}
	for i, h := range ask(ctx, self, asked, o.Probe) {
		if h == nil {
			continue
		}
		if h.Stage == Member && h.ClusterID != s.ClusterID {
			return &Refused{Reason: fmt.Sprintf("seed %s belongs to another cluster (%q) than this node's data", asked[i], h.ClusterName)}
		}
		if h.Host == o.Self.ID && h.Internode != o.Self.Internode {
			return &Refused{Reason: fmt.Sprintf("another process runs with its host id %s at %s: a copied data folder is no new node", h.Host, asked[i])}
		}
	}
	return nil
}

// memberHello is what a member of the cluster of s says of itself.
func memberHello(o Options, s *meta.State) *Hello {
	return &Hello{Host: o.Self.ID, Internode: o.Self.Internode, FirstSeed: o.Seeds[0], ClusterName: o.ClusterName, ClusterID: s.ClusterID, Stage: Member, Generation: o.Self.Generation}
}

// Members asks the seeds and returns those that are members of the cluster of s, without this node: for a node that has forgotten whom
// it knew.
func Members(ctx context.Context, o Options, s *meta.State) []*Hello {
	return slices.DeleteFunc(ask(ctx, memberHello(o, s), o.Seeds, o.Probe), func(h *Hello) bool {
		return h == nil || h.Stage != Member || h.ClusterID != s.ClusterID || h.Host == o.Self.ID
	})
}
