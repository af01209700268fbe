package types

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// addr is the UDT that testdata/cassandra.txt uses.
var addr = UDTOf("ks", "addr", []string{"street", "Zip", "order"}, []*Type{Text, Int, SetOf(Int, false)}, false)

func lookupAddr(ks, name string) (*Type, bool) { return addr, ks == "ks" && name == "addr" }

// crash marks answers that in Cassandra are an exception nobody meant to throw: here any error will do.
var crash = regexp.MustCompile(`^!\w+(Exception|Error): `)

// TestCassandra replays questions that Apache Cassandra 5.0.8's own classes have answered: lines
// of operation, type, arguments and answer (an error's text after "!"), separated by tabs.
func TestCassandra(t *testing.T) {
	f, err := os.Open("testdata/cassandra.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); n++ {
		fields := strings.Split(s.Text(), "\t")
		typ, err := Parse(fields[1], lookupAddr, "ks")
		if err != nil {
			t.Fatal(err)
		}
		want := unescape.Replace(fields[len(fields)-1])
		if deviates(typ, fields[0], fields[2], want) {
			continue
		}
		got := answer(t, typ, fields[0], fields[2:len(fields)-1])
		if got == want || crash.MatchString(want) && (fields[0] != "validate" || strings.HasPrefix(got, "!")) {
			continue
		}
		t.Errorf("%q: got %q", s.Text(), got)
	}
	if n < 8000 {
		t.Errorf("only %d lines", n)
	}
}

// deviates reports whether Helenus answers another way than Cassandra, on purpose.
func deviates(typ *Type, op, arg, want string) bool {
	switch op {
	case "validate": // a negative count passes in Cassandra, and then reading the value fails
		return want == "ok" && strings.HasPrefix(arg, "ffffffff") && typ.Collection()
	case "compare": // a counter has no comparator in Cassandra; here it is a bigint
		return typ.Kind == KindCounter
	case "text", "string":
		if arg == "" && strings.HasPrefix(want, "!") || typ.Kind == KindCounter {
			return true // refused by Validate; Cassandra shows counters in hexadecimal
		}
		// Cassandra loses the smallest numbers to overflow.
		return typ.Kind == KindDuration && (want == "-" || typ.Validate(hexOf(arg)) != nil)
	case "parse":
		switch typ.Kind {
		case KindCounter: // hexadecimal in Cassandra, which reads constants as bigints
			return true
		case KindDuration, KindTinyint, KindSmallint: // the empty value, which Validate refuses
			return arg == ""
		case KindBlob: // the constant with its 0x is understood
			return strings.HasPrefix(arg, "0x")
		}
	}
	return false
}

func hexOf(s string) []byte {
	b, _ := hex.DecodeString(s)
	return b
}

var unescape = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t")

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func answer(t *testing.T, typ *Type, op string, args []string) string {
	switch op {
	case "name":
		return typ.String()
	case "class":
		return typ.JavaName()
	case "fixed":
		return strconv.Itoa(typ.FixedLen())
	case "validate":
		if err := typ.Validate(unhex(t, args[0])); err != nil {
			return "!" + err.Error()
		}
		return "ok"
	case "text":
		return string(typ.AppendText(nil, unhex(t, args[0])))
	case "string":
		return string(typ.AppendString(nil, unhex(t, args[0])))
	case "parse":
		v, err := typ.ParseLiteral(args[0])
		var m *MarshalError
		if err != nil && !errors.As(err, &m) {
			t.Errorf("parse %s %q: %T", typ, args[0], err)
		}
		if err != nil {
			return "!" + err.Error()
		}
		if err := typ.Validate(v); err != nil || v == nil {
			t.Errorf("parse %s %q gave %x: %v", typ, args[0], v, err)
		}
		return hex.EncodeToString(v)
	case "compare":
		a, b := unhex(t, args[0]), unhex(t, args[1])
		c := typ.Compare(a, b)
		if k := bytes.Compare(typ.AppendKey(nil, a, false), typ.AppendKey(nil, b, false)); k != c {
			t.Errorf("keys of %s %x and %x compare as %d, values as %d", typ, a, b, k, c)
		}
		return strconv.Itoa(c)
	}
	t.Fatalf("operation %q", op)
	return ""
}
