package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/meta/formation"
	"github.com/helenusdb/helenus/node"
)

// fleet is the cluster of helenus dev while it runs: nodes join it by dev add, and go by dev remove or helenus decommission. A node that fails ends it,
// but for one that was added and has not served clients yet.
type fleet struct {
	o   devOptions
	out io.Writer
	ctx context.Context //nolint:containedctx // that of the process: nodes that are added later end with it, too
	end context.CancelFunc

	mu      sync.Mutex    // guards the fields below; held while the list is written and folders are removed too, so that no node gets one that is going away
	members []*devNode    // in the order of their joining
	refused map[int]error // by number: why a node that was added could not become a member
	running int
	stopped chan struct{} // closed when none runs any more
	errs    []error
}

// devNode is one node. What changes is guarded by fleet.mu.
type devNode struct {
	number int
	addr   string
	added  bool // by dev add, in this run
	n      *node.Node
	done   chan struct{} // closed when it has ended
	failed error         // why it is not one of the running
}

// The states of a node of dev.
const (
	devStarting = "starting"
	devUp       = "up"
	devFailed   = "failed"
)

// devStatus is what /api/v1/dev says.
type devStatus struct {
	Nodes []devNodeStatus `json:"nodes"`
}

type devNodeStatus struct {
	Number  int    `json:"number"`
	Address string `json:"address"`
	State   string `json:"state"` // starting, up, failed
	Error   string `json:"error,omitempty"`
}

func newFleet(ctx context.Context, out io.Writer, o devOptions, numbers []int) (*fleet, error) {
	f := &fleet{o: o, out: out, stopped: make(chan struct{}), refused: map[int]error{}}
	f.ctx, f.end = context.WithCancel(ctx)
	var seeds []string
	for _, number := range numbers {
		seeds = append(seeds, o.address(number))
	}
	for _, number := range numbers {
		n, err := o.newNode(number, seeds, f.endpoints())
		if err != nil {
			f.end()
			return nil, err
		}
		f.members = append(f.members, &devNode{number: number, addr: o.address(number), n: n, done: make(chan struct{})})
	}
	return f, nil
}

// run serves until the process is told to stop, no node is left, or one fails. ready is called when all nodes serve clients.
func (f *fleet) run(ready func()) error {
	defer f.end()
	f.mu.Lock()
	first := slices.Clone(f.members)
	for _, m := range first {
		f.launch(m)
	}
	f.mu.Unlock()
	if f.allReady(first) {
		ready()
	}
	<-f.stopped
	return errors.Join(f.errs...)
}

// allReady waits for the nodes; false when the process ends first. A node that turns out to have left is not waited for.
func (f *fleet) allReady(nodes []*devNode) bool {
	for _, m := range nodes {
		select {
		case <-m.n.Ready():
		case <-f.ctx.Done():
			return false
		case <-m.done:
		}
	}
	return true
}

// launch runs a node. f.mu is held.
func (f *fleet) launch(m *devNode) {
	f.running++
	go func() {
		err := m.n.Run(f.ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ended(m, err)
		close(m.done)
		if f.running--; f.running == 0 {
			close(f.stopped)
		}
	}()
}

// ended notes that a node has ended. f.mu is held.
func (f *fleet) ended(m *devNode, err error) {
	var refused *formation.Refused
	_ = errors.As(err, &refused)
	switch {
	case m.n.Left(), refused != nil && refused.Left:
		f.note(f.forget(m, refused != nil))
		fmt.Fprintf(f.out, "%s has left the cluster\n", m.addr)
	case err != nil && m.added && !isReady(m.n) && f.ctx.Err() == nil:
		m.failed = err // dev add tries it again
		if refused != nil {
			f.refused[m.number] = err
			f.note(f.forget(m, false))
		}
		fmt.Fprintf(f.out, "%s could not be added: %v\n", m.addr, err)
	default:
		f.note(err)
		f.end() // one node that ends, ends the cluster
	}
}

func (f *fleet) note(err error) {
	if err != nil {
		f.errs = append(f.errs, err)
	}
}

func isReady(n *node.Node) bool {
	select {
	case <-n.Ready():
		return true
	default:
		return false
	}
}

// forget takes a node that is no member out of the list, and removes its folder, or sets it aside when what became of its rows was not seen. f.mu is held.
func (f *fleet) forget(m *devNode, aside bool) error {
	f.members = slices.DeleteFunc(f.members, func(o *devNode) bool { return o == m })
	if err := f.o.keep(f.numbers()); err != nil || f.o.ephemeral {
		return err
	}
	dir := f.o.nodeDir(m.number)
	if !aside {
		return os.RemoveAll(dir)
	}
	if err := os.RemoveAll(dir + ".left"); err != nil {
		return err
	}
	return os.Rename(dir, dir+".left")
}

// numbers are those of the members. f.mu is held.
func (f *fleet) numbers() (out []int) {
	for _, m := range f.members {
		out = append(out, m.number)
	}
	return out
}

// add starts one more node, or once more one that could not be added. It returns its status; whether the node comes up shows later.
func (f *fleet) add(ctx context.Context) (devNodeStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil || f.running == 0 {
		return devNodeStatus{}, errors.New("the cluster is being stopped")
	}
	again := slices.IndexFunc(f.members, func(m *devNode) bool { return m.failed != nil })
	number := 1
	if again >= 0 {
		number = f.members[again].number
	} else {
		for slices.Contains(f.numbers(), number) {
			number++
		}
	}
	if number > devNodesMax {
		return devNodeStatus{}, fmt.Errorf("there are %d nodes, which is the most", devNodesMax)
	}
	m := &devNode{number: number, addr: f.o.address(number), added: true, done: make(chan struct{})}
	if err := portsFree(ctx, m.addr); err != nil {
		return devNodeStatus{}, err
	}
	var seeds []string
	for _, o := range f.members {
		if o.failed == nil {
			seeds = append(seeds, o.addr)
		}
	}
	var err error
	if m.n, err = f.o.newNode(number, append(seeds, m.addr), f.endpoints()); err != nil {
		return devNodeStatus{}, err
	}
	if again >= 0 {
		f.members[again] = m
	} else if err := f.enter(m); err != nil {
		return devNodeStatus{}, err
	}
	delete(f.refused, number)
	f.launch(m)
	return m.status(), nil
}

// enter puts a new node into the list, with an empty folder. f.mu is held.
func (f *fleet) enter(m *devNode) error {
	if !f.o.ephemeral {
		if err := os.RemoveAll(f.o.nodeDir(m.number)); err != nil { // of one that left, if dev was killed before it could remove it
			return err
		}
	}
	if err := f.o.keep(append(f.numbers(), m.number)); err != nil {
		return err
	}
	f.members = append(f.members, m)
	return nil
}

// portsFree looks whether a node can listen at the address, so that one that cannot is not made.
func portsFree(ctx context.Context, addr string) error {
	c := config.Default()
	for _, port := range []int{c.NativePort, c.StoragePort, c.GossipPort, c.AdminPort} {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(addr, strconv.Itoa(port)))
		if err != nil {
			return fmt.Errorf("a node at %s cannot listen: %w", addr, err)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// status of a node. fleet.mu is held.
func (m *devNode) status() devNodeStatus {
	s := devNodeStatus{Number: m.number, Address: m.addr, State: devStarting}
	switch {
	case m.failed != nil:
		s.State, s.Error = devFailed, m.failed.Error()
	case isReady(m.n):
		s.State = devUp
	}
	return s
}

func (f *fleet) status() (out devStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		out.Nodes = append(out.Nodes, m.status())
	}
	for number := 1; number <= devNodesMax; number++ {
		if err := f.refused[number]; err != nil {
			out.Nodes = append(out.Nodes, devNodeStatus{number, f.o.address(number), devFailed, err.Error()})
		}
	}
	return out
}

// endpoints are the commands that each node of dev takes beside its own.
func (f *fleet) endpoints() []admin.Endpoint {
	return []admin.Endpoint{
		{Method: "GET", Path: "dev", Do: func(context.Context, url.Values) (any, error) { return f.status(), nil }},
		{Method: "POST", Path: "dev/nodes", Do: func(ctx context.Context, _ url.Values) (any, error) {
			s, err := f.add(ctx)
			if err != nil {
				return nil, &admin.BadRequest{Why: err.Error()}
			}
			return s, nil
		}},
	}
}
