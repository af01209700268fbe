package shell

import (
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/helenusdb/helenus/cql/types"
)

// The colours, as cqlsh uses them.
const (
	red         = "\x1b[0;1;31m"
	green       = "\x1b[0;1;32m"
	yellow      = "\x1b[0;1;33m"
	blue        = "\x1b[0;1;34m"
	magenta     = "\x1b[0;1;35m"
	cyan        = "\x1b[0;1;36m"
	white       = "\x1b[0;1;37m"
	darkMagenta = "\x1b[0;35m"
	plain       = "\x1b[0m"
)

// floatDigits is the precision that cqlsh shows floating-point numbers with.
const floatDigits = 5

// formatter turns values into text.
type formatter struct {
	color bool
	exact bool // for data formats: all digits of numbers, and text as it is
}

// value appends a value as cqlsh shows it. A null, which is nil, is "null". nested says that it stands in a collection,
// where strings are in quotes.
func (f formatter) value(dst []byte, t *types.Type, v []byte, nested bool) []byte {
	if v == nil {
		return f.paint(dst, red, "null")
	}
	if len(v) == 0 && t.Kind != types.KindText && t.Kind != types.KindAscii && t.Kind != types.KindBlob && t.Kind != types.KindCustom {
		return dst // the empty value, which many types allow
	}
	if t.Validate(v) != nil {
		return f.paint(dst, red, "0x"+hex.EncodeToString(v))
	}
	switch t.Kind {
	case types.KindText, types.KindAscii:
		return f.text(dst, string(v), nested)
	case types.KindBlob, types.KindCustom, types.KindEmpty:
		return f.paint(dst, darkMagenta, "0x"+hex.EncodeToString(v))
	case types.KindList, types.KindVector:
		return f.elements(dst, t, v, "[", "]")
	case types.KindSet, types.KindMap:
		return f.elements(dst, t, v, "{", "}")
	case types.KindTuple:
		return f.components(dst, t, v, "(", ")")
	case types.KindUDT:
		return f.components(dst, t, v, "{", "}")
	}
	s := f.scalar(t, v)
	if nested && (t.Kind == types.KindTimestamp || t.Kind == types.KindInet) {
		s = "'" + s + "'"
	}
	return f.paint(dst, green, s)
}

func (f formatter) paint(dst []byte, color, s string) []byte {
	if !f.color {
		return append(dst, s...)
	}
	return append(append(append(dst, color...), s...), plain...)
}

// scalar returns a value that is valid and not empty.
func (f formatter) scalar(t *types.Type, v []byte) string {
	switch t.Kind {
	case types.KindBoolean:
		if b, _ := types.DecodeBoolean(v); b {
			return "True"
		}
		return "False"
	case types.KindFloat:
		x, _ := types.DecodeFloat(v)
		return f.float(float64(x), 32)
	case types.KindDouble:
		x, _ := types.DecodeDouble(v)
		return f.float(x, 64)
	case types.KindInet:
		a, _ := netip.AddrFromSlice(v)
		return a.Unmap().String()
	case types.KindTimestamp:
		ms, _ := types.DecodeTimestamp(v)
		at := time.UnixMilli(ms).UTC()
		if at.Year() < 1 || at.Year() > 9999 {
			return strconv.FormatInt(ms, 10)
		}
		return at.Format("2006-01-02 15:04:05.000000-0700")
	}
	return string(t.AppendString(nil, v))
}

// float follows Python's %g with cqlsh's precision: 5 digits, and 5 after the point where no exponent is needed.
func (f formatter) float(x float64, bits int) string {
	switch {
	case math.IsNaN(x):
		return "NaN"
	case math.IsInf(x, 1):
		return "Infinity"
	case math.IsInf(x, -1):
		return "-Infinity"
	case f.exact:
		return strconv.FormatFloat(x, 'g', -1, bits)
	}
	digits := floatDigits
	if math.Abs(x) > 0x1p-52 {
		if e := int(math.Log10(math.Abs(x))); e >= -4 && e < floatDigits {
			digits += e + 1
		}
	}
	return strconv.FormatFloat(x, 'g', digits, 64)
}

// text appends a string with control characters escaped; backslashes are doubled, so that nothing is ambiguous.
func (f formatter) text(dst []byte, s string, nested bool) []byte {
	if !f.exact {
		s = escape(s)
	}
	if nested {
		s = "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return f.paint(dst, yellow, s)
}

// escape makes control characters, broken UTF-8 and backslashes visible, as Python's repr does.
func escape(s string) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = s[i] >= 0x20 && s[i] < 0x7f && s[i] != '\\'
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x20 || r >= 0x7f && r <= 0xa0:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069':
			fmt.Fprintf(&b, `\u%04x`, r) // line separators, and what would turn the direction of the rest of the line
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// elements appends a list, set, map or vector.
func (f formatter) elements(dst []byte, t *types.Type, v []byte, open, end string) []byte {
	dst = f.paint(dst, blue, open)
	it := t.Iter(v)
	for i := 0; ; i++ {
		e, ok := it.Next()
		if !ok {
			break
		}
		elem := t.Elems[0]
		switch {
		case t.Kind == types.KindMap && i%2 == 1:
			elem = t.Elems[1]
			dst = f.paint(dst, blue, ": ")
		case i > 0:
			dst = f.paint(dst, blue, ", ")
		}
		dst = f.value(dst, elem, e, true)
	}
	return f.paint(dst, blue, end)
}

// components appends a tuple or UDT; components that are not there are null.
func (f formatter) components(dst []byte, t *types.Type, v []byte, open, end string) []byte {
	dst = f.paint(dst, blue, open)
	it := t.Iter(v)
	for i, elem := range t.Elems {
		if i > 0 {
			dst = f.paint(dst, blue, ", ")
		}
		if t.Kind == types.KindUDT {
			dst = f.paint(dst, yellow, escape(t.Fields[i]))
			dst = f.paint(dst, blue, ": ")
		}
		e, _ := it.Next()
		dst = f.value(dst, elem, e, true)
	}
	return f.paint(dst, blue, end)
}

// appendJSON appends a value as JSON: numbers, booleans and null as such, lists, sets, tuples and vectors as arrays,
// maps and UDTs as objects, everything else as a string. NaN and the infinities, which JSON does not have, are strings.
func appendJSON(dst []byte, t *types.Type, v []byte) []byte {
	if v == nil {
		return append(dst, "null"...)
	}
	f := formatter{exact: true}
	if t.Validate(v) != nil {
		return appendJSONString(dst, "0x"+hex.EncodeToString(v))
	}
	if len(v) > 0 {
		switch t.Kind {
		case types.KindInt, types.KindBigint, types.KindSmallint, types.KindTinyint, types.KindVarint, types.KindCounter, types.KindDecimal:
			if s := string(t.AppendString(nil, v)); !strings.HasPrefix(s, "0x") {
				return append(dst, s...)
			}
		case types.KindBoolean:
			b, _ := types.DecodeBoolean(v)
			return strconv.AppendBool(dst, b)
		case types.KindFloat, types.KindDouble:
			if s := f.scalar(t, v); s != "NaN" && !strings.HasSuffix(s, "Infinity") {
				return append(dst, s...)
			}
		case types.KindTimestamp:
			return appendJSONString(dst, jsonTimestamp(v))
		case types.KindList, types.KindSet, types.KindVector, types.KindTuple:
			return appendJSONArray(dst, t, v)
		case types.KindMap:
			return appendJSONMap(dst, t, v)
		case types.KindUDT:
			return appendJSONUDT(dst, t, v)
		}
	}
	return appendJSONString(dst, string(f.value(nil, t, v, false)))
}

// jsonTimestamp returns what Cassandra's SELECT JSON gives.
func jsonTimestamp(v []byte) string {
	ms, _ := types.DecodeTimestamp(v)
	at := time.UnixMilli(ms).UTC()
	if at.Year() < 1 || at.Year() > 9999 {
		return strconv.FormatInt(ms, 10)
	}
	return at.Format("2006-01-02 15:04:05.000Z")
}

func appendJSONArray(dst []byte, t *types.Type, v []byte) []byte {
	dst = append(dst, '[')
	it := t.Iter(v)
	for i := 0; ; i++ {
		e, ok := it.Next()
		if !ok {
			break
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		elem := t.Elems[0]
		if t.Kind == types.KindTuple {
			elem = t.Elems[min(i, len(t.Elems)-1)]
		}
		dst = appendJSON(dst, elem, e)
	}
	return append(dst, ']')
}

func appendJSONMap(dst []byte, t *types.Type, v []byte) []byte {
	dst = append(dst, '{')
	it := t.Iter(v)
	for i := 0; ; i++ {
		k, ok := it.Next()
		if !ok {
			break
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		if key := appendJSON(nil, t.Elems[0], k); len(key) > 0 && key[0] == '"' {
			dst = append(dst, key...)
		} else {
			dst = appendJSONString(dst, string(key))
		}
		e, _ := it.Next()
		dst = appendJSON(append(dst, ':'), t.Elems[1], e)
	}
	return append(dst, '}')
}

func appendJSONUDT(dst []byte, t *types.Type, v []byte) []byte {
	dst = append(dst, '{')
	it := t.Iter(v)
	for i, elem := range t.Elems {
		if i > 0 {
			dst = append(dst, ',')
		}
		e, _ := it.Next()
		dst = appendJSON(append(appendJSONString(dst, t.Fields[i]), ':'), elem, e)
	}
	return append(dst, '}')
}

const hexDigits = "0123456789abcdef"

func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s { // broken UTF-8 comes as U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
