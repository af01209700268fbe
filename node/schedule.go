package node

import (
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/cql/system"
	"github.com/helenusdb/helenus/repair"
	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// This file binds the scheduler of repairs, and shows what it knows.

// busyInFlight is how many requests a node coordinates at the same time when scheduled repairs step back.
const busyInFlight = 64

func (n *Node) makeScheduler() {
	n.scheduler = repair.NewScheduler(repair.SchedulerOptions{Service: n.repair, Within: n.o.Config.RepairWithin, Jobs: (&jobs{n: n}).list,
		Busy:   func() bool { return n.coord.InFlight() >= busyInFlight },
		Random: func() float64 { return float64(n.o.uint64()>>11) / (1 << 53) }, Now: n.o.Now, Logger: n.o.Logger})
}

// jobs lists what this node keeps repaired: the ranges that it is the first replica of.
type jobs struct {
	n *Node

	mu    sync.Mutex // guards what follows; held for computation only
	epoch uint64
	tasks []repair.Task
}

func (j *jobs) list() []repair.Job {
	tasks := j.planned()
	out := make([]repair.Job, len(tasks))
	for i := range tasks {
		out[i] = j.n.job(tasks[i])
	}
	return out
}

// planned returns the tasks of the newest metadata; they are computed once for each.
func (j *jobs) planned() []repair.Task {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s := j.n.log.Current(); s.Epoch != j.epoch || j.tasks == nil {
		tasks, err := repairCluster{j.n}.Plan(&repair.Spec{Primary: true})
		if err != nil { // this node has no tokens yet
			j.n.o.Logger.Debug("nothing is kept repaired", "err", err)
			return nil
		}
		j.epoch, j.tasks = s.Epoch, tasks
	}
	return j.tasks
}

// job returns how a range stands by what is recorded.
func (n *Node) job(t repair.Task) repair.Job {
	j := repair.Job{Task: t, At: history.None, Before: history.None}
	if t, ok := n.log.Current().Catalog.TableByGeneration(t.Generation); ok {
		j.ByAge = termsOf(t).Mode != schema.TombstoneGCRepair
	}
	for i, id := range t.Replicas {
		if i > 0 && !n.alive(id) {
			j.Blocked = fmt.Sprintf("replica %s is down", n.addressOf(id))
			break
		}
	}
	first := true
	n.book.Load().Table(t.Generation).Visit(t.Tokens, func(e history.Entry) {
		at, before := e.At, e.Before
		if !n.counts(&e, t.Replicas) {
			at, before = history.None, history.None
		}
		if first {
			j.At, j.Before, first = at, before, false
		}
		j.At, j.Before = min(j.At, at), min(j.Before, before)
	})
	return j
}

func (n *Node) addressOf(id ring.HostID) string {
	if m := n.log.Current().Node(id); m != nil {
		return m.Internode.Addr().String()
	}
	return id.String()
}

// RepairStatus is what `helenus repair status` shows of a node: the ranges that it is the first replica of.
type RepairStatus struct {
	Within float64             `json:"repair_within_seconds"` // 0: nothing is repaired by itself
	Tables []RepairTableStatus `json:"tables"`
}

// RepairTableStatus says how the ranges of a table stand. Times are seconds since the epoch; nil: some range never was.
type RepairTableStatus struct {
	Keyspace string `json:"keyspace"`
	Table    string `json:"table"`
	Mode     string `json:"tombstone_gc"`
	Ranges   int    `json:"ranges"`
	Repaired int    `json:"ranges_repaired"` // on all their replicas, at some time
	Oldest   *int64 `json:"oldest_repaired_at"`
	Newest   *int64 `json:"newest_repaired_at"` // of the ranges that were repaired
	// Bound is the time up to which repair vouches for deletions in all ranges; nil: nowhere, or not everywhere.
	Bound *int64 `json:"deletions_purgeable_before"`
	Kept  int    `json:"ranges_keeping_tombstones"` // by mode repair, because they were not repaired since, see why
	Why   string `json:"why,omitempty"`             // of the range that was repaired longest ago
}

// repairStatus returns how the tables stand, by name.
func (n *Node) repairStatus() RepairStatus {
	out := RepairStatus{Within: n.o.Config.RepairWithin.Seconds(), Tables: []RepairTableStatus{}}
	index := map[schema.Generation]int{}
	for _, j := range n.scheduler.Status() {
		i, ok := index[j.Generation]
		if !ok {
			i, index[j.Generation] = len(out.Tables), len(out.Tables)
			out.Tables = append(out.Tables, RepairTableStatus{Keyspace: j.Keyspace, Table: j.Table})
		}
		n.addJob(&out.Tables[i], &j)
	}
	slices.SortFunc(out.Tables, func(a, b RepairTableStatus) int {
		return slices.Compare([]string{a.Keyspace, a.Table}, []string{b.Keyspace, b.Table})
	})
	return out
}

func (n *Node) addJob(t *RepairTableStatus, j *repair.JobStatus) {
	first := t.Ranges == 0
	t.Ranges++
	mode, _ := n.modeOf(j.Generation)
	t.Mode = mode.String()
	if mode == schema.TombstoneGCRepair && n.keeps(j) {
		t.Kept++
	}
	older := first || t.Oldest != nil && (j.At == history.None || j.At < *t.Oldest)
	if older || t.Why == "" {
		t.Why = j.Why
	}
	if older {
		t.Oldest = known(j.At)
	}
	if j.At != history.None {
		t.Repaired++
		if t.Newest == nil || *t.Newest < j.At {
			t.Newest = known(j.At)
		}
	}
	if first || t.Bound != nil && (j.Before == history.None || j.Before < *t.Bound) {
		t.Bound = known(j.Before)
	}
}

func (n *Node) modeOf(gen schema.Generation) (schema.TombstoneGC, int32) {
	t, ok := n.log.Current().Catalog.TableByGeneration(gen)
	if !ok {
		return schema.TombstoneGCRepair, schema.PropagationDelay
	}
	return t.Options.TombstoneGC()
}

// keeps tells whether a range keeps its tombstones longer than the scheduler's turns explain.
func (n *Node) keeps(j *repair.JobStatus) bool {
	return j.Blocked != "" || j.Before == history.None || n.o.Now().Sub(time.Unix(j.Before, 0)) > max(2*n.o.Config.RepairWithin, time.Hour)
}

// keptBecause says why a range keeps its tombstones, in one of the words of keptReasons.
func (n *Node) keptBecause(j *repair.JobStatus) string {
	switch {
	case j.Blocked != "":
		return "replica-down"
	case j.At == history.None:
		return "never-repaired"
	case j.Before == history.None:
		return "not-vouched-for"
	case j.Before < j.At:
		return "hint-or-batch-pending"
	}
	return "late"
}

var keptReasons = [...]string{"replica-down", "never-repaired", "not-vouched-for", "hint-or-batch-pending", "late"}

func known(at int64) *int64 {
	if at == history.None {
		return nil
	}
	return &at
}

// scheduleMetrics are the counters of the scheduler.
func (n *Node) scheduleMetrics() []admin.Metric {
	m, r := n.scheduler.Metrics(), n.repair.Metrics()
	counter := func(name, help string, load func() int64) admin.Metric {
		return admin.Metric{Name: name, Help: help, Kind: admin.Counter, Value: func() float64 { return float64(load()) }}
	}
	return []admin.Metric{
		counter("helenus_repair_scheduled_total", "sessions that the scheduler has led", m.Sessions.Load),
		counter("helenus_repair_scheduled_failed_total", "those of them that failed", m.Failed.Load),
		counter("helenus_repair_stepped_back_total", "times that a scheduled session was put off or paused because the node was busy", m.SteppedBack.Load),
		counter("helenus_repair_differences_total", "small intervals in which sessions that this node has led found replicas different", r.Different.Load),
		counter("helenus_repair_unheard_total", "sessions of which a replica has not heard that they succeeded: it purges later", r.Unheard.Load),
	}
}

// rangeMetrics say how the ranges stand that this node is the first replica of, all by one look at them.
func (n *Node) rangeMetrics() []admin.Sample {
	jobs, now := n.scheduler.Status(), n.o.Now().Unix()
	oldest, kept := now, map[string]int{}
	for i := range jobs {
		j := &jobs[i]
		if j.At != history.None {
			oldest = min(oldest, j.At)
		}
		if mode, _ := n.modeOf(j.Generation); mode == schema.TombstoneGCRepair && n.keeps(j) {
			kept[n.keptBecause(j)]++
		}
	}
	gauge := func(name, help string, v int64) admin.Sample {
		return admin.Sample{Name: name, Help: help, Kind: admin.Gauge, Value: float64(v)}
	}
	out := []admin.Sample{
		gauge("helenus_repair_oldest_seconds", "age of the last repair of the range that was repaired longest ago, of those that this node is the first replica of and that were repaired", now-oldest),
		gauge("helenus_repair_ranges", "ranges of tables that this node is the first replica of, with more than one replica", int64(len(jobs))),
	}
	for _, reason := range keptReasons {
		g := gauge("helenus_tombstones_kept_ranges", "ranges by tombstone_gc repair that keep their tombstones, by why", int64(kept[reason]))
		g.Labels, g.Values = []string{"reason"}, []string{reason}
		out = append(out, g)
	}
	return out
}

// repairRows are the rows of system_views.repairs: one for each range that this node is the first replica of.
func (n *Node) repairRows() []system.Repair {
	var out []system.Repair
	for _, j := range n.scheduler.Status() {
		r := system.Repair{ID: repairID(&j), Keyspace: j.Keyspace, Table: j.Table, Range: rangeOf(j.Tokens), Why: j.Why}
		if j.At != history.None {
			r.At = time.Unix(j.At, 0)
		}
		for _, id := range j.Replicas {
			if m := n.log.Current().Node(id); m != nil {
				r.Replicas = append(r.Replicas, m.Internode.String())
			}
		}
		out = append(out, r)
	}
	return out
}

// repairID names a row of system_views.repairs: a time UUID of when the range was repaired, the rest of which is made of what was.
func repairID(j *repair.JobStatus) (id [16]byte) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d", j.Generation, j.Tokens.First)
	return timeUUID(max(j.At, 0)*1e7+gregorian, h.Sum64())
}
