package rpc

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"

	"github.com/helenusdb/helenus/ring"
)

const (
	magic      = "HLNS"
	versionMin = 1 // oldest protocol version understood
	versionMax = 1 // newest

	modeConnect = 1
	modeProbe   = 2

	helloLen  = 72
	answerLen = 56

	// ProbeMax is the largest body of a probe and of its reply, in bytes.
	ProbeMax  = 64 << 10
	reasonMax = 512
)

// hello is what the dialer says first; docs/format/rpc.md draws it.
type hello struct {
	version uint8 // newest that the dialer speaks
	mode    uint8
	class   Class
	cluster [16]byte
	from    ring.HostID
	to      ring.HostID
	epoch   uint64
	body    []byte // of a probe
}

// reply is what the acceptor answers to a hello.
type reply struct {
	version uint8       // that the connection uses
	code    RefusalCode // 0: accepted
	cluster [16]byte
	host    ring.HostID
	epoch   uint64
	body    []byte // reason of a refusal, or the answer to a probe
}

func appendHello(dst []byte, h *hello) []byte {
	at := len(dst)
	dst = append(dst, magic...)
	dst = append(dst, h.version, h.mode, byte(h.class), 0)
	dst = append(dst, h.cluster[:]...)
	dst = append(dst, h.from[:]...)
	dst = append(dst, h.to[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, h.epoch)
	return appendTail(dst, at, h.body)
}

func appendReply(dst []byte, r *reply) []byte {
	at := len(dst)
	dst = append(dst, magic...)
	dst = append(dst, r.version, byte(r.code), 0, 0)
	dst = append(dst, r.cluster[:]...)
	dst = append(dst, r.host[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, r.epoch)
	return appendTail(dst, at, r.body)
}

// appendTail ends a handshake message that begins at dst[at]: body length, CRC of all so far, and when there is a
// body, it and its CRC.
func appendTail(dst []byte, at int, body []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
	if len(body) > 0 {
		dst = append(dst, body...)
		dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	}
	return dst
}

var errHandshake = errors.New("not a handshake of this protocol")

// readHello reads one hello and not a byte more. The error wraps errHandshake when the bytes are none.
func readHello(src io.Reader) (*hello, error) {
	b, err := readFixed(src, helloLen)
	if err != nil {
		return nil, err
	}
	h := &hello{version: b[4], mode: b[5], class: Class(b[6])}
	copy(h.cluster[:], b[8:])
	copy(h.from[:], b[24:])
	copy(h.to[:], b[40:])
	h.epoch = binary.LittleEndian.Uint64(b[56:])
	n := binary.LittleEndian.Uint32(b[64:])
	if h.class >= classes || h.mode != modeConnect && h.mode != modeProbe || h.mode == modeConnect && n > 0 {
		return nil, fmt.Errorf("%w: class %d, mode %d, %d bytes", errHandshake, h.class, h.mode, n)
	}
	h.body, err = readBody(src, n)
	return h, err
}

// readReply reads one reply and not a byte more. The error wraps errHandshake when the bytes are none.
func readReply(src io.Reader) (*reply, error) {
	b, err := readFixed(src, answerLen)
	if err != nil {
		return nil, err
	}
	r := &reply{version: b[4], code: RefusalCode(b[5])}
	copy(r.cluster[:], b[8:])
	copy(r.host[:], b[24:])
	r.epoch = binary.LittleEndian.Uint64(b[40:])
	r.body, err = readBody(src, binary.LittleEndian.Uint32(b[48:]))
	return r, err
}

// readFixed reads the fixed part of a handshake message of n bytes, whose last four are its CRC.
func readFixed(src io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(src, b[:len(magic)]); err != nil {
		return nil, err
	}
	if string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: begins with %q", errHandshake, b[:len(magic)])
	}
	if _, err := io.ReadFull(src, b[len(magic):]); err != nil {
		return nil, err
	}
	if crc32.Checksum(b[:n-4], castagnoli) != binary.LittleEndian.Uint32(b[n-4:]) {
		return nil, fmt.Errorf("%w: checksum", errHandshake)
	}
	return b, nil
}

func readBody(src io.Reader, n uint32) ([]byte, error) {
	if n > ProbeMax {
		return nil, fmt.Errorf("%w: body of %d bytes", errHandshake, n)
	}
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, n+4)
	if _, err := io.ReadFull(src, b); err != nil {
		return nil, err
	}
	if crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, fmt.Errorf("%w: checksum of the body", errHandshake)
	}
	return b[:n:n], nil
}

// judge is the acceptor's decision about a hello; the body of a probe's answer is still missing.
func (t *Transport) judge(h *hello, remote net.Addr) reply {
	own := t.opt.ClusterID()
	r := reply{version: min(h.version, versionMax), cluster: own, host: t.opt.Self, epoch: t.opt.Epoch()}
	refuse := func(code RefusalCode, format string, args ...any) reply {
		text := fmt.Sprintf(format, args...)
		r.code, r.body = code, []byte(text[:min(len(text), reasonMax)])
		return r
	}
	switch {
	case h.version < versionMin:
		return refuse(RefusedVersion, "protocol version %d, this node speaks %d to %d", h.version, versionMin, versionMax)
	case h.mode == modeProbe:
		if t.opt.OnProbe == nil {
			return refuse(RefusedProbe, "this node answers no probes")
		}
		return r
	case own == [16]byte{}:
		return refuse(RefusedNoCluster, "this node belongs to no cluster yet")
	case h.cluster != own:
		return refuse(RefusedCluster, "cluster %x, this node belongs to cluster %x", h.cluster, own)
	case h.to != t.opt.Self:
		return refuse(RefusedHost, "host %v was expected here, this is host %v", h.to, t.opt.Self)
	}
	if t.opt.Admit != nil {
		if err := t.opt.Admit(h.from, remote); err != nil {
			return refuse(RefusedNotMember, "%v", err)
		}
	}
	return r
}

// check is the dialer's decision about a reply.
func (h *hello) check(r *reply) error {
	if r.code != 0 {
		return &Refusal{Code: r.code, Reason: string(r.body), Remote: true}
	}
	switch {
	case r.version < versionMin || r.version > h.version:
		return &Refusal{Code: RefusedVersion, Reason: fmt.Sprintf("the peer chose protocol version %d", r.version)}
	case h.mode == modeProbe:
		return nil
	case r.cluster != h.cluster:
		return &Refusal{Code: RefusedCluster, Reason: fmt.Sprintf("the peer belongs to cluster %x", r.cluster)}
	case r.host != h.to:
		return &Refusal{Code: RefusedHost, Reason: fmt.Sprintf("the peer is host %v", r.host)}
	}
	return nil
}

// greet dials, encrypts and shakes hands. The connection is ready for frames; it has no deadline.
func (t *Transport) greet(ctx context.Context, addr string, h *hello) (net.Conn, *reply, error) {
	ctx, cancel := context.WithTimeout(ctx, t.opt.DialTimeout)
	defer cancel()
	t.metrics.Dials.Add(1)
	raw, err := t.opt.Dial(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	stop := hangUpOn(ctx, raw)
	conn, r, err := t.greetOn(ctx, raw, addr, h)
	if stopped := stop(); err == nil && stopped {
		err = context.Cause(ctx)
	}
	if err != nil {
		raw.Close()
		return nil, nil, err
	}
	return conn, r, nil
}

func (t *Transport) greetOn(ctx context.Context, raw net.Conn, addr string, h *hello) (net.Conn, *reply, error) {
	conn := raw
	if t.opt.TLS.Mode >= TLSPrefer {
		tc := tls.Client(raw, clientTLS(t.opt.TLS.Client(), addr))
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, nil, fmt.Errorf("TLS: %w", err)
		}
		conn = tc
	}
	if _, err := conn.Write(appendHello(nil, h)); err != nil {
		return nil, nil, err
	}
	r, err := readReply(conn)
	switch {
	case errors.Is(err, errHandshake):
		return nil, nil, &Refusal{Code: RefusedMalformed, Reason: err.Error()}
	case err != nil:
		return nil, nil, fmt.Errorf("handshake: %w", err)
	}
	return conn, r, h.check(r)
}

// clientTLS fills in the server name that a shared configuration cannot know.
func clientTLS(c *tls.Config, addr string) *tls.Config {
	if c.ServerName != "" {
		return c
	}
	c = c.Clone()
	c.ServerName = addr
	if host, _, err := net.SplitHostPort(addr); err == nil {
		c.ServerName = host
	}
	return c
}

// hangUpOn closes conn when ctx ends, until stop is called. stop returns whether it has done so, and when it
// returns nothing of it runs any more.
func hangUpOn(ctx context.Context, conn net.Conn) (stop func() bool) {
	done := make(chan struct{})
	undo := context.AfterFunc(ctx, func() {
		conn.Close()
		close(done)
	})
	return func() bool {
		if undo() {
			return false
		}
		<-done
		return true
	}
}

// hangUp closes a connection at once: that of TLS below it, because a farewell could block.
func hangUp(conn net.Conn) {
	if tc, ok := conn.(*tls.Conn); ok {
		conn = tc.NetConn()
	}
	conn.Close()
}

// recordHandshake is the first byte of a TLS connection.
const recordHandshake = 0x16

// welcome is the acceptor's side of the handshake, up to its decision: it returns the connection, encrypted when the
// dialer began so, and the hello. The error wraps ErrRefused when this end turned the peer down.
func (t *Transport) welcome(ctx context.Context, raw net.Conn) (net.Conn, *hello, error) {
	var first [1]byte
	if _, err := io.ReadFull(raw, first[:]); err != nil {
		return raw, nil, err
	}
	var conn net.Conn = &peeked{Conn: raw, first: first[0], unread: true}
	mode := t.opt.TLS.Mode
	switch encrypted := first[0] == recordHandshake; {
	case encrypted && mode == TLSOff:
		_, _ = raw.Write([]byte{21, 3, 1, 0, 2, 2, 40}) // TLS alert: handshake failure; the refusal stands, heard or not
		return raw, nil, &Refusal{Code: RefusedPlain, Reason: "the peer speaks TLS, this node does not"}
	case encrypted:
		tc := tls.Server(conn, t.opt.TLS.Server())
		if err := tc.HandshakeContext(ctx); err != nil {
			return raw, nil, fmt.Errorf("TLS: %w", err)
		}
		conn = tc
	}
	h, err := readHello(conn)
	if err != nil {
		return conn, nil, err
	}
	if _, encrypted := conn.(*tls.Conn); !encrypted {
		conn = raw // the peeked byte is consumed
		if mode == TLSRequired {
			r := reply{version: min(h.version, versionMax), code: RefusedPlain, body: []byte("TLS is required")}
			_, _ = raw.Write(appendReply(nil, &r)) // the refusal stands, heard or not
			return raw, nil, &Refusal{Code: RefusedPlain, Reason: "the peer does not speak TLS, which is required"}
		}
	}
	return conn, h, nil
}

// peeked is a connection whose first byte has been read already.
type peeked struct {
	net.Conn
	first  byte
	unread bool
}

// Read returns the first byte alone, then what the connection has.
func (p *peeked) Read(b []byte) (int, error) {
	if p.unread && len(b) > 0 {
		p.unread = false
		b[0] = p.first
		return 1, nil
	}
	return p.Conn.Read(b)
}
