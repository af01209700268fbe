package coordinator_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/coordinator"
)

// casInput is an operation on the register of one key: a serial read, or "if it is from, make it to". No value is written twice.
type casInput struct {
	key      int
	read     bool
	from, to string
}

// casOutput is what the client was told.
type casOutput struct {
	applied, nothing, unknown bool
	was                       string
}

var casModel = porcupine.NondeterministicModel{
	Partition: func(h []porcupine.Operation) (out [][]porcupine.Operation) {
		byKey := map[int]int{}
		for _, op := range h {
			k := op.Input.(casInput).key
			if _, ok := byKey[k]; !ok {
				byKey[k] = len(out)
				out = append(out, nil)
			}
			out[byKey[k]] = append(out[byKey[k]], op)
		}
		return out
	},
	Init: func() []any { return []any{""} },
	Step: func(state, input, output any) []any {
		s, in, out := state.(string), input.(casInput), output.(casOutput)
		switch {
		case out.nothing:
			return []any{s}
		case in.read && out.unknown:
			return []any{s}
		case in.read:
			return one(s == out.was, s)
		case out.unknown && s == in.from:
			return []any{s, in.to}
		case out.unknown:
			return []any{s}
		case out.applied:
			return one(s == in.from, in.to)
		}
		return one(s == out.was && s != in.from, s)
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

func one(ok bool, s string) []any {
	if ok {
		return []any{s}
	}
	return nil
}

// casHistory collects what clients did.
type casHistory struct {
	mu  sync.Mutex
	ops []porcupine.Operation
}

func (h *casHistory) add(client int, in casInput, out casOutput, call, ret time.Time, zero time.Time) {
	end := ret.Sub(zero).Nanoseconds()
	if out.unknown {
		end = math.MaxInt64 / 2 // it may happen at any later time
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call.Sub(zero).Nanoseconds(), Return: end})
}

const (
	casKeys    = 3
	casClients = 6
)

// casTrial is one run: clients, a storm of faults and, perhaps, power losses.
type casTrial struct {
	c       *cluster
	h       casHistory
	zero    time.Time
	crashes atomic.Int64 // counted before and after each: who sees it change was told by a node that is dead
	counts  [4]atomic.Int64
}

func (x *casTrial) client(id int, r *rand.Rand, ops int) {
	c := x.c
	seen := map[int]string{}
	for i := range ops {
		n, k := r.IntN(len(c.nodes)), r.IntN(casKeys)
		in := casInput{key: k, read: r.IntN(3) == 0, from: seen[k], to: fmt.Sprintf("%d.%d", id, i)}
		var out casOutput
		var err error
		before := x.crashes.Load()
		call := time.Now()
		if in.read {
			out.was, err = c.serial(n, key(k), coordinator.Serial)
		} else {
			out.applied, out.was, err = c.cas(n, key(k), set(in.from, in.to), func(op *coordinator.CAS) {
				op.Commit = []coordinator.Level{coordinator.Quorum, coordinator.One, coordinator.Any, coordinator.All}[r.IntN(4)]
			})
		}
		ret := time.Now()
		out.unknown = x.crashes.Load() != before || before%2 == 1
		if err != nil {
			out.applied = false
			out.nothing, out.unknown = x.outcomeOf(err, out.unknown)
		}
		switch {
		case out.nothing:
			x.counts[0].Add(1)
		case out.unknown:
			x.counts[1].Add(1)
		case out.applied:
			x.counts[2].Add(1)
			seen[k] = in.to
		default:
			x.counts[3].Add(1)
			seen[k] = out.was
		}
		x.h.add(id, in, out, call, ret, x.zero)
		time.Sleep(time.Duration(r.IntN(40000)) * time.Microsecond)
	}
}

// outcomeOf tells what an error says: nothing was done, or that is not known.
func (x *casTrial) outcomeOf(err error, dead bool) (nothing, unknown bool) {
	var u *coordinator.Unavailable
	var wf *coordinator.WriteFailure
	var wt *coordinator.WriteTimeout
	var wu *coordinator.CASWriteUnknown
	var rt *coordinator.ReadTimeout
	var rf *coordinator.ReadFailure
	var o *coordinator.Overloaded
	switch {
	case errors.As(err, &u), errors.As(err, &wf), errors.As(err, &o):
		return true, false
	case errors.As(err, &wt), errors.As(err, &wu), errors.As(err, &rt), errors.As(err, &rf), dead:
		return false, true
	}
	x.c.t.Errorf("unexpected error: %v", err)
	return false, true
}

func (x *casTrial) run(seed uint64, ops int, crash bool) {
	x.zero = time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	var storm, clients sync.WaitGroup
	storm.Go(func() { x.c.storm(ctx, rand.New(rand.NewPCG(seed, 1000))) })
	if crash {
		storm.Go(func() { x.crashNodes(ctx, rand.New(rand.NewPCG(seed, 2000))) })
	}
	for i := range casClients {
		clients.Go(func() { x.client(i, rand.New(rand.NewPCG(seed, uint64(i))), ops) })
	}
	clients.Wait()
	cancel()
	storm.Wait()
	time.Sleep(5 * time.Second)
	for k := range casKeys { // in the end everything is decided, whoever asks
		for n := range x.c.nodes {
			call := time.Now()
			was, err := x.c.serial(n, key(k), coordinator.Serial)
			if err != nil {
				x.c.t.Errorf("after the storm: %v", err)
			}
			x.h.add(casClients+n, casInput{key: k, read: true}, casOutput{was: was}, call, time.Now(), x.zero)
		}
	}
}

// crashNodes cuts the power of one node after another.
func (x *casTrial) crashNodes(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(500+r.IntN(2500)) * time.Millisecond)
		x.crashes.Add(1)
		x.c.nodes[r.IntN(len(x.c.nodes))].crash()
		x.crashes.Add(1)
	}
}

// settledOps returns the operations as the checker wants them: without those that say nothing, and with those of unknown outcome
// bounded. A value is written once, so an unknown write that anybody saw happened before whoever saw it first had his answer; one
// that nobody ever saw changed nothing that anybody could tell, and is left out.
func (h *casHistory) settledOps() (out []porcupine.Operation) {
	type sight struct {
		key   int
		value string
	}
	seen := map[sight]int64{}
	for _, op := range h.ops {
		in, o := op.Input.(casInput), op.Output.(casOutput)
		if o.nothing || o.unknown {
			continue
		}
		at := sight{in.key, o.was}
		if !in.read && o.applied {
			at.value = in.from
		}
		if first, ok := seen[at]; !ok || op.Return < first {
			seen[at] = op.Return
		}
	}
	for _, op := range h.ops {
		in, o := op.Input.(casInput), op.Output.(casOutput)
		if o.unknown {
			first, ok := seen[sight{in.key, in.to}]
			if in.read || !ok {
				continue
			}
			op.Return = max(op.Call, first)
		}
		if !o.nothing {
			out = append(out, op)
		}
	}
	return out
}

// check is called outside of virtual time, in which the checker's own time limit would never come.
func (x *casTrial) check(t *testing.T) {
	ops := x.h.settledOps()
	t.Logf("%d operations, %d of them say something: %d did nothing, %d unknown, %d applied, %d not applied or read", len(x.h.ops), len(ops),
		x.counts[0].Load(), x.counts[1].Load(), x.counts[2].Load(), x.counts[3].Load())
	if res := porcupine.CheckOperationsTimeout(casModel.ToModel(), ops, time.Minute); res != porcupine.Ok {
		t.Errorf("linearizable: %v", res)
		show(t, ops)
	}
	if x.counts[2].Load() == 0 || x.counts[3].Load() == 0 {
		t.Error("the run says nothing")
	}
}

// show logs the histories of the keys that are not linearizable.
func show(t *testing.T, all []porcupine.Operation) {
	for _, ops := range casModel.Partition(all) {
		if porcupine.CheckOperationsTimeout(casModel.ToModel(), ops, time.Minute) == porcupine.Ok {
			continue
		}
		slices.SortFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		for _, op := range ops {
			t.Logf("%12d %20d client %d %+v -> %+v", op.Call/1000, op.Return/1000, op.ClientId, op.Input, op.Output)
		}
	}
}

// TestTheCheckerChecks: it finds a value that came back, an update that was lost and a refusal that was none, and takes what is
// right, with unknown outcomes.
func TestTheCheckerChecks(t *testing.T) {
	type step struct {
		in   casInput
		out  casOutput
		a, b int64
	}
	for name, x := range map[string]struct {
		steps []step
		want  bool
	}{
		"right": {[]step{{casInput{to: "1"}, casOutput{applied: true}, 0, 1}, {casInput{from: "1", to: "2"}, casOutput{unknown: true}, 2, 3},
			{casInput{read: true}, casOutput{was: "1"}, 4, 5}, {casInput{read: true}, casOutput{was: "2"}, 6, 7}}, true},
		"back": {[]step{{casInput{to: "1"}, casOutput{applied: true}, 0, 1}, {casInput{from: "1", to: "2"}, casOutput{unknown: true}, 2, 3},
			{casInput{read: true}, casOutput{was: "2"}, 4, 5}, {casInput{read: true}, casOutput{was: "1"}, 6, 7}}, false},
		"lost":       {[]step{{casInput{to: "1"}, casOutput{applied: true}, 0, 3}, {casInput{to: "2"}, casOutput{applied: true}, 1, 2}}, false},
		"a lie":      {[]step{{casInput{to: "1"}, casOutput{was: "x"}, 0, 1}, {casInput{read: true}, casOutput{was: "1"}, 2, 3}}, false},
		"seen early": {[]step{{casInput{read: true}, casOutput{was: "1"}, 0, 1}, {casInput{to: "1"}, casOutput{unknown: true}, 2, 3}}, false},
	} {
		h := casHistory{}
		for i, s := range x.steps {
			h.add(i, s.in, s.out, time.Unix(0, s.a), time.Unix(0, s.b), time.Unix(0, 0))
		}
		if got := porcupine.CheckOperations(casModel.ToModel(), h.settledOps()); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestScenario_P6_Linearizable: conditional writes and serial reads through all nodes, with nodes down, slow, lossy and
// refusing, are linearizable; unknown outcomes stay open, what was told not to have happened never did.
func TestScenario_P6_Linearizable(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			x := casTrial{}
			simulated(t, func(t *testing.T) {
				x.c = three(t)
				x.run(seed, 150, false)
			})
			x.check(t)
		})
	}
}

// TestScenario_P7_Crowded: all clients on one key through all nodes, messages overtake one another and some are lost: proposers keep
// getting into each other's way, and what they then tell is linearizable too.
func TestScenario_P7_Crowded(t *testing.T) {
	seeds := uint64(10)
	if os.Getenv("HELENUS_LONG") != "" {
		seeds = 200
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			x := casTrial{}
			simulated(t, func(t *testing.T) {
				x.c, x.zero = three(t), time.Now()
				r := rand.New(rand.NewPCG(seed, 3000))
				x.c.setFault(func(message) action { // under c.mu
					return action{drop: r.IntN(50) == 0, delay: time.Duration(1+r.IntN(3000)) * time.Microsecond}
				})
				var clients sync.WaitGroup
				for i := range 9 {
					clients.Go(func() { x.crowd(i, rand.New(rand.NewPCG(seed, uint64(i))), 25) })
				}
				clients.Wait()
			})
			x.check(t)
		})
	}
}

// crowd is client on one key, without rest.
func (x *casTrial) crowd(id int, r *rand.Rand, ops int) {
	seen := ""
	for i := range ops {
		in := casInput{read: r.IntN(6) == 0, from: seen, to: fmt.Sprintf("%d.%d", id, i)}
		var out casOutput
		var err error
		call := time.Now()
		if in.read {
			out.was, err = x.c.serial(id%3, key(0), coordinator.Serial)
		} else {
			out.applied, out.was, err = x.c.cas(id%3, key(0), set(in.from, in.to))
		}
		ret := time.Now()
		switch {
		case err != nil:
			out.applied = false
			out.nothing, out.unknown = x.outcomeOf(err, false)
			x.counts[1].Add(1)
		case out.applied:
			x.counts[2].Add(1)
			seen = in.to
		default:
			x.counts[3].Add(1)
			seen = out.was
		}
		x.h.add(id, in, out, call, ret, x.zero)
	}
}

// TestScenario_P14_PowerLosses: the same while nodes lose what they had not synced: no promise, acceptance or commit that was
// answered is among it.
func TestScenario_P14_PowerLosses(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			x := casTrial{}
			simulated(t, func(t *testing.T) {
				x.c = newCluster(t, layout{dcs: nodesIn("dc1", 3), fs: func(int) vfs.FS { return vfs.NewCrashableMem() }})
				x.run(seed, 150, true)
			})
			x.check(t)
		})
	}
}
