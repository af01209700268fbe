package protocol

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/cql/types"
)

// loadGolden returns the captured answers by name.
func loadGolden(t testing.TB) map[string][]byte {
	t.Helper()
	f, err := os.Open("testdata/cassandra-5.0.8.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	golden := map[string][]byte{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || name == "#" {
			continue
		}
		if golden[name], err = hex.DecodeString(value); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if len(golden) < 100 {
		t.Fatalf("only %d golden answers", len(golden))
	}
	return golden
}

func open(t *testing.T, frame []byte) (Header, Extras, []byte) {
	t.Helper()
	h, body, err := DecodeHeader(frame)
	if err != nil || h.Length != len(body) {
		t.Fatalf("header %+v of a body of %d bytes: %v", h, len(body), err)
	}
	x, body, err := SplitResponse(h, body)
	if err != nil {
		t.Fatal(err)
	}
	return h, x, body
}

// TestGoldenRoundTrip decodes every captured answer and encodes it again: the bytes must be
// Cassandra's.
func TestGoldenRoundTrip(t *testing.T) {
	for name, want := range loadGolden(t) {
		if strings.HasPrefix(name, "version/") || strings.HasPrefix(name, "v4/lz4") ||
			strings.Contains(name, "snappy") || strings.HasSuffix(name, "_segment") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			h, x, body := open(t, want)
			got, mark := BeginResponse([]byte("before"), h.Version, h.Op, h.Stream, &x)
			got = EndFrame(reencode(t, got, h, body), mark)[6:]
			if !bytes.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func reencode(t *testing.T, dst []byte, h Header, body []byte) []byte {
	t.Helper()
	switch h.Op {
	case OpReady:
		return AppendReady(dst)
	case OpSupported:
		options, err := DecodeSupported(body)
		if err != nil {
			t.Fatal(err)
		}
		return AppendSupported(dst, options)
	case OpError:
		e, err := DecodeError(h.Version, body)
		if err != nil {
			t.Fatal(err)
		}
		return AppendError(dst, h.Version, e)
	case OpEvent:
		e, err := DecodeEvent(body)
		if err != nil {
			t.Fatal(err)
		}
		out := AppendEvent(nil, h.Version, &e)
		return append(dst, out[HeaderLen:]...)
	case OpResult:
		return reencodeResult(t, dst, h.Version, body)
	}
	t.Fatalf("unexpected %s", h.Op)
	return nil
}

func reencodeResult(t *testing.T, dst []byte, v Version, body []byte) []byte {
	t.Helper()
	r, err := DecodeResult(v, body)
	if err != nil {
		t.Fatal(err)
	}
	switch r.Kind {
	case ResultVoid:
		return AppendVoid(dst)
	case ResultSetKeyspace:
		return AppendSetKeyspace(dst, r.Keyspace)
	case ResultSchemaChange:
		return AppendSchemaChangeResult(dst, v, r.Change)
	case ResultPrepared:
		result := NewSpecs(r.Prepared.Result.Columns)
		copy(result.id[:], r.Prepared.ResultMetadataID) // frozen types cannot be told from the wire
		return AppendPrepared(dst, v, StatementID(r.Prepared.ID), NewSpecs(r.Prepared.Variables), r.Prepared.PKIndexes, result)
	}
	return reencodeRows(t, dst, v, &r.Rows)
}

func reencodeRows(t *testing.T, dst []byte, v Version, rows *Rows) []byte {
	t.Helper()
	m := &rows.Metadata
	specs, mode := NewSpecs(m.Columns), FullMetadata
	switch {
	case m.Flags&RowsNoMetadata != 0:
		specs, mode = NewSpecs(make([]Column, 0)), SkipMetadata
		specs.columns, specs.global = make([]Column, m.ColumnCount), m.Flags&RowsGlobalTableSpec != 0
	case m.Flags&RowsMetadataChanged != 0:
		mode = ChangedMetadata
		if string(specs.id[:]) != string(m.NewMetadataID) {
			t.Errorf("metadata id %x, want %x", specs.id, m.NewMetadataID)
		}
	}
	dst, mark := BeginRows(dst, v, specs, mode)
	n := 0
	for rows.Next() {
		n++
		for _, value := range rows.Values() {
			dst = AppendBytes(dst, value)
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return EndRows(dst, mark, n, m.PagingState)
}

// TestGoldenPrepared checks ids: those of statements and those of result metadata.
func TestGoldenPrepared(t *testing.T) {
	golden := loadGolden(t)
	for _, c := range []struct {
		name, keyspace, query string
		columns               []Column
		pk                    []uint16
	}{
		{"prepared", "", "SELECT v FROM helenus_proto.t WHERE b=? AND k=? AND c=?",
			[]Column{{Name: "v", Type: types.Text}}, []uint16{1, 0}},
		{"prepared_insert", "", "INSERT INTO helenus_proto.t(k,b,c,v) VALUES(?,?,?,?)", nil, []uint16{0, 1}},
		{"prepared_lwt", "", "INSERT INTO helenus_proto.t(k,b,c,v) VALUES(?,?,?,?) IF NOT EXISTS", nil, []uint16{0, 1}},
		{"prepared_alltypes", "", "SELECT * FROM helenus_proto.alltypes", allTypes(), nil},
		{"prepared_desc", "", "SELECT * FROM helenus_proto.d", []Column{{Name: "k", Type: types.Int},
			{Name: "c", Type: types.Timeuuid, Reversed: true}, {Name: "v", Type: types.Int}}, nil},
		{"prepared_unqualified", "helenus_proto", "SELECT k FROM t WHERE k=1 AND b='VERSION'",
			[]Column{{Name: "k", Type: types.Int}}, nil},
	} {
		for v := V3; v <= V5; v++ {
			name := v.String()[2:] + "/" + c.name
			h, x, body := open(t, golden[name])
			r, err := DecodeResult(h.Version, body)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			query := strings.Replace(c.query, "VERSION", v.String()[:1], 1)
			if id := ComputeStatementID(c.keyspace, query); string(id[:]) != string(r.Prepared.ID) {
				t.Errorf("%s: id %x, want %x", name, id, r.Prepared.ID)
			}
			if id := ComputeMetadataID(c.columns); v == V5 && string(id[:]) != string(r.Prepared.ResultMetadataID) {
				t.Errorf("%s: metadata id %x, want %x", name, id, r.Prepared.ResultMetadataID)
			}
			if v >= V4 && !equalPK(r.Prepared.PKIndexes, c.pk) {
				t.Errorf("%s: pk %v, want %v", name, r.Prepared.PKIndexes, c.pk)
			}
			if warned := len(x.Warnings) > 0; warned != (c.keyspace != "" && v >= V4) {
				t.Errorf("%s: warnings %q", name, x.Warnings)
			}
		}
	}
}

func equalPK(a, b []uint16) bool { return len(a) == len(b) && (len(a) == 0 || a[0] == b[0]) }

// allTypes is the table of that name, in the order of SELECT *.
func allTypes() []Column {
	addrFields := []*types.Type{types.Text, types.Int, types.Date}
	addr := types.UDTOf("helenus_proto", "addr", []string{"street", "zip", "seen"}, addrFields, false)
	intList := types.ListOf(types.Int, true)
	byName := []Column{
		{Name: "a", Type: types.Ascii}, {Name: "ad", Type: addr}, {Name: "b", Type: types.Bigint},
		{Name: "bl", Type: types.Blob}, {Name: "bo", Type: types.Boolean}, {Name: "d", Type: types.Decimal},
		{Name: "da", Type: types.Date}, {Name: "db", Type: types.Double}, {Name: "du", Type: types.Duration},
		{Name: "f", Type: types.Float}, {Name: "fad", Type: addr.Freeze()},
		{Name: "fl", Type: types.ListOf(types.Text, true)},
		{Name: "fs", Type: types.SetOf(addr.Freeze(), true)}, {Name: "i", Type: types.Int},
		{Name: "ip", Type: types.Inet}, {Name: "l", Type: types.ListOf(types.Date, false)},
		{Name: "m", Type: types.MapOf(types.Text, intList, false)},
		{Name: "s", Type: types.SetOf(types.Smallint, false)}, {Name: "si", Type: types.Smallint},
		{Name: "ti", Type: types.Time}, {Name: "tn", Type: types.Tinyint},
		{Name: "tp", Type: types.TupleOf(types.Int, types.Text, types.Duration)},
		{Name: "ts", Type: types.Timestamp}, {Name: "tu", Type: types.Timeuuid}, {Name: "tx", Type: types.Text},
		{Name: "u", Type: types.Uuid}, {Name: "vec", Type: types.VectorOf(types.Float, 3)},
		{Name: "vi", Type: types.Varint}, {Name: "vv", Type: types.VectorOf(intList, 2)},
	}
	columns := append([]Column{{Name: "k", Type: types.Int}}, byName...)
	for i := range columns {
		columns[i].Keyspace, columns[i].Table = "helenus_proto", "alltypes"
	}
	return columns
}
