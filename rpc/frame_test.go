package rpc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"github.com/helenusdb/helenus/ring"
)

func id16(first byte) (id [16]byte) {
	for i := range id {
		id[i] = first + byte(i)
	}
	return id
}

func id16slice(first byte) []byte { id := id16(first); return id[:] }

// framesGolden is the number of frames at the head of golden; the rest are handshakes.
const framesGolden = 7

// golden holds the bytes that docs/format/rpc.md shows.
var golden = []struct {
	name  string
	bytes string
	make  func() []byte
}{
	{"request", "a51f59d305000000012000001027000042000700000000002a0000000000000068656c6c6f", func() []byte {
		return sealed(header{kind: kindRequest, code: 32, micros: 10000, id: 7<<16 | 0x42, epoch: 42}, []byte("hello"))
	}},
	{"response", "17339c1802000000020000000000000042000700000000002b000000000000006f6b", func() []byte {
		return sealed(header{kind: kindResponse, code: 0, id: 7<<16 | 0x42, epoch: 43}, []byte("ok"))
	}},
	{"one-way message", "3bbcfd8a00000000040100000100000000000000000000002a00000000000000", func() []byte {
		return sealed(header{kind: kindOneWay, code: 1, micros: 1, epoch: 42}, nil)
	}},
	{"heartbeat", "c4cb43be09000000030000000000000000000000000000002a00000000000000000100000000000001", func() []byte {
		return sealed(header{kind: kindHeartbeat, epoch: 42}, []byte{0, 1, 0, 0, 0, 0, 0, 0, 1})
	}},
	{"compressed request", "1771ab8d22000000012001001027000001000000000000002a00000000000000000800001f000100ffffffffffffffe0000200000200b00000000000000000000000", func() []byte {
		p := new(packer)
		p.add(appendFrame(nil, header{kind: kindRequest, code: 32, micros: 10000, id: 1, epoch: 42}, make([]byte, 2048)))
		return p.out
	}},
	{"traced request", "e136ce1a15000000012102001027000043000700000000002a00000000000000505152535455565758595a5b5c5d5e5f68656c6c6f", func() []byte {
		return sealed(header{kind: kindRequest, code: 33, flags: flagTrace, micros: 10000, id: 7<<16 | 0x43, epoch: 42}, append(id16slice(0x50), "hello"...))
	}},
	{"traced response", "0f6dc48614000000020002000000000043000700000000002b000000000000000e000000640000000700000004007365656b6f6b", func() []byte {
		return sealed(header{kind: kindResponse, flags: flagTrace, id: 7<<16 | 0x43, epoch: 43},
			append([]byte{14, 0, 0, 0, 100, 0, 0, 0, 7, 0, 0, 0, 4, 0}, "seekok"...))
	}},
	{"hello", "484c4e5301010100101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f2a0000000000000000000000e94e63c9", func() []byte {
		return appendHello(nil, &hello{version: 1, mode: modeConnect, class: Data, cluster: id16(0x10),
			from: ring.HostID(id16(0x20)), to: ring.HostID(id16(0x30)), epoch: 42})
	}},
	{"probe", "484c4e530102000000000000000000000000000000000000202122232425262728292a2b2c2d2e2f000000000000000000000000000000000000000000000000030000008f95bffd77686fac884a60", func() []byte {
		return appendHello(nil, &hello{version: 1, mode: modeProbe, from: ring.HostID(id16(0x20)), body: []byte("who")})
	}},
	{"acceptance", "484c4e5301000000101112131415161718191a1b1c1d1e1f303132333435363738393a3b3c3d3e3f2b00000000000000000000005230a4d2", func() []byte {
		return appendReply(nil, &reply{version: 1, cluster: id16(0x10), host: ring.HostID(id16(0x30)), epoch: 43})
	}},
	{"refusal", "484c4e5301010000101112131415161718191a1b1c1d1e1f303132333435363738393a3b3c3d3e3f2b00000000000000020000008f14cb226e6f186ff3ba", func() []byte {
		return appendReply(nil, &reply{version: 1, code: RefusedCluster, cluster: id16(0x10),
			host: ring.HostID(id16(0x30)), epoch: 43, body: []byte("no")})
	}},
}

func sealed(h header, body []byte) []byte {
	b := appendFrame(nil, h, body)
	if h.kind == kindRequest || h.kind == kindOneWay {
		setMicros(b, h.micros)
	}
	seal(b)
	return b
}

// The bytes on the wire stay as documented, and are understood; a compressor may choose other bytes for the same
// body.
func TestGolden(t *testing.T) {
	for i, g := range golden {
		got := g.make()
		if hex.EncodeToString(got) != g.bytes && g.name != "compressed request" {
			t.Errorf("%s:\n got %x\nwant %s", g.name, got, g.bytes)
		}
		if i >= framesGolden {
			continue
		}
		src, err := hex.DecodeString(g.bytes)
		if err != nil {
			t.Fatal(err)
		}
		f, mine := newFrameReader(bytes.NewReader(src), 0), newFrameReader(bytes.NewReader(got), 0)
		f.fill()
		mine.fill()
		h, body, ok, err := f.next()
		h2, body2, ok2, _ := mine.next()
		h.crc, h.length, h2.crc, h2.length = 0, 0, 0, 0
		if err != nil || !ok || !ok2 || h != h2 || !bytes.Equal(body, body2) {
			t.Errorf("%s decodes to %+v, %d bytes, %v", g.name, h, len(body), err)
		}
	}
}

// Frames survive every way in which a stream can be cut into reads, and a buffer blown up by a large one is given
// back.
func TestFrameReader(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var stream []byte
	var bodies [][]byte
	p := new(packer)
	for i := range 300 {
		body := make([]byte, rng.IntN(500))
		if i%37 == 0 {
			body = make([]byte, rng.IntN(1<<20))
		}
		for j := range body {
			body[j] = byte(rng.IntN(4))
		}
		bodies = append(bodies, body)
		frame := appendFrame(nil, header{kind: kindRequest, id: uint64(i)}, body)
		if p.out = p.out[:0]; i%3 == 0 {
			p.add(frame)
			frame = p.out
		} else {
			seal(frame)
		}
		stream = append(stream, frame...)
	}
	for name, src := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "halves": iotest.HalfReader(bytes.NewReader(stream)),
		"bytes": iotest.OneByteReader(bytes.NewReader(stream)), "early EOF": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		f := newFrameReader(src, 0)
		i := 0
		for {
			var held [][]byte // all bodies of one fill stay valid until the next
			first := i
			for {
				h, body, ok, err := f.next()
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if !ok {
					break
				}
				if h.id != uint64(i) {
					t.Fatalf("%s: frame %d has id %d", name, i, h.id)
				}
				held = append(held, body)
				i++
			}
			for j, body := range held {
				if !bytes.Equal(body, bodies[first+j]) {
					t.Fatalf("%s: frame %d differs", name, first+j)
				}
			}
			if _, err := f.fill(); err != nil {
				break
			}
		}
		if i != len(bodies) {
			t.Errorf("%s: %d frames of %d", name, i, len(bodies))
		}
		if f.release(); len(f.buf) != readBufMin {
			t.Errorf("%s: %d bytes are kept", name, len(f.buf))
		}
	}
}

// A frame that claims to be long costs memory only as its bytes arrive.
func TestFrameReaderMemory(t *testing.T) {
	long := appendFrame(nil, header{kind: kindRequest}, nil)
	long[4], long[5], long[6], long[7] = 0, 0, 0, 1 // 16 MiB
	f := newFrameReader(io.MultiReader(bytes.NewReader(long), bytes.NewReader(make([]byte, 100_000))), 0)
	for {
		if _, _, _, err := f.next(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.fill(); err != nil {
			break
		}
	}
	if len(f.buf) > 256<<10 {
		t.Errorf("%d bytes for 100,000 received", len(f.buf))
	}
	bomb := appendFrame(nil, header{kind: kindRequest, flags: flagLZ4}, []byte{0, 0, 0, 1, 1, 2, 3})
	seal(bomb)
	f = newFrameReader(bytes.NewReader(bomb), 0)
	f.fill()
	if _, _, _, err := f.next(); !errors.Is(err, errFrame) || cap(f.unpacked) > 0 {
		t.Errorf("7 bytes that claim to be 16 MiB: %v, %d bytes allocated", err, cap(f.unpacked))
	}
}

// What is shed is what has expired, whatever the queue holds.
func TestQueueShed(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		q := queue{keep: 1 << 20}
		var want []uint64
		bytesLeft := 0
		for i := range uint64(rng.IntN(300)) {
			body := bytes.Repeat([]byte{byte(i)}, rng.IntN(3000))
			deadline := int64(rng.IntN(10))
			q.push(header{kind: kindRequest, id: i}, body, deadline)
			if deadline > 4 {
				want = append(want, i)
				bytesLeft += headerLen + len(body)
			}
		}
		n := q.frames
		if ids := q.shed(4, nil); len(ids)+q.frames != n || q.frames != len(want) || q.bytes != bytesLeft {
			t.Fatalf("%d shed, %d of %d frames and %d bytes left, want %d and %d", len(ids), q.frames, n, q.bytes,
				len(want), bytesLeft)
		}
		for c := q.take(); c != nil; c = q.take() {
			for i, m := range c.marks {
				h, err := decodeHeader(c.buf[m.start:])
				if err != nil || h.id != want[0] || m.id != want[0] || c.buf[len(c.buf)-1] != byte(c.marks[len(c.marks)-1].id) &&
					i == len(c.marks)-1 && h.length > 0 {
					t.Fatalf("frame %d: %+v, %v", want[0], h, err)
				}
				want = want[1:]
			}
			q.recycle(c)
		}
		if q.bytes != 0 || q.frames != 0 || len(want) != 0 {
			t.Fatalf("the empty queue counts %d bytes, %d frames", q.bytes, q.frames)
		}
	}
}

// FuzzFrames feeds arbitrary bytes, in arbitrary pieces: no panic, bounded memory, and every frame that is accepted
// was sealed.
func FuzzFrames(f *testing.F) {
	var all []byte
	for _, g := range golden[:framesGolden] {
		f.Add(g.make(), uint16(100))
		all = append(all, g.make()...)
	}
	f.Add(all, uint16(7))
	f.Fuzz(func(t *testing.T, src []byte, step uint16) {
		r := newFrameReader(iotestStep(src, int(step)+1), 0)
		used := 0
		for {
			for {
				h, body, ok, err := r.next()
				if err != nil {
					if !errors.Is(err, errFrame) {
						t.Fatal(err)
					}
					return
				}
				if !ok {
					break
				}
				if h.length > BodyMax || len(body) > BodyMax {
					t.Fatal("frame too large")
				}
				used += headerLen + int(h.length)
			}
			if len(r.buf) > 2*(readBufMin+len(src)) {
				t.Fatalf("%d bytes of buffer for %d", len(r.buf), len(src))
			}
			if _, err := r.fill(); err != nil {
				if used > len(src) {
					t.Fatal("more bytes used than there are")
				}
				return
			}
		}
	})
}

// stepReader returns at most step bytes per read.
type stepReader struct {
	src  []byte
	step int
}

func iotestStep(src []byte, step int) io.Reader { return &stepReader{src, step} }

func (s *stepReader) Read(b []byte) (int, error) {
	if len(s.src) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.src[:min(s.step, len(s.src))])
	s.src = s.src[n:]
	return n, nil
}

// FuzzHandshake feeds arbitrary bytes to both readers: no panic, bounded memory, and what is accepted encodes to the
// same bytes again.
func FuzzHandshake(f *testing.F) {
	for _, g := range golden[framesGolden:] {
		f.Add(g.make())
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if h, err := readHello(bytes.NewReader(src)); err == nil {
			if b := appendHello(nil, h); src[7] == 0 && !bytes.Equal(b, src[:len(b)]) {
				t.Fatalf("hello %x encodes to %x", src, b)
			}
		}
		if r, err := readReply(bytes.NewReader(src)); err == nil {
			if b := appendReply(nil, r); src[6] == 0 && src[7] == 0 && !bytes.Equal(b, src[:len(b)]) {
				t.Fatalf("reply %x encodes to %x", src, b)
			}
		}
	})
}

// FuzzConnection sends arbitrary bytes after a good handshake to a running node: it survives, and goes on serving
// others (X18).
func FuzzConnection(f *testing.F) {
	for _, g := range golden {
		f.Add(g.make())
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		bubble(t, func(t *testing.T, f *fabric) {
			a := f.add(3, nil)
			f.add(2, nil)
			conn := rawConn(t, f, 1, 2, Data)
			conn.SetDeadline(time.Now().Add(time.Second))
			go io.Copy(io.Discard, conn)
			conn.Write(src)
			mustCall(t, a, 2, Data, verbEcho, nil)
			conn.Close()
		})
	})
}
