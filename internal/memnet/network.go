package memnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	bufferDefault  = 256 << 10 // bytes in flight per direction of a connection
	backlog        = 128       // connections that a listener has not accepted yet
	ephemeralFirst = 40000     // first port of dialers and of listeners on port 0
)

// Options configure a Network.
type Options struct {
	// Buffer bounds the bytes written but not yet read in one direction of a connection; 0 means 256 KiB.
	Buffer int
	// Delay is the one-way latency between different hosts; see SetDelay.
	Delay time.Duration
	// Latency, when it is set, decides in place of Delay and SetDelay how long after this instant arrives what is written
	// now. Everything written in one instant must get the same answer: how a stream is cut into writes then cannot be
	// seen at the other end. It is called without locks held and must not use the network.
	Latency func(*Flow) time.Duration
	// Spacing is how far apart arrives what was written in different instants and held up on the way, by a latency that
	// shrinks or by a cut; 0: all at once.
	Spacing time.Duration
	// Observe, when it is set, is told of the bytes that enter a flow, in order. It is called under the lock of that
	// flow: it must neither keep the bytes nor use the network.
	Observe func(*Flow, []byte)
}

// Flow is one direction of a connection.
type Flow struct {
	From, To string // hosts
	Port     int    // that was dialed
	Forward  bool   // From has dialed
	User     any    // the observer's

	label  *atomic.Uint64 // shared by both directions
	dialed time.Time
}

// Label is a hash (FNV-1a, 64 bits) of what the dialer's first Write began with, up to 256 bytes, and of when it dialed; 0 until
// that Write. It names a connection by what it is for, where port numbers depend on who was first.
func (f *Flow) Label() uint64 { return f.label.Load() }

// Network connects hosts. Its methods may be used from any goroutine.
type Network struct {
	opt Options

	mu        sync.Mutex
	listeners map[string]*listener // by address
	ports     map[string]int       // last ephemeral port by host
	cuts      map[direction]bool
	delays    map[direction]time.Duration
	isolated  map[string]bool
	silent    map[string]bool
	conns     []*conn       // open ones, in the order of their creation
	changed   chan struct{} // closed and replaced whenever a fault or a listener changes
}

type direction struct{ from, to string }

// New returns a network without hosts or faults.
func New(opt Options) *Network {
	if opt.Buffer == 0 {
		opt.Buffer = bufferDefault
	}
	return &Network{opt: opt, listeners: map[string]*listener{}, ports: map[string]int{}, cuts: map[direction]bool{},
		delays: map[direction]time.Duration{}, isolated: map[string]bool{}, silent: map[string]bool{}, changed: make(chan struct{})}
}

// Host is one machine on the network; its name is usually an IP address.
type Host struct {
	net  *Network
	name string
}

// Host returns the host of that name; it needs no registration.
func (n *Network) Host(name string) *Host { return &Host{net: n, name: name} }

// Addr is the address of a host whose name is no IP address; the others have a *net.TCPAddr.
type Addr struct {
	Host string
	Port int
}

// Network returns "tcp".
func (a Addr) Network() string { return "tcp" }

// String returns "host:port".
func (a Addr) String() string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }

func addrOf(host string, port int) net.Addr {
	if ip, err := netip.ParseAddr(host); err == nil {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port)))
	}
	return Addr{host, port}
}

// portLocked returns the next ephemeral port of a host.
func (n *Network) portLocked(host string) int {
	p := max(n.ports[host], ephemeralFirst-1) + 1
	if p > 65535 {
		p = ephemeralFirst
	}
	n.ports[host] = p
	return p
}

// Listen opens a listener on a port of this host. addr is "host:port", where host may be empty or 0.0.0.0 and must
// otherwise be this host; port 0 takes a free one. The error wraps syscall.EADDRINUSE when somebody listens there.
func (h *Host) Listen(addr string) (net.Listener, error) {
	name, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, opError("listen", nil, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || name != "" && name != "0.0.0.0" && name != h.name {
		return nil, opError("listen", nil, errors.New("cannot assign requested address "+addr))
	}
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == 0 {
		port = n.portLocked(h.name)
	}
	at := addrOf(h.name, port)
	if n.listeners[at.String()] != nil {
		return nil, opError("listen", at, syscall.EADDRINUSE)
	}
	l := &listener{net: n, host: h.name, addr: at, port: port, queue: make(chan *conn, backlog), closed: make(chan struct{})}
	n.listeners[at.String()] = l
	n.changedLocked()
	return l, nil
}

// changedLocked wakes the dials that wait for the network to change.
func (n *Network) changedLocked() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// Dial connects to "host:port". It waits while the path is cut in either direction or the backlog is full, until
// ctx ends; the error wraps syscall.ECONNREFUSED when nobody listens there.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	n := h.net
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, opError("dial", nil, err)
		}
		n.mu.Lock()
		c, rtt, err := n.dialLocked(h.name, addr)
		changed := n.changed
		n.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if c != nil {
			if latency := n.opt.Latency; latency != nil {
				rtt = latency(c.out.flow) + latency(c.in.flow)
			}
			if err := settle(ctx, c, rtt); err != nil {
				return nil, err
			}
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// settle lets the round trip of the TCP handshake pass.
func settle(ctx context.Context, c *conn, rtt time.Duration) error {
	if rtt == 0 {
		return nil
	}
	timer := time.NewTimer(rtt)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		c.Close()
		return opError("dial", c.remote, context.Cause(ctx))
	}
}

// dialLocked returns a connection that the listener will accept; nil without an error when the dialer must wait.
func (n *Network) dialLocked(from, addr string) (*conn, time.Duration, error) {
	to, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, 0, opError("dial", nil, err)
	}
	if n.cutLocked(from, to) || n.cutLocked(to, from) || n.silent[to] {
		return nil, 0, nil
	}
	l := n.listeners[addr]
	if l == nil {
		return nil, 0, opError("dial", nil, syscall.ECONNREFUSED)
	}
	if len(l.queue) == cap(l.queue) {
		return nil, 0, nil
	}
	local := addrOf(from, n.portLocked(from))
	here, there := n.pairLocked(from, to, local, l.addr, l.port)
	l.queue <- there // does not block: only holders of n.mu send
	return here, n.delayLocked(from, to) + n.delayLocked(to, from), nil
}

// pairLocked returns the two ends of a new connection.
func (n *Network) pairLocked(from, to string, local, remote net.Addr, port int) (here, there *conn) {
	label := new(atomic.Uint64)
	out := newPipe(n, &Flow{From: from, To: to, Port: port, Forward: true, label: label, dialed: time.Now()})
	in := newPipe(n, &Flow{From: to, To: from, Port: port, label: label})
	here = newConn(n, from, in, out, local, remote)
	there = newConn(n, to, out, in, remote, local)
	here.peer, there.peer = there, here
	n.conns = append(n.conns, here, there)
	return here, there
}

func (n *Network) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, o := range n.conns {
		if o == c {
			n.conns = append(n.conns[:i], n.conns[i+1:]...)
			return
		}
	}
}

func (n *Network) cutLocked(from, to string) bool {
	return from != to && (n.isolated[from] || n.isolated[to]) || n.cuts[direction{from, to}]
}

func (n *Network) delayLocked(from, to string) time.Duration {
	if d, ok := n.delays[direction{from, to}]; ok {
		return d
	}
	if from == to {
		return 0
	}
	return n.opt.Delay
}

// Cut holds back everything that travels from one host to the other, in this direction only: as on a network that
// drops packets, writers notice nothing until their buffers are full, and what was held back arrives after Heal.
func (n *Network) Cut(from, to string) { n.fault(func() { n.cuts[direction{from, to}] = true }) }

// Heal ends a Cut.
func (n *Network) Heal(from, to string) { n.fault(func() { delete(n.cuts, direction{from, to}) }) }

// Isolate cuts a host off from all others, in both directions, or ends that.
func (n *Network) Isolate(host string, on bool) {
	n.fault(func() {
		if on {
			n.isolated[host] = true
		} else {
			delete(n.isolated, host)
		}
	})
}

// Open tells whether what one host sends would reach the other now.
func (n *Network) Open(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cutLocked(from, to)
}

// SetDelay sets the latency of what is written from now on in one direction.
func (n *Network) SetDelay(from, to string, d time.Duration) {
	n.fault(func() { n.delays[direction{from, to}] = d })
}

// fault changes the network and lets everybody who waits look again.
func (n *Network) fault(change func()) {
	n.mu.Lock()
	change()
	n.changedLocked()
	conns := append([]*conn(nil), n.conns...)
	n.mu.Unlock()
	for _, c := range conns {
		c.in.release()
		c.in.refresh()
	}
}

// Crash ends the processes of a host: its listeners close, its connections break at once, and the other ends see a
// reset, which overtakes what is under way, unless the path to them is cut.
func (n *Network) Crash(host string) {
	for _, c := range n.closeHost(host, false) {
		c.reset(true)
	}
}

// Kill is Crash with what is under way arriving first. With silent set nobody learns of the end, as after a loss of power: what
// is written to the host vanishes and dials to it wait, until Silence(host, false) lets the resets through.
func (n *Network) Kill(host string, silent bool) {
	for _, c := range n.closeHost(host, silent) {
		c.reset(false)
	}
}

// Silence tells whether a host is off: see Kill.
func (n *Network) Silence(host string, on bool) {
	n.fault(func() {
		if on {
			n.silent[host] = true
		} else {
			delete(n.silent, host)
		}
	})
}

// Break resets all connections between two hosts, as a middlebox that has lost its state does: both ends see a reset behind
// what is under way.
func (n *Network) Break(a, b string) {
	n.mu.Lock()
	var dead []*conn
	for _, c := range n.conns {
		if c.host == a && c.peer.host == b || c.host == b && c.peer.host == a {
			dead = append(dead, c)
		}
	}
	n.mu.Unlock()
	for _, c := range dead {
		c.out.end(syscall.ECONNRESET, false)
		c.in.orphaned()
	}
}

// closeHost closes the listeners of a host and returns its connections.
func (n *Network) closeHost(host string, silent bool) []*conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	if silent {
		n.silent[host] = true
	}
	var dead []*conn
	for _, c := range n.conns {
		if c.host == host {
			c.gone.Store(true) // before any is closed: nobody says on one what the end of another has told him
			dead = append(dead, c)
		}
	}
	for key, l := range n.listeners {
		if l.host == host {
			delete(n.listeners, key)
			close(l.closed)
		}
	}
	n.changedLocked()
	return dead
}

// state returns whether a direction is cut, and its delay.
func (n *Network) state(from, to string) (cut bool, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cutLocked(from, to), n.delayLocked(from, to)
}

func (n *Network) isSilent(host string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.silent[host]
}

type listener struct {
	net    *Network
	host   string
	addr   net.Addr
	port   int
	queue  chan *conn
	closed chan struct{} // closed under net.mu, once the listener is out of net.listeners
}

// Accept returns the next connection; the error wraps net.ErrClosed after Close.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, opError("accept", l.addr, net.ErrClosed)
	default:
	}
	select {
	case c := <-l.queue:
		l.net.mu.Lock()
		l.net.changedLocked()
		l.net.mu.Unlock()
		return c, nil
	case <-l.closed:
		return nil, opError("accept", l.addr, net.ErrClosed)
	}
}

// Close stops accepting; connections that wait to be accepted are reset.
func (l *listener) Close() error {
	n := l.net
	n.mu.Lock()
	if n.listeners[l.addr.String()] != l {
		n.mu.Unlock()
		return opError("close", l.addr, net.ErrClosed)
	}
	delete(n.listeners, l.addr.String())
	close(l.closed)
	n.changedLocked()
	n.mu.Unlock()
	for {
		select {
		case c := <-l.queue:
			c.reset(true)
		default:
			return nil
		}
	}
}

// Addr returns the address listened on.
func (l *listener) Addr() net.Addr { return l.addr }

func opError(op string, addr net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: addr, Err: err}
}
