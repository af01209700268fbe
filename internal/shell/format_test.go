package shell

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/helenusdb/helenus/cql/types"
)

func list(elems ...[]byte) []byte {
	dst := types.AppendCount(nil, len(elems))
	for _, e := range elems {
		dst = types.AppendElem(dst, e)
	}
	return dst
}

func pairs(elems ...[]byte) []byte {
	dst := types.AppendCount(nil, len(elems)/2)
	for _, e := range elems {
		dst = types.AppendElem(dst, e)
	}
	return dst
}

// TestFormat: what cqlsh 6.2.2 prints for the same values (a null in a tuple, which it cannot print, and the year 1,
// which it prints as "1", excepted), and JSON as SELECT JSON would give it.
func TestFormat(t *testing.T) {
	udt := types.UDTOf("ks", "addr", []string{"street", "zip"}, []*types.Type{types.Text, types.Int}, true)
	vector := types.VectorOf(types.Float, 3)
	id := types.EncodeUUID([16]byte{0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0})
	decimal := func(unscaled, scale int64) []byte { return types.EncodeDecimal(big.NewInt(unscaled), int32(scale)) }
	const ms2020 = 1577934245678
	for _, c := range []struct {
		typ         *types.Type
		v           []byte
		want, exact string // exact: "" when it is want
		json        string // "": exact in quotes
	}{
		{types.Text, nil, "null", "", "null"},
		{types.Int, []byte{}, "", "", `""`},
		{types.Int, types.EncodeInt(-42), "-42", "", "-42"},
		{types.Bigint, types.EncodeBigint(math.MinInt64), "-9223372036854775808", "", "-9223372036854775808"},
		{types.Counter, types.EncodeBigint(5), "5", "", "5"},
		{types.Smallint, types.EncodeSmallint(7), "7", "", "7"},
		{types.Tinyint, types.EncodeTinyint(-8), "-8", "", "-8"},
		{types.Varint, types.EncodeVarint(new(big.Int).Lsh(big.NewInt(1), 80)), "1208925819614629174706176", "", "1208925819614629174706176"},
		{types.Decimal, decimal(100, 2), "1.00", "", "1.00"},
		{types.Decimal, decimal(1, -3), "1E+3", "", "1E+3"},
		{types.Decimal, decimal(0, 8), "0E-8", "", "0E-8"},
		{types.Double, types.EncodeDouble(math.Pi), "3.14159", "3.141592653589793", "3.141592653589793"},
		{types.Double, types.EncodeDouble(100000), "1e+05", "100000", "100000"},
		{types.Double, types.EncodeDouble(123456.789), "1.2346e+05", "123456.789", "123456.789"},
		{types.Double, types.EncodeDouble(0.0001), "0.0001", "", "0.0001"},
		{types.Double, types.EncodeDouble(1e300), "1e+300", "", "1e+300"},
		{types.Double, types.EncodeDouble(0), "0", "", "0"},
		{types.Double, types.EncodeDouble(math.NaN()), "NaN", "", ""},
		{types.Double, types.EncodeDouble(math.Inf(1)), "Infinity", "", ""},
		{types.Float, types.EncodeFloat(float32(math.Inf(-1))), "-Infinity", "", ""},
		{types.Float, types.EncodeFloat(12345.678), "12345.67773", "12345.678", "12345.678"},
		{types.Float, types.EncodeFloat(0.00001234), "1.2e-05", "1.234e-05", "1.234e-05"},
		{types.Float, types.EncodeFloat(999999.5), "1e+06", "999999.5", "999999.5"},
		{types.Float, types.EncodeFloat(float32(math.Copysign(0, -1))), "-0", "", "-0"},
		{types.Boolean, types.EncodeBoolean(true), "True", "", "true"},
		{types.Boolean, types.EncodeBoolean(false), "False", "", "false"},
		{types.Text, []byte("it's é 漢字"), "it's é 漢字", "", ""},
		{types.Text, []byte{}, "", "", `""`},
		{types.Text, []byte("a\\b\n\t\r\x1b\u00a0\u202e"), `a\\b\n\t\r\x1b\xa0\u202e`, "a\\b\n\t\r\x1b\u00a0\u202e", `"a\\b\n\t\r\u001b` + "\u00a0\u202e" + `"`},
		{types.Ascii, []byte(`asc\i"`), `asc\\i"`, `asc\i"`, `"asc\\i\""`},
		{types.Blob, []byte{0, 0xff, 0xab}, "0x00ffab", "", ""},
		{types.Blob, []byte{}, "0x", "", ""},
		{types.CustomOf("x.Y"), []byte{1}, "0x01", "", ""},
		{types.Inet, types.EncodeInet(netip.MustParseAddr("192.168.0.1")), "192.168.0.1", "", ""},
		{types.Inet, types.EncodeInet(netip.MustParseAddr("2001:db8::ff00:42:8329")), "2001:db8::ff00:42:8329", "", ""},
		{types.Uuid, id, "123e4567-e89b-12d3-a456-426614174000", "", ""},
		{types.Timeuuid, id, "123e4567-e89b-12d3-a456-426614174000", "", ""},
		{types.Timestamp, types.EncodeTimestamp(ms2020), "2020-01-02 03:04:05.678000+0000", "", `"2020-01-02 03:04:05.678Z"`},
		{types.Timestamp, types.EncodeTimestamp(-62135596800000), "0001-01-01 00:00:00.000000+0000", "", `"0001-01-01 00:00:00.000Z"`},
		{types.Timestamp, types.EncodeTimestamp(253402300800000), "253402300800000", "", ""},
		{types.Date, types.EncodeDate(1<<31 - 1), "1969-12-31", "", ""},
		{types.Time, types.EncodeTime(500_000_000), "00:00:00.500000000", "", ""},
		{types.Duration, types.EncodeDuration(-14, -3, -1), "-1y2mo3d1ns", "", ""},
		{types.ListOf(types.Text, true), list([]byte("a"), []byte("b'c"), []byte(`d\`)), `['a', 'b''c', 'd\\']`, `['a', 'b''c', 'd\']`, `["a","b'c","d\\"]`},
		{types.ListOf(types.Text, true), list(), "[]", "", "[]"},
		{types.SetOf(types.Timestamp, true), list(types.EncodeTimestamp(ms2020)), "{'2020-01-02 03:04:05.678000+0000'}", "", `["2020-01-02 03:04:05.678Z"]`},
		{types.MapOf(types.Inet, types.Date, true), pairs(types.EncodeInet(netip.MustParseAddr("::1")), types.EncodeDate(1<<31)), "{'::1': 1970-01-01}", "", `{"::1":"1970-01-01"}`},
		{types.MapOf(types.Int, types.Boolean, true), pairs(types.EncodeInt(1), types.EncodeBoolean(true), types.EncodeInt(2), types.EncodeBoolean(false)), "{1: True, 2: False}", "", `{"1":true,"2":false}`},
		{types.MapOf(types.TupleOf(types.Int), types.Int, true), pairs(types.AppendTuple(nil, [][]byte{types.EncodeInt(1)}), types.EncodeInt(2)), "{(1): 2}", "", `{"[1]":2}`},
		{types.ListOf(types.ListOf(types.Blob, true), true), list(list([]byte{1}, []byte{}), list()), "[[0x01, 0x], []]", "", `[["0x01","0x"],[]]`},
		{types.TupleOf(types.Int, types.Text, types.Float), types.AppendTuple(nil, [][]byte{types.EncodeInt(1), []byte("two"), nil}), "(1, 'two', null)", "", `[1,"two",null]`},
		{types.TupleOf(types.Int, types.Text), types.AppendTuple(nil, [][]byte{types.EncodeInt(1)}), "(1, null)", "", `[1,null]`},
		{udt, types.AppendTuple(nil, [][]byte{[]byte(`Main "1"`), types.EncodeInt(123)}), `{street: 'Main "1"', zip: 123}`, "", `{"street":"Main \"1\"","zip":123}`},
		{udt, types.AppendTuple(nil, [][]byte{nil}), "{street: null, zip: null}", "", `{"street":null,"zip":null}`},
		{vector, vector.AppendVector(nil, [][]byte{types.EncodeFloat(1.5), types.EncodeFloat(-2.25), types.EncodeFloat(1e10)}), "[1.5, -2.25, 1e+10]", "", "[1.5,-2.25,1e+10]"},
		{types.Int, []byte{1, 2}, "0x0102", "", ""}, // what a broken server sends is shown, not believed
	} {
		if c.exact == "" {
			c.exact = c.want
		}
		if c.json == "" {
			c.json = `"` + c.exact + `"`
		}
		if got := string(formatter{}.value(nil, c.typ, c.v, false)); got != c.want {
			t.Errorf("%s %x: %s, want %s", c.typ, c.v, got, c.want)
		}
		if got := string(formatter{exact: true}.value(nil, c.typ, c.v, false)); got != c.exact {
			t.Errorf("%s %x: %s, want exactly %s", c.typ, c.v, got, c.exact)
		}
		got := string(appendJSON(nil, c.typ, c.v))
		if got != c.json || !json.Valid([]byte(got)) {
			t.Errorf("%s %x: JSON %s, want %s", c.typ, c.v, got, c.json)
		}
	}
}

// TestFormatSurvivesAnything: random bytes as values of random types neither panic nor give broken JSON.
func TestFormatSurvivesAnything(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	scalars := []*types.Type{types.Int, types.Text, types.Decimal, types.Varint, types.Timestamp, types.Date, types.Time, types.Duration, types.Inet, types.Boolean,
		types.Double, types.Float, types.Uuid, types.Blob, types.Ascii, types.CustomOf("x")}
	for range 20_000 {
		typ := scalars[random.IntN(len(scalars))]
		for range random.IntN(3) {
			switch random.IntN(4) {
			case 0:
				typ = types.ListOf(typ, true)
			case 1:
				typ = types.MapOf(types.Text, typ, true)
			case 2:
				typ = types.TupleOf(typ, types.Int)
			case 3:
				typ = types.UDTOf("k", "n", []string{"a", "b"}, []*types.Type{typ, types.Text}, true)
			}
		}
		v := make([]byte, random.IntN(40))
		for i := range v {
			if v[i] = byte(random.UintN(256)); random.IntN(2) == 0 {
				v[i] = byte(random.UintN(4))
			}
		}
		if len(v) > 3 && random.IntN(2) == 0 {
			binary.BigEndian.PutUint32(v, uint32(random.IntN(4)))
		}
		formatter{color: true}.value(nil, typ, v, false)
		if out := appendJSON(nil, typ, v); !json.Valid(out) {
			t.Fatalf("%s %x: %s", typ, v, out)
		}
	}
}

func TestColors(t *testing.T) {
	got := string(formatter{color: true}.value(nil, types.ListOf(types.Int, true), list(types.EncodeInt(1)), false))
	if want := blue + "[" + plain + green + "1" + plain + blue + "]" + plain; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
