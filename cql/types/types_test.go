package types

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestKeyGolden pins the bytes of key components; docs/format/key-components.md draws them. They
// are on disk: a change here needs a new format version.
func TestKeyGolden(t *testing.T) {
	dec := func(u int64, scale int32) []byte { return EncodeDecimal(big.NewInt(u), scale) }
	u1 := unhex(t, "d2177dd0eaa211dea572001b779c76e3")
	u4 := unhex(t, "d2177dd0eaa241dea572001b779c76e3")
	intList := ListOf(Int, true)
	pair := TupleOf(Text, Int)
	for _, c := range []struct {
		typ *Type
		v   []byte
		key string
	}{
		{Text, []byte{}, "20"},
		{Text, []byte("ab"), "4061620001"},
		{Text, []byte("a\x00b"), "406100ff620001"},
		{Blob, []byte{0}, "4000ff0001"},
		{Int, EncodeInt(1), "4080000001"},
		{Int, EncodeInt(-1), "407fffffff"},
		{Int, []byte{}, "20"},
		{Bigint, EncodeBigint(-2), "407ffffffffffffffe"},
		{Smallint, EncodeSmallint(5), "408005"},
		{Tinyint, EncodeTinyint(-5), "407b"},
		{Boolean, []byte{7}, "4001"},
		{Date, EncodeDate(1 << 31), "4080000000"},
		{Time, EncodeTime(1), "400000000000000001"},
		{Timestamp, EncodeTimestamp(0), "408000000000000000"},
		{Float, EncodeFloat(1), "40bf800000"},
		{Double, EncodeDouble(-1), "40400fffffffffffff"},
		{Double, unhex(t, "fff8000000000001"), "40fff8000000000000"},
		{Inet, []byte{127, 0, 0, 1}, "407f00ff00ff010001"},
		{Uuid, u1, "4011deeaa2d2177dd0a572001b779c76e3"},
		{Uuid, u4, "404d2177dd0eaa21dea572001b779c76e3"},
		{Timeuuid, u1, "4011deeaa2d2177dd025f2809bf71cf663"},
		{Varint, EncodeVarint(big.NewInt(0)), "4080"},
		{Varint, EncodeVarint(big.NewInt(-1)), "407f"},
		{Varint, EncodeVarint(big.NewInt(300)), "4082012c"},
		{Varint, EncodeVarint(big.NewInt(-300)), "407dfed4"},
		{Varint, append([]byte{1}, make([]byte, 0x70)...), "40f000000071" + "01" + strings.Repeat("00", 0x70)},
		{Decimal, dec(0, 7), "4020"},
		{Decimal, dec(100, 2), "40308101" + "0b00"},
		{Decimal, dec(1, 0), "40308101" + "0b00"},
		{Decimal, dec(-125, 1), "40107efd" + "f2cc" + "ff"},
		{Decimal, dec(1, 1000000000), "40307bc4653601" + "0b00"},
		{intList, intList.AppendCollection(nil, nil), "4008"},
		{intList, intList.AppendCollection(nil, [][]byte{EncodeInt(1)}), "40" + "4080000001" + "08"},
		{pair, AppendTuple(nil, [][]byte{nil, EncodeInt(1)}), "40" + "10" + "4080000001" + "08"},
		{pair, AppendTuple(nil, [][]byte{[]byte("a"), nil}), "40" + "40610001" + "08"},
		{VectorOf(Int, 2), append(EncodeInt(1), EncodeInt(2)...), "40" + "80000001" + "80000002"},
		{VectorOf(Text, 1), []byte{1, 'a'}, "40" + "40610001"},
	} {
		if got := hex.EncodeToString(c.typ.AppendKey(nil, c.v, false)); got != c.key {
			t.Errorf("%s %x: key %s, want %s", c.typ, c.v, got, c.key)
		}
		want := unhex(t, c.key)
		invert(want)
		if got := c.typ.AppendKey(nil, c.v, true); !bytes.Equal(got, want) {
			t.Errorf("%s %x: descending key %x, want %x", c.typ, c.v, got, want)
		}
	}
}

func TestKeyPanics(t *testing.T) {
	for typ, v := range map[*Type][]byte{Duration: {0, 0, 0}, Int: {1}, Decimal: {1}, Empty: {1}, VectorOf(Int, 2): {1, 2, 3, 4}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("AppendKey of %s %x does not panic", typ, v)
				}
			}()
			typ.AppendKey(nil, v, false)
		}()
	}
}

// TestHugeNumbers: exponents of 2^31 and megabytes of digits cost what their bytes cost.
func TestHugeNumbers(t *testing.T) {
	mega := append([]byte{0x7F}, bytes.Repeat([]byte{0xA5}, 1<<20)...)
	other := slices.Clone(mega)
	other[len(other)-1]++
	huge := append([]byte{0x80, 0, 0, 0}, mega...)
	one := unhex(t, "c465360001") // 1E+999999999
	limit := 20 * time.Second
	for name, f := range map[string]func(){
		"varint compare":  func() { Varint.Compare(mega, other) },
		"varint key":      func() { Varint.AppendKey(nil, mega, false) },
		"decimal compare": func() { Decimal.Compare(huge, one); Decimal.Compare(one, unhex(t, "3b9aca0001")) },
		"decimal near":    func() { Decimal.Compare(append(unhex(t, "00000001"), mega...), append(unhex(t, "00000002"), other...)) },
		"decimal far": func() {
			Decimal.Compare(append(unhex(t, "00268420"), mega...), unhex(t, "0000000001"))
		},
		"decimal key":  func() { Decimal.AppendKey(nil, one, false); Decimal.AppendKey(nil, huge[:64<<10], false) },
		"decimal text": func() { Decimal.AppendText(nil, one); Decimal.AppendText(nil, huge[:numberTextBytesMax]) },
		"varint text":  func() { Varint.AppendText(nil, mega[:numberTextBytesMax]) },
		"varint parse": func() { mustParse(t, Varint, strings.Repeat("7", 1<<20)) },
		"decimal parse": func() {
			mustParse(t, Decimal, "1E1000000000")
			mustParse(t, Decimal, strings.Repeat("7", 1<<20)+"."+strings.Repeat("3", 1<<20))
		},
	} {
		start := time.Now()
		f()
		d := time.Since(start)
		t.Logf("%s: %v", name, d)
		if d > limit {
			t.Errorf("%s took %v", name, d)
		}
	}
}

func mustParse(t *testing.T, typ *Type, s string) {
	if _, err := typ.ParseLiteral(s); err != nil {
		t.Error(err)
	}
}

// TestHugeText: numbers too long to be converted appear as bytes.
func TestHugeText(t *testing.T) {
	v := append([]byte{0, 0, 0, 0, 1}, make([]byte, numberTextBytesMax)...)
	for _, typ := range []*Type{Varint, Decimal} {
		if got := typ.AppendText(nil, v); string(got) != "0x"+hex.EncodeToString(v) {
			t.Errorf("%s text begins with %.20s", typ, got)
		}
	}
}

// TestParseBig: splitting long digits gives what parsing them at once gives.
func TestParseBig(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 20 {
		digits := make([]byte, 1+r.IntN(5*bigDigitsChunk))
		for i := range digits {
			digits[i] = '0' + byte(r.IntN(10))
		}
		want, _ := new(big.Int).SetString(string(digits), 10)
		if got := parseBig(string(digits)); got.Cmp(want) != 0 {
			t.Fatalf("%s parsed as %s", digits, got)
		}
	}
}

func TestConstants(t *testing.T) {
	_, err := Int.FromConstant(ConstString, "abc")
	var c *ConstantError
	if !errors.As(err, &c) || c.Message("k") != `Invalid STRING constant (abc) for "k" of type int` {
		t.Errorf("string for an int: %v", err)
	}
	_, err = Int.FromConstant(ConstInteger, "99999999999")
	if err == nil || err.Error() != "Unable to make int from '99999999999'" {
		t.Errorf("large int: %v", err)
	}
	for _, ok := range []struct {
		typ   *Type
		class ConstClass
		text  string
		want  string
	}{
		{Blob, ConstHex, "0xCAFE", "cafe"},
		{Blob, ConstHex, "0x", ""},
		{Counter, ConstInteger, "5", "0000000000000005"},
		{Timestamp, ConstString, "2011-02-03T04:05:06.789+0000", "0000012de9b1e865"},
		{Double, ConstFloat, "NaN", "7ff8000000000000"},
		{Duration, ConstDuration, "1h", "0000fc068c61714000"},
		{CustomOf("X"), ConstHex, "0x01", "01"},
		{Text, ConstString, "", ""},
	} {
		got, err := ok.typ.FromConstant(ok.class, ok.text)
		if err != nil || got == nil || hex.EncodeToString(got) != ok.want {
			t.Errorf("%s %s %q: %x, %v", ok.class, ok.typ, ok.text, got, err)
		}
	}
	// Rows: types in Native order; columns: the classes in order.
	const table = `ascii x......|bigint .x.....|blob .....x.|boolean ....x..|counter .x.....|date xx.....|decimal .x.x...|double .x.x...|duration .x....x|float .x.x...|inet x......|int .x.....|smallint .x.....|text x......|time xx.....|timestamp xx.....|timeuuid ..x....|tinyint .x.....|uuid ..x....|varint .x.....`
	for _, row := range strings.Split(table, "|") {
		name, marks, _ := strings.Cut(row, " ")
		typ, ok := Native(name)
		for class := ConstString; class <= ConstDuration; class++ {
			if !ok || typ.Assignable(class) != (marks[class] == 'x') {
				t.Errorf("%s assignable to %s: %v", class, name, !ok || typ.Assignable(class))
			}
		}
	}
	if ListOf(Int, true).Assignable(ConstInteger) || !CustomOf("X").Assignable(ConstDuration) {
		t.Error("assignability of collections or custom types")
	}
}

func TestSortElems(t *testing.T) {
	i := func(v int32) []byte { return EncodeInt(v) }
	set := SetOf(Int, false).SortElems([][]byte{i(3), i(-1), i(3), i(0), i(-1)})
	if !slices.EqualFunc(set, [][]byte{i(-1), i(0), i(3)}, bytes.Equal) {
		t.Errorf("set %x", set)
	}
	dup := SetOf(Decimal, false).SortElems([][]byte{EncodeDecimal(big.NewInt(10), 1), EncodeDecimal(big.NewInt(1), 0)})
	if len(dup) != 1 || !bytes.Equal(dup[0], EncodeDecimal(big.NewInt(10), 1)) {
		t.Errorf("of equal elements the first stays: %x", dup)
	}
	m := MapOf(Int, Text, false).SortElems([][]byte{i(2), {'a'}, i(1), {'b'}, i(2), {'c'}})
	if !slices.EqualFunc(m, [][]byte{i(1), {'b'}, i(2), {'c'}}, bytes.Equal) {
		t.Errorf("map %q", m)
	}
	list := ListOf(Int, false).SortElems([][]byte{i(2), i(1), i(2)})
	if len(list) != 3 {
		t.Errorf("list %x", list)
	}
}

func TestIter(t *testing.T) {
	tuple := TupleOf(Int, Text, Int)
	it := tuple.Iter(AppendTuple(nil, [][]byte{EncodeInt(1), nil}))
	var got [][]byte
	for e, ok := it.Next(); ok; e, ok = it.Next() {
		got = append(got, e)
	}
	if it.Err() != nil || len(got) != 3 || got[0] == nil || got[1] != nil || got[2] != nil {
		t.Errorf("tuple %x, %v", got, it.Err())
	}
	m := MapOf(Int, Text, false)
	it = m.Iter(m.AppendCollection(nil, [][]byte{EncodeInt(1), {}, EncodeInt(2), {'x'}}))
	if it.Len() != 4 {
		t.Errorf("map of 2 has %d elements", it.Len())
	}
	it.Next()
	if e, ok := it.Next(); !ok || e == nil || len(e) != 0 || it.Len() != 2 {
		t.Errorf("empty value %v %v, %d left", e, ok, it.Len())
	}
	it = ListOf(Int, false).Iter([]byte{0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0})
	if it.Len() != 1 {
		t.Errorf("a false count promises %d elements", it.Len())
	}
}

func TestParse(t *testing.T) {
	for _, typ := range append(orderedTypes(), Duration, ListOf(addr, false), MapOf(Int, addr.Freeze(), false), addr, addr.Freeze(),
		CustomOf("it's"), SetOf(ListOf(Int, false), false), VectorOf(addr.Freeze(), 5)) {
		udt := func(ks, name string) (*Type, bool) {
			if name == "u" {
				return orderedTypes()[27], true
			}
			return lookupAddr(ks, name)
		}
		got, err := Parse(typ.String(), udt, "ks")
		if err != nil || !got.Equal(typ) || got.String() != typ.String() {
			t.Errorf("%s parsed as %v, %v", typ, got, err)
		}
	}
	for in, want := range map[string]string{
		" MAP < Int , FROZEN<List<VARCHAR>> > ": "map<int, frozen<list<text>>>",
		`ks."addr"`:                             "addr",
		"KS.Addr":                               "addr",
		"tuple<int>":                            "frozen<tuple<int>>",
		"'org.apache.cassandra.db.marshal.Int32Type'": "int",
		"'UTF8Type'":                        "text",
		"vector<int,3>":                     "vector<int, 3>",
		"frozen<map<text, list<set<int>>>>": "frozen<map<text, frozen<list<frozen<set<int>>>>>>",
		"'org.apache.cassandra.db.marshal.DynamicComposite'": "'org.apache.cassandra.db.marshal.DynamicComposite'",
	} {
		if got, err := Parse(in, lookupAddr, "ks"); err != nil || got.String() != want {
			t.Errorf("%q parsed as %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "nope", "list<int", "list<>", "list<int, int>", "map<int>", "int int", "list<int>>", `"int"`, "vector<int, 0>",
		"vector<int, 99999>", "vector<int>", "'x", "other.addr", "frozen<int, int>", strings.Repeat("list<", 80) + "int" + strings.Repeat(">", 80)} {
		if got, err := Parse(bad, lookupAddr, "ks"); err == nil {
			t.Errorf("%q parsed as %s", bad, got)
		}
	}
}

func TestEqualAndFreeze(t *testing.T) {
	a, b := MapOf(Text, ListOf(Int, false), false), MapOf(Text, ListOf(Int, false), false)
	if !a.Equal(b) || a.Equal(a.Freeze()) || !a.Freeze().Equal(b.Freeze()) || a.Equal(MapOf(Text, Int, false)) || a.Equal(nil) {
		t.Error("Equal of maps")
	}
	if a.Freeze().Elems[1].MultiCell() || !a.MultiCell() || a.Freeze().MultiCell() || Int.MultiCell() || TupleOf(Int).MultiCell() {
		t.Error("Freeze and MultiCell of maps")
	}
	if Int.Freeze() != Int || a.Freeze().Freeze().String() != a.Freeze().String() || !a.Elems[1].MultiCell() {
		t.Error("Freeze changes what it should not")
	}
	renamed := UDTOf("ks", "addr", []string{"x", "Zip", "order"}, addr.Elems, false)
	if addr.Equal(renamed) || addr.UDTField("Zip") != 1 || addr.UDTField("zip") != -1 || !ListOf(addr, false).References("ks", "addr") {
		t.Error("UDT fields")
	}
}

// TestNow: the constant 'now' is the current time.
func TestNow(t *testing.T) {
	before := time.Now().UnixMilli()
	v, err := Timestamp.ParseLiteral("NOW")
	if err != nil {
		t.Fatal(err)
	}
	if got := int64(binary.BigEndian.Uint64(v)); got < before || got > time.Now().UnixMilli() {
		t.Errorf("now is %d, not after %d", got, before)
	}
}

func TestCivil(t *testing.T) {
	for days := int64(-800000); days < 800000; days += 7 {
		want := time.Unix(days*86400, 0).UTC()
		y, m, d := civil(days)
		if int(y) != want.Year() || m != int(want.Month()) || d != want.Day() || daysOf(y, m, d) != days {
			t.Fatalf("day %d is %d-%d-%d, want %v", days, y, m, d, want)
		}
	}
}

// TestAllocations: the paths that every row takes allocate nothing.
func TestAllocations(t *testing.T) {
	u := unhex(t, "d2177dd0eaa211dea572001b779c76e3")
	list := ListOf(Int, true)
	buf := make([]byte, 0, 256)
	for _, c := range []struct {
		typ  *Type
		a, b []byte
	}{
		{Int, EncodeInt(1), EncodeInt(2)}, {Bigint, EncodeBigint(1), EncodeBigint(2)}, {Text, []byte("some text"), []byte("some texts")},
		{Uuid, u, u}, {Timeuuid, u, u}, {Varint, EncodeVarint(big.NewInt(5)), EncodeVarint(big.NewInt(-5))},
		{Decimal, EncodeDecimal(big.NewInt(1234), 2), EncodeDecimal(big.NewInt(1235), 2)}, {Blob, []byte{0, 1}, []byte{0}},
		{Double, EncodeDouble(1), EncodeDouble(2)}, {list, list.AppendCollection(nil, [][]byte{EncodeInt(1)}), list.AppendCollection(nil, nil)},
	} {
		key := c.typ.AppendKey(nil, c.a, true)
		sum := 0
		for what, f := range map[string]func(){
			"Validate":      func() { _ = c.typ.Validate(c.a) },
			"Compare":       func() { sum += c.typ.Compare(c.a, c.b) },
			"AppendKey":     func() { sum += len(c.typ.AppendKey(buf, c.a, true)) },
			"AppendFromKey": func() { v, _, _ := c.typ.AppendFromKey(buf, key, true); sum += len(v) },
			"Canonical":     func() { _ = c.typ.Canonical(c.a) },
			"AppendText":    func() { sum += len(c.typ.AppendText(buf, c.a)) },
		} {
			if n := testing.AllocsPerRun(100, f); n != 0 {
				t.Errorf("%s of %s allocates %v times", what, c.typ, n)
			}
		}
	}
}
