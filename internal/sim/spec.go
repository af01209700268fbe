package sim

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/helenusdb/helenus/internal/sim/workload"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults. What each one does stands with its function in faults.go.
const (
	Crash     Kind = "crash"
	Restart   Kind = "restart"
	Pause     Kind = "pause"
	Isolate   Kind = "isolate"
	Partition Kind = "partition"
	OneWay    Kind = "one-way"
	Slow      Kind = "slow"
	Reset     Kind = "reset"
	ClockJump Kind = "clock-jump"
	ClockSkew Kind = "clock-skew"
	DiskFull  Kind = "disk-full"
	NoSpace   Kind = "no-space"
	BadSync   Kind = "bad-sync"
	BitFlip   Kind = "bit-flip"
)

// The kinds of what an operator does to the cluster meanwhile (moves.go). They are events of the schedule as faults are.
const (
	Join         Kind = "join"
	Decommission Kind = "decommission"
	Replace      Kind = "replace"
	Remove       Kind = "remove"
	Move         Kind = "move"
	Alter        Kind = "alter"
	Abort        Kind = "abort"
)

// skewBound is further from true time than any schedule takes a clock: many jumps in one direction are unlikely, and clockJump
// stops at it.
const skewBound = 10 * time.Second

// spareHosts is how many machines, beside those that found the cluster, can join a cluster that grows.
const spareHosts = 12

// weight is how often a kind occurs among the faults of a scenario.
type weight struct {
	kind Kind
	of   int
}

// Scenario is a kind of run: which clients, which faults, how often.
type Scenario struct {
	Name      string
	Workloads []string // of package workload; none: all
	faults    []weight
	every     time.Duration // mean time between faults
	lossMax   int           // per mille of instants in which a flow loses something
	skewMax   time.Duration // of the clocks from the start
	nodes     [2]int        // at least, at most
	dcs       int           // data centres; 0: one
	rf        int           // replicas of what the workloads write; 0: their default
	purge     time.Duration // between two purges of each store; 0: the default, which no run reaches
	hintsOff  bool
	logFlips  bool          // bits flip in the log of the rows only
	longest   time.Duration // of a fault, but for one in ten; 0: 6 s
	point     string        // of every crash and every failing sync: the class of file-system calls; "": drawn
	dated     bool          // coordinators always give the timestamps
	// grace: tables with deletions have a gc_grace that ends soon after the run, and the workloads look at them then. Without it no
	// grace ends.
	grace bool
	// moves: nodes have what brings them rows, and machines that can join stand by.
	moves bool
	most  int // members at once in a scenario that moves
	// strong: all writes are made at a quorum, for what less have acknowledged may be lost by design.
	strong bool
}

// Scenarios returns all scenarios, in a fixed order.
func Scenarios() []Scenario {
	network := []weight{{Isolate, 4}, {Partition, 4}, {OneWay, 4}, {Slow, 3}, {Reset, 4}, {Pause, 3}}
	machines := []weight{{Crash, 8}, {Restart, 3}, {BadSync, 2}, {DiskFull, 2}, {NoSpace, 1}}
	clocks := []weight{{ClockJump, 6}, {ClockSkew, 4}, {Pause, 2}}
	operators := []weight{{Join, 6}, {Decommission, 5}, {Move, 4}, {Alter, 4}, {Abort, 1}}
	disturbances := []weight{{Crash, 8}, {Restart, 3}, {BadSync, 1}, {Pause, 2}, {Isolate, 3}, {Partition, 3}, {OneWay, 2}, {Slow, 2}, {Reset, 2}, {ClockJump, 1}}
	all := slices.Concat(network, machines, clocks[:2], []weight{{BitFlip, 1}})
	return []Scenario{
		{Name: "calm", nodes: [2]int{5, 5}},
		{Name: "registers", faults: all, every: 3 * time.Second, lossMax: 3, skewMax: 200 * time.Millisecond, nodes: [2]int{3, 5}},
		{Name: "quorum", faults: network, every: 3 * time.Second, lossMax: 10, skewMax: 50 * time.Millisecond, nodes: [2]int{3, 5}},
		{Name: "crashes", faults: machines, every: 3 * time.Second, lossMax: 1, skewMax: 50 * time.Millisecond, nodes: [2]int{3, 5}},
		{Name: "clocks", faults: append(clocks, weight{Crash, 2}, weight{Isolate, 2}), every: 2 * time.Second, lossMax: 1, skewMax: time.Second, nodes: [2]int{3, 5}},
		{Name: "purge", Workloads: []string{"deletes"}, faults: append(network, weight{Crash, 4}), every: 3 * time.Second, lossMax: 3, nodes: [2]int{3, 5},
			purge: 5 * time.Second, hintsOff: true},
		{Name: "grace", Workloads: []string{"deletes"}, faults: append(network, weight{Crash, 4}), every: 3 * time.Second, lossMax: 3, nodes: [2]int{3, 5},
			purge: 5 * time.Second, grace: true},
		{Name: "timeline", faults: []weight{{ClockJump, 6}, {Crash, 5}, {Restart, 3}}, every: 700 * time.Millisecond, lossMax: 1, skewMax: time.Second, nodes: [2]int{3, 3},
			longest: 400 * time.Millisecond, dated: true},
		{Name: "halves", Workloads: []string{"batches"}, faults: slices.Concat(network, []weight{{Crash, 8}, {Restart, 3}}), every: time.Second, lossMax: 3, nodes: [2]int{3, 5},
			rf: 1, hintsOff: true},
		{Name: "syncs", faults: []weight{{Crash, 3}, {OneWay, 2}}, every: 400 * time.Millisecond, longest: 2 * time.Second, lossMax: 1, nodes: [2]int{3, 3}, rf: 1, hintsOff: true, point: "store log sync"},
		{Name: "failing", faults: []weight{{BadSync, 1}}, every: time.Second, longest: 2 * time.Second, lossMax: 1, nodes: [2]int{3, 3}, rf: 1, point: "store log sync"},
		{Name: "hinted", faults: []weight{{OneWay, 6}, {Partition, 2}, {Isolate, 2}, {Restart, 6}, {Crash, 4}}, every: 500 * time.Millisecond, lossMax: 1, nodes: [2]int{3, 3}, rf: 1},
		{Name: "single", faults: machines, every: 2 * time.Second, lossMax: 1, nodes: [2]int{3, 3}, rf: 1},
		{Name: "centres", faults: append(network, weight{Crash, 2}), every: 3 * time.Second, lossMax: 3, skewMax: 50 * time.Millisecond, nodes: [2]int{6, 6}, dcs: 2},
		{Name: "disks", faults: []weight{{BitFlip, 4}, {BadSync, 3}, {DiskFull, 3}, {NoSpace, 2}, {Crash, 3}}, every: 4 * time.Second, lossMax: 1, nodes: [2]int{3, 5}},
		{Name: "moves", faults: slices.Concat(operators, disturbances), every: 2 * time.Second, lossMax: 2, skewMax: 50 * time.Millisecond, nodes: [2]int{3, 5}, moves: true, most: 7},
		{Name: "losses", faults: slices.Concat(operators, []weight{{Replace, 6}, {Remove, 3}}, disturbances), every: 2 * time.Second, lossMax: 2, skewMax: 50 * time.Millisecond,
			nodes: [2]int{4, 5}, moves: true, most: 7, strong: true},
		{Name: "shards", faults: slices.Concat(operators, operators, network, []weight{{Crash, 4}}), every: time.Second, lossMax: 2, nodes: [2]int{3, 5}, rf: 1, moves: true, most: 7},
		{Name: "unhinted", faults: slices.Concat([]weight{{Alter, 12}, {Join, 4}, {Decommission, 4}}, network, []weight{{Crash, 4}}), every: time.Second, lossMax: 5, nodes: [2]int{4, 5}, moves: true,
			most: 7, hintsOff: true, strong: true},
		{Name: "flips", faults: []weight{{BitFlip, 4}, {Crash, 1}}, every: 2 * time.Second, lossMax: 1, nodes: [2]int{3, 3}, rf: 1, logFlips: true},
	}
}

const (
	graceSlack = 2 * time.Minute // by which gc_grace is longer than a run
	purgeSkew  = time.Minute     // storage takes for dead only what died so long ago
)

// options returns how the workloads of a run of that length are configured, given what the seed drew.
func (s *Scenario) options(o workload.Options, span time.Duration) workload.Options {
	if s.rf > 0 {
		o.RF = s.rf
	}
	o.Moving, o.Strong = s.moves, s.strong
	if s.purge == 0 {
		return o
	}
	o.Settle = purgeSkew + 4*s.purge
	if s.grace {
		o.GCGrace = span + graceSlack
		o.Settle += o.GCGrace
	}
	return o
}

// loses tells whether machines are lost for good.
func (s *Scenario) loses() bool {
	return slices.ContainsFunc(s.faults, func(w weight) bool { return w.kind == Replace || w.kind == Remove })
}

// ScenarioNamed returns a scenario.
func ScenarioNamed(name string) (Scenario, error) {
	var known []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		known = append(known, s.Name)
	}
	return Scenario{}, fmt.Errorf("sim: no scenario %q; there are %v", name, known)
}

// Fault is one event of a schedule.
type Fault struct {
	At    time.Duration // after the workloads have begun
	Kind  Kind
	Host  int
	Peer  int
	For   time.Duration
	Point string // of a crash or of a failing sync: the class of file-system calls; "": between calls
	Keep  int    // percent of unsynced data that survives a crash
	Arg   int64
	Aim   aim // whom it strikes instead of Host, when there is such a node
}

// aim names a node by what it does at that moment.
type aim string

const (
	aimMoving aim = "moving" // one that joins, leaves or changes its tokens
	aimLeader aim = "leader" // of the metadata log
)

func (f Fault) String() string {
	s := fmt.Sprintf("%s host=%d peer=%d for=%s point=%q keep=%d arg=%d", f.Kind, f.Host, f.Peer, f.For, f.Point, f.Keep, f.Arg)
	if f.Aim != "" {
		s += " aim=" + string(f.Aim)
	}
	return s
}

// plan is what the seed decides before anything runs.
type plan struct {
	seed      draw
	scenario  Scenario
	nodes     int // that found the cluster
	hosts     int // of them and of those that may join
	racks     int
	tokens    int
	partition string // partitioner
	sync      string
	loss      int
	features  workload.Features
	clients   workload.Options
	kinds     []weight // what is left of the scenario's after swarm
	schedule  []Fault
}

// makePlan returns the plan of a seed. Swarm switches a random subset of faults and features off. span is how long faults are
// injected; at most faults of them are (negative: all).
func makePlan(seed uint64, s Scenario, swarm bool, span time.Duration, faults int) plan {
	d := draw(seed).of("seed", seed)
	p := plan{seed: d, scenario: s, kinds: s.faults}
	p.nodes = s.nodes[0] + int(d.of("nodes").below(int64(s.nodes[1]-s.nodes[0]+1)))
	p.hosts = p.nodes
	if s.moves {
		p.hosts += spareHosts
	}
	p.racks = 1 + int(d.of("racks").below(int64(p.nodes)))
	p.tokens = []int{1, 4, 8, 16}[d.of("tokens").below(4)]
	if s.moves { // each range is compared for each table: many would be slow
		p.tokens = min(p.tokens, 4)
	}
	p.partition = []string{"Murmur3Partitioner", "XXHashPartitioner"}[d.of("partitioner").below(2)]
	p.sync = []string{"group", "group", "batch"}[d.of("sync").below(3)]
	p.loss = int(d.of("loss").below(int64(s.lossMax + 1)))
	p.features = workload.Features{LWT: true, Counters: true, LoggedBatches: true, TTL: true, Deletes: true, Pages: true, ServerTimestamps: d.of("server timestamps").percent(40)}
	p.clients = workload.Options{Clients: 1 + int(d.of("clients").below(4)), Keys: []int{4, 8, 64}[d.of("keys").below(3)],
		Pace: time.Duration([]int64{10, 20, 40}[d.of("pace").below(3)]) * time.Millisecond, Skew: skewBound}
	if swarm {
		p.swarm()
	}
	p.features.ServerTimestamps = p.features.ServerTimestamps || s.dated
	p.schedule = p.draft(span)
	if faults >= 0 && faults < len(p.schedule) {
		p.schedule = p.schedule[:faults]
	}
	return p
}

// String describes the cluster and its clients.
func (p *plan) String() string {
	return fmt.Sprintf("%d nodes, %d racks, %d tokens, %s, %s sync, %d of 1000 lost, clients %+v, features %+v", p.nodes, p.racks, p.tokens, p.partition,
		p.sync, p.loss, p.clients, p.features)
}

func (p *plan) swarm() {
	f := &p.features
	for i, on := range []*bool{&f.LWT, &f.Counters, &f.LoggedBatches, &f.TTL, &f.Deletes, &f.Pages, &f.ServerTimestamps} {
		*on = p.seed.of("feature", uint64(i)).percent(60)
	}
	var left []weight
	for _, w := range p.kinds {
		if p.seed.of("kind " + string(w.kind)).percent(50) {
			left = append(left, w)
		}
	}
	if len(left) == 0 && len(p.kinds) > 0 {
		left = []weight{p.kinds[p.seed.of("kind").below(int64(len(p.kinds)))]}
	}
	p.kinds = left
}

// draft draws the schedule: the gaps between faults are between nothing and twice the mean.
func (p *plan) draft(span time.Duration) []Fault {
	if len(p.kinds) == 0 {
		return nil
	}
	var out []Fault
	at := time.Duration(0)
	for i := uint64(0); ; i++ {
		d := p.seed.of("fault", i)
		at += time.Duration(1 + d.of("gap").below(int64(2*p.scenario.every)))
		if at >= span {
			return out
		}
		out = append(out, p.fault(d, at))
	}
}

func (p *plan) fault(d draw, at time.Duration) Fault {
	f := Fault{At: at, Kind: p.kindOf(d.of("kind")), Host: int(d.of("host").below(int64(p.nodes))), Arg: int64(d.of("arg") >> 1)}
	f.Peer = (f.Host + 1 + int(d.of("peer").below(int64(p.nodes-1)))) % p.nodes
	f.For = 200*time.Millisecond + time.Duration(d.of("for").below(int64(cmp.Or(p.scenario.longest, 6*time.Second))))
	if d.of("long").percent(10) {
		f.For += time.Duration(d.of("longer").below(int64(20 * time.Second)))
	}
	f.Keep = []int{0, 0, 50, 100, int(d.of("keep").below(101))}[d.of("keeps").below(5)]
	f.Point = p.pointOf(d, f.Kind)
	if p.scenario.moves {
		p.aimAt(d, &f)
	}
	return f
}

// aimAt lets faults strike any machine that is in use by then, and often one that has a part in what moves.
func (p *plan) aimAt(d draw, f *Fault) {
	f.Host, f.Peer = int(d.of("any host").below(int64(p.hosts))), int(d.of("any peer").below(int64(p.hosts)))
	if f.Kind != Crash && f.Kind != Restart && f.Kind != Pause && f.Kind != Isolate && f.Kind != BadSync {
		return
	}
	switch n := d.of("aim").below(10); {
	case n < 3:
		f.Aim = aimMoving
	case n < 5:
		f.Aim = aimLeader
	}
}

func (p *plan) kindOf(d draw) Kind {
	total := 0
	for _, w := range p.kinds {
		total += w.of
	}
	at := int(d.below(int64(total)))
	for _, w := range p.kinds {
		if at -= w.of; at < 0 {
			return w.kind
		}
	}
	panic("sim: weights")
}

// skips is how many calls of its class a crash lets pass. In a scenario that has a point of its own some: the first one after a rest is always the first of
// an operation, and an operation has several.
func (p *plan) skips(f Fault) int {
	if p.scenario.point == "" {
		return 0
	}
	return int(f.Arg >> 3 % skipsMax)
}

const skipsMax = 12

// pointOf chooses the class of file-system calls of a fault.
func (p *plan) pointOf(d draw, k Kind) string {
	pick := func(from []string) string { return from[d.of("point").below(int64(len(from)))] }
	switch {
	case (k == Crash || k == BadSync) && p.scenario.point != "":
		return p.scenario.point
	case k == BadSync:
		return pick([]string{"store log sync", "store log sync", "meta log sync"})
	case k != Crash || d.of("between").percent(20):
		return ""
	case d.of("float").percent(30):
		return pick(crashClassesFloat)
	}
	return pick(crashClasses)
}
