package sim

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// frames cuts the bytes of an internode connection, as docs/format/rpc.md draws them, so that the trace does not see the order
// in which goroutines of one instant put their frames into the queue, nor the ids of requests, which follow that order, nor
// whether the sender had applied a new epoch already when a frame of that instant was made.
type frames struct {
	greeting int    // bytes of the fixed part of the handshake that opens this direction; 0: it is over
	lengthAt int    // where it says how long its body is
	rest     []byte // an incomplete frame
	cut      [][]byte
}

const (
	helloBytes, helloLengthAt   = 72, 64
	answerBytes, answerLengthAt = 56, 48
	frameHeader                 = 32
	kindAt                      = 8
	idAt                        = 16
	heartbeat                   = 3 // kind
)

func newFrames(forward bool) *frames {
	if forward {
		return &frames{greeting: helloBytes, lengthAt: helloLengthAt}
	}
	return &frames{greeting: answerBytes, lengthAt: answerLengthAt}
}

// hash adds what was sent in one instant.
func (f *frames) hash(d *xxhash.Digest, b []byte) {
	if len(f.rest) > 0 {
		b = append(f.rest, b...)
	}
	b = f.greet(d, b)
	f.cut = f.cut[:0]
	for f.greeting == 0 && len(b) >= frameHeader {
		n := frameHeader + int(binary.LittleEndian.Uint32(b[4:]))
		if len(b) < n {
			break
		}
		f.cut, b = append(f.cut, b[:n]), b[n:]
	}
	slices.SortFunc(f.cut, compareFrames)
	for _, c := range f.cut {
		_, _ = d.Write(c[4:idAt])   // all but the checksum, the id and the epoch of the sender
		if c[kindAt] != heartbeat { // how much was received until then is no event
			_, _ = d.Write(c[frameHeader:])
		}
	}
	f.rest = append([]byte(nil), b...)
}

// greet takes the handshake off.
func (f *frames) greet(d *xxhash.Digest, b []byte) []byte {
	if f.greeting == 0 || len(b) < f.greeting {
		return b
	}
	n := f.greeting
	if body := int(binary.LittleEndian.Uint32(b[f.lengthAt:])); body > 0 {
		n += body + 4
	}
	if len(b) < n {
		return b
	}
	f.greeting = 0
	_, _ = d.Write(b[:n])
	return b[n:]
}

func compareFrames(a, b []byte) int {
	if c := bytes.Compare(a[4:idAt], b[4:idAt]); c != 0 {
		return c
	}
	return bytes.Compare(a[frameHeader:], b[frameHeader:])
}
