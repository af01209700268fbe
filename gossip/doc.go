// Package gossip says who is alive, and a few small facts about each node. It never says who owns what: that is the
// cluster metadata's business.
//
// Gossip runs hashicorp/memberlist (SWIM). A member is named "<host id>/<generation>", so each start of a node is a
// member of its own: a restarted node is alive as soon as it is heard of, and a late message about its former life
// names another member and cannot hurt it. The cluster id is memberlist's label: packets and streams of another cluster
// are dropped unread.
//
// Detection time. A node that dies is noticed by each other node after at most
//
//	2·(N-1)·ProbeInterval    until the round-robin, which reshuffles after each round, reaches it; half of that on average
//	+ ProbeInterval          until the probe (direct, then indirect and TCP) has failed
//	+ SuspicionMult·max(1, log10 N)·ProbeInterval   while it may refute
//
// With the defaults (500 ms, 6) and 3 nodes this is 4.5 s as a rule and 5.5 s at worst. In larger clusters the first
// that finds out tells all others, so the usual time stays at 4 to 5 s. From 6 nodes on the last term is up to 3 times
// longer unless four others confirm. An observer that is itself unwell (Health) probes more slowly. The latency of
// reads and writes must not depend on any of this.
//
// A local pause (SIGSTOP, a frozen VM, a starved machine) makes all timers of the observer fire at once. The package
// measures its own ticks; after a gap it holds every conviction back for a grace period in which the accused refute.
//
// memberlist forgets the dead. A rejoin loop keeps contacting seeds, known peers and everyone who was ever seen and not
// forgotten by Forget, for ever.
//
// Static is the deterministic detector for tests and for the simulator, which cannot run memberlist.
package gossip
