package server

import (
	"net"
	"testing"

	"github.com/helenusdb/helenus/cql/protocol"
)

// TestRefuse: no client connects any more, and those that are there are served on.
func TestRefuse(t *testing.T) {
	s := start(t, Options{Handler: newFakeHandler(), Listeners: []Listener{{Addr: loopback}}})
	addr := s.Addrs()[0].String()
	c := connect(t, s, protocol.V5)
	if !s.Refuse() || s.Refuse() {
		t.Error("it is news once")
	}
	if nc, err := net.Dial("tcp", addr); err == nil {
		nc.Close()
		t.Error("a client connects")
	}
	c.send(c.query(1, "big"))
	if len(c.wantResult(1)) != 1<<20 {
		t.Error("a client that was there is not served")
	}
}
