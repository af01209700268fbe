package formation

import (
	"fmt"
	"net/netip"
	"time"
)

// Action is what a node does next.
type Action uint8

// The actions.
const (
	Wait  Action = iota + 1 // ask again
	Found                   // found the cluster
	Join                    // join through a member of Decision.Through
	Refuse
)

// Decision is the outcome of Decide.
type Decision struct {
	Action  Action
	Through []*Hello // Join: members to ask, of one cluster, in the order of the seeds
	Reason  string   // Wait, Refuse: what an operator is told
}

func wait(format string, args ...any) Decision {
	return Decision{Action: Wait, Reason: fmt.Sprintf(format, args...)}
}

func refuse(format string, args ...any) Decision {
	return Decision{Action: Refuse, Reason: fmt.Sprintf(format, args...)}
}

// Decide returns what the node self, which is no member yet, does, given its seed list, the answers of the other seeds by
// their place in the list (nil: no answer), and for how long it has been asking.
func Decide(self *Hello, seeds []netip.AddrPort, answers []*Hello, asking, silentFor time.Duration) Decision {
	for i, h := range answers {
		if h == nil || self.is(h) {
			continue
		}
		if h.Host == self.Host {
			return refuse("seed %s has this node's host id %s: two processes have one identity; give each its own data folder", seeds[i], self.Host)
		}
		if h.ClusterName != self.ClusterName {
			return refuse("seed %s belongs to cluster %q, this node is configured for %q", seeds[i], h.ClusterName, self.ClusterName)
		}
	}
	if d, ok := decideMember(self, seeds, answers); ok {
		return d
	}
	for i, h := range answers {
		if h != nil && h.FirstSeed != self.FirstSeed {
			return refuse("seed %s has %s as its first seed, this node has %s: all nodes need the same seed list", seeds[i], h.FirstSeed, self.FirstSeed)
		}
	}
	return decideFound(self, seeds, answers, asking < silentFor)
}

// is tells whether h is this process's own answer, to a probe by another of its addresses.
func (h *Hello) is(o *Hello) bool { return h.Host == o.Host && h.Internode == o.Internode }

// decideMember looks for members among the answers: one cluster may be joined, two are a mistake.
func decideMember(self *Hello, seeds []netip.AddrPort, answers []*Hello) (Decision, bool) {
	var members []*Hello
	for i, h := range answers {
		switch {
		case h == nil || h.Stage != Member:
			continue
		case self.Stage != Empty && h.ClusterID != self.ClusterID:
			return refuse("seed %s belongs to another cluster than the one this node has begun to join: wipe its data folder to join this one", seeds[i]), true
		case len(members) > 0 && members[0].ClusterID != h.ClusterID:
			return refuse("seeds %s and %s belong to two different clusters", members[0].Internode, seeds[i]), true
		}
		members = append(members, h)
	}
	return Decision{Action: Join, Through: members}, len(members) > 0
}

// decideFound is for a node that sees no member.
func decideFound(self *Hello, seeds []netip.AddrPort, answers []*Hello, early bool) Decision {
	if self.Stage != Empty {
		return wait("waiting for a member of the cluster that this node has begun to join")
	}
	for i, h := range answers {
		if h != nil && h.Stage == Joining {
			return wait("seed %s is joining a cluster: waiting for one of its members", seeds[i])
		}
	}
	if self.Internode != self.FirstSeed && (len(answers) == 0 || answers[0] == nil || !self.is(answers[0])) {
		return wait("waiting for %s, the first seed, to found the cluster, or for any member", self.FirstSeed)
	}
	for i, h := range answers {
		if h == nil && seeds[i] != self.Internode && early {
			return wait("waiting for seed %s to answer before founding the cluster", seeds[i])
		}
	}
	return Decision{Action: Found}
}
