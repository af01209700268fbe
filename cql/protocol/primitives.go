package protocol

import (
	"encoding/binary"
	"net/netip"
	"unicode/utf8"
)

// The notations of the specification, section 3: [short], [int], [long], [string],
// [long string], [bytes], [short bytes], [inet] and the lists and maps of them. All numbers are
// big-endian.

func appendU16(dst []byte, n int) []byte   { return binary.BigEndian.AppendUint16(dst, uint16(n)) }
func appendI32(dst []byte, n int) []byte   { return binary.BigEndian.AppendUint32(dst, uint32(n)) }
func appendI64(dst []byte, n int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(n)) }

// cutString returns s, cut at a character boundary when it is longer than a [string] can be.
func cutString(s string) string {
	if len(s) <= StringMax {
		return s
	}
	n := StringMax
	for n > StringMax-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// AppendString appends a [string]: 2 bytes of length and the text, which is cut when it is longer
// than StringMax.
func AppendString(dst []byte, s string) []byte {
	s = cutString(s)
	return append(appendU16(dst, len(s)), s...)
}

// AppendLongString appends a [long string]: 4 bytes of length and the text.
func AppendLongString(dst []byte, s string) []byte {
	return append(appendI32(dst, len(s)), s...)
}

// AppendShortBytes appends [short bytes]; b is at most StringMax bytes long.
func AppendShortBytes(dst, b []byte) []byte {
	return append(appendU16(dst, len(b)), b...)
}

// AppendValue appends [bytes]: 4 bytes of length and v. A nil v is written as an empty value,
// not as null: see AppendNull.
func AppendValue(dst, v []byte) []byte {
	return append(appendI32(dst, len(v)), v...)
}

// AppendNull appends a null [bytes].
func AppendNull(dst []byte) []byte { return append(dst, 0xff, 0xff, 0xff, 0xff) }

// AppendUnset appends the marker of a value that is not set (v4 and up, in requests).
func AppendUnset(dst []byte) []byte { return append(dst, 0xff, 0xff, 0xff, 0xfe) }

// AppendBytes appends [bytes], null when v is nil.
func AppendBytes(dst, v []byte) []byte {
	if v == nil {
		return AppendNull(dst)
	}
	return AppendValue(dst, v)
}

// AppendStringList appends a [string list] of at most StringMax entries; more are left out.
func AppendStringList(dst []byte, list []string) []byte {
	list = list[:min(len(list), StringMax)]
	dst = appendU16(dst, len(list))
	for _, s := range list {
		dst = AppendString(dst, s)
	}
	return dst
}

// AppendInet appends an [inet]: 1 byte of length, the address, 4 bytes of port.
func AppendInet(dst []byte, a netip.AddrPort) []byte {
	return appendI32(appendInetAddr(dst, a.Addr()), int(a.Port()))
}

func appendInetAddr(dst []byte, a netip.Addr) []byte {
	a = a.Unmap()
	if a.Is6() {
		b := a.As16()
		return append(append(dst, 16), b[:]...)
	}
	var b [4]byte
	if a.Is4() {
		b = a.As4()
	}
	return append(append(dst, 4), b[:]...)
}

// StringPair is one entry of a [string map], or of an ordered map of options.
type StringPair struct{ Key, Value string }

// PayloadEntry is one entry of a custom payload ([bytes map]). Value nil is null.
type PayloadEntry struct {
	Key   string
	Value []byte
}

func appendPayload(dst []byte, entries []PayloadEntry) []byte {
	entries = entries[:min(len(entries), StringMax)]
	dst = appendU16(dst, len(entries))
	for _, e := range entries {
		dst = AppendBytes(AppendString(dst, e.Key), e.Value)
	}
	return dst
}

// cursor reads a body front to back. The first failure sticks: err is set, every later read
// returns zero values and rest is empty, so that callers check once at the end.
type cursor struct {
	rest []byte
	err  *Error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = protocolErr(format, args...)
	}
	c.rest = nil
}

// error returns what DecodeX functions return: nil, not a nil *Error.
func (c *cursor) error() error {
	if c.err != nil {
		return c.err
	}
	return nil
}

func (c *cursor) take(n int, what string) []byte {
	if n > len(c.rest) {
		c.fail("Not enough bytes to read %s: %d of %d", what, len(c.rest), n)
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) u8(what string) byte {
	if len(c.rest) < 1 {
		c.take(1, what)
		return 0
	}
	b := c.rest[0]
	c.rest = c.rest[1:]
	return b
}

func (c *cursor) u16(what string) int {
	if len(c.rest) < 2 {
		c.take(2, what)
		return 0
	}
	n := int(binary.BigEndian.Uint16(c.rest))
	c.rest = c.rest[2:]
	return n
}

func (c *cursor) i32(what string) int32 {
	if len(c.rest) < 4 {
		c.take(4, what)
		return 0
	}
	n := int32(binary.BigEndian.Uint32(c.rest))
	c.rest = c.rest[4:]
	return n
}

func (c *cursor) i64(what string) int64 {
	if len(c.rest) < 8 {
		c.take(8, what)
		return 0
	}
	n := int64(binary.BigEndian.Uint64(c.rest))
	c.rest = c.rest[8:]
	return n
}

// count reads a [short] count of entries of at least size bytes each, and fails when that many
// cannot be there. It is called before anything is allocated for the entries.
func (c *cursor) count(size int, what string) int {
	n := c.u16(what)
	if c.err == nil && n*size > len(c.rest) {
		c.fail("Not enough bytes to read %d %s", n, what)
		return 0
	}
	return n
}

// stringBytes reads a [string] and returns its bytes, aliasing the body.
func (c *cursor) stringBytes() []byte {
	n := c.u16("a string length")
	if n > len(c.rest) {
		c.fail("Not enough bytes to read an UTF8 serialized string preceded by its 2 bytes length")
		return nil
	}
	return c.utf8(n)
}

// longStringBytes reads a [long string] and returns its bytes, aliasing the body.
func (c *cursor) longStringBytes() []byte {
	n := c.i32("a string length")
	if n < 0 || int(n) > len(c.rest) {
		c.fail("Not enough bytes to read an UTF8 serialized string preceded by its 4 bytes length")
		return nil
	}
	return c.utf8(int(n))
}

func (c *cursor) utf8(n int) []byte {
	b := c.rest[:n:n]
	if !utf8.Valid(b) {
		c.fail("Cannot decode string as UTF8: '%x'; java.nio.charset.MalformedInputException: Input length = 1", b[:min(n, 64)])
		return nil
	}
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) string() string { return string(c.stringBytes()) }

// shortBytes reads [short bytes], aliasing the body.
func (c *cursor) shortBytes() []byte {
	n := c.u16("a byte array length")
	if n > len(c.rest) {
		c.fail("Not enough bytes to read a byte array preceded by its 2 bytes length")
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

// bytes reads [bytes], aliasing the body. Any negative length is null: nil.
func (c *cursor) bytes() []byte {
	n := c.i32("a value length")
	if n < 0 || c.err != nil {
		return nil
	}
	if int(n) > len(c.rest) {
		c.fail("Not enough bytes to read a value of %d bytes", n)
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) stringList() []string {
	n := c.count(2, "strings")
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for i := 0; i < n && c.err == nil; i++ {
		list = append(list, c.string())
	}
	return list
}

func (c *cursor) payload() []PayloadEntry {
	n := c.count(6, "payload entries")
	if n == 0 {
		return nil
	}
	entries := make([]PayloadEntry, 0, n)
	for i := 0; i < n && c.err == nil; i++ {
		entries = append(entries, PayloadEntry{Key: c.string(), Value: c.bytes()})
	}
	return entries
}

func (c *cursor) inetAddr() netip.Addr {
	n := int(c.u8("an address length"))
	a, ok := netip.AddrFromSlice(c.take(n, "an address"))
	if !ok && c.err == nil {
		c.fail("Invalid IP address while deserializing inet address")
	}
	return a
}

func (c *cursor) inet() netip.AddrPort {
	a := c.inetAddr()
	port := c.i32("a port")
	if port < 0 || port > 65535 {
		c.fail("Invalid port %d while deserializing inet address", port)
	}
	return netip.AddrPortFrom(a, uint16(port))
}
