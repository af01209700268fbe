package gossip

import (
	"net"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// bindAttempts is how often a free port is looked for that is free for UDP and TCP both.
const bindAttempts = 10

// listen binds UDP and TCP. filter, which tests use to cut links, may be nil; it says whether an address may be sent
// to.
func listen(c *memberlist.Config, filter func(addr string) bool) (memberlist.NodeAwareTransport, error) {
	attempts := 1
	if c.BindPort == 0 {
		attempts = bindAttempts
	}
	var last error
	for range attempts {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{c.BindAddr}, BindPort: c.BindPort, Logger: c.Logger,
		})
		if err == nil {
			if c.BindPort == 0 {
				c.BindPort = t.GetAutoBindPort()
			}
			return filtered{t, filter}, nil
		}
		last = err
	}
	return nil, last
}

// filtered is a transport that can be cut off from addresses. Without a filter it only passes on.
type filtered struct {
	*memberlist.NetTransport
	allow func(addr string) bool
}

// WriteTo implements memberlist.Transport.
func (f filtered) WriteTo(b []byte, addr string) (time.Time, error) {
	return f.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport; a cut link loses packets silently.
func (f filtered) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if f.allow != nil && !f.allow(a.Addr) {
		return time.Now(), nil
	}
	return f.NetTransport.WriteToAddress(b, a)
}

// DialTimeout implements memberlist.Transport.
func (f filtered) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return f.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (f filtered) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if f.allow != nil && !f.allow(a.Addr) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}
	}
	return f.NetTransport.DialAddressTimeout(a, timeout)
}
