package protocol

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/cql/types"
)

// everyError has one error of each code, with every field that its code carries.
func everyError() []*Error {
	cl := func(e Error) *Error {
		e.Message, e.Consistency = "message", EachQuorum
		return &e
	}
	failures := []Failure{{netip.MustParseAddr("127.0.0.2"), FailureTimeout}, {netip.MustParseAddr("::1"), FailureUnknown}}
	list := []*Error{
		cl(Error{Code: CodeUnavailable, Required: 3, Alive: 1}),
		cl(Error{Code: CodeReadTimeout, Received: 1, BlockFor: 2, DataPresent: true}),
		cl(Error{Code: CodeReadTimeout, Received: 2, BlockFor: 2}),
		cl(Error{Code: CodeWriteTimeout, Received: 1, BlockFor: 2, WriteType: WriteBatchLog}),
		cl(Error{Code: CodeWriteTimeout, Received: 1, BlockFor: 2, WriteType: WriteCAS, Contentions: 7}),
		cl(Error{Code: CodeReadFailure, Received: 1, BlockFor: 2, Failures: failures, DataPresent: true}),
		cl(Error{Code: CodeWriteFailure, Received: 1, BlockFor: 2, Failures: failures, WriteType: WriteView}),
		cl(Error{Code: CodeCASWriteUnknown, Received: 1, BlockFor: 2}),
		{Code: CodeFunctionFailure, Message: "boom", Keyspace: "ks", Function: "f", ArgTypes: []string{"int", "text"}},
		{Code: CodeAlreadyExists, Message: "m", Keyspace: "ks", Table: "t"},
		{Code: CodeUnprepared, Message: "m", StatementID: []byte("0123456789abcdef")},
	}
	for _, c := range []ErrorCode{CodeServerError, CodeProtocol, CodeBadCredentials, CodeOverloaded, CodeBootstrapping,
		CodeTruncate, CodeCDCWriteFailure, CodeSyntax, CodeUnauthorized, CodeInvalid, CodeConfig} {
		list = append(list, &Error{Code: c, Message: "message of " + c.String()})
	}
	return list
}

// TestErrorRoundTrip: what a client of each version decodes is what ForVersion says it is told.
func TestErrorRoundTrip(t *testing.T) {
	for _, e := range everyError() {
		for v := V3; v <= V5; v++ {
			want := *e.ForVersion(v)
			if v < V5 && len(want.Failures) > 0 {
				want.Failures = make([]Failure, len(want.Failures)) // only their number
			}
			if v == V5 && &want != e && !reflect.DeepEqual(&want, e) {
				t.Errorf("v5 changes %s", e.Code)
			}
			got, err := DecodeError(v, AppendError(nil, v, e))
			if err != nil || !reflect.DeepEqual(got, &want) {
				t.Errorf("%s %s:\ngot  %+v, %v\nwant %+v", v, e.Code, got, err, want)
			}
			body := AppendError(nil, v, e)
			for n := range len(body) {
				if e.WriteType == WriteCAS && n == len(body)-2 { // contentions may be missing
					continue
				}
				if _, err := DecodeError(v, body[:n]); err == nil {
					t.Errorf("%s %s cut at %d of %d accepted", v, e.Code, n, len(body))
				}
			}
		}
	}
}

// TestErrorMapping holds the forms that older versions get.
func TestErrorMapping(t *testing.T) {
	const timedOut = "Operation timed out - received only 1 responses."
	for _, c := range []struct {
		code    ErrorCode
		version Version
		want    ErrorCode
		text    string
	}{
		{CodeReadFailure, V3, CodeReadTimeout, timedOut},
		{CodeReadFailure, V4, CodeReadFailure, "message"},
		{CodeWriteFailure, V3, CodeWriteTimeout, timedOut},
		{CodeFunctionFailure, V3, CodeInvalid, "ERROR FUNCTION_FAILURE: boom"},
		{CodeFunctionFailure, V4, CodeFunctionFailure, "boom"},
		{CodeCDCWriteFailure, V3, CodeInvalid, "ERROR CDC_WRITE_FAILURE: message of CDC_WRITE_FAILURE"},
		{CodeCASWriteUnknown, V4, CodeWriteTimeout, timedOut},
		{CodeCASWriteUnknown, V5, CodeCASWriteUnknown, "message"},
	} {
		for _, e := range everyError() {
			if e.Code != c.code {
				continue
			}
			got := e.ForVersion(c.version)
			if got.Code != c.want || got.Message != c.text || c.code == CodeCASWriteUnknown && c.version < V5 && got.WriteType != WriteCAS {
				t.Errorf("%s on %s: %+v", c.code, c.version, got)
			}
		}
	}
}

func TestErrorGoldenBytes(t *testing.T) {
	e := &Error{Code: CodeReadFailure, Message: "m", Consistency: Quorum, Received: 1, BlockFor: 2, DataPresent: true,
		Failures: []Failure{{netip.MustParseAddr("10.0.0.1"), FailureReadTooManyTombstones}}}
	for v, want := range map[Version]string{
		V4: "00001300 00016d 0004 00000001 00000002 00000001 01",
		V5: "00001300 00016d 0004 00000001 00000002 00000001 040a000001 0001 01",
	} {
		if got := hex.EncodeToString(AppendError(nil, v, e)); got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%s: %s", v, got)
		}
	}
	if got := AppendError(nil, V5, &Error{Message: strings.Repeat("é", 40000)}); len(got) != 4+2+StringMax-1 {
		t.Errorf("a message of 80,000 bytes takes %d", len(got))
	}
}

func TestEvents(t *testing.T) {
	for _, e := range []Event{
		{Type: TopologyChange, Change: NewNode, Addr: netip.MustParseAddrPort("127.0.0.1:9042")},
		{Type: TopologyChange, Change: MovedNode, Addr: netip.MustParseAddrPort("127.0.0.1:9042")},
		{Type: StatusChange, Change: StatusDown, Addr: netip.MustParseAddrPort("[2001:db8::7]:19042")},
		{Type: SchemaChange, Change: Created, Target: TargetKeyspace, Keyspace: "ks"},
		{Type: SchemaChange, Change: Dropped, Target: TargetTable, Keyspace: "ks", Name: "t"},
		{Type: SchemaChange, Change: Updated, Target: TargetType, Keyspace: "ks", Name: "u"},
		{Type: SchemaChange, Change: Created, Target: TargetFunction, Keyspace: "ks", Name: "f", Args: []string{"int", "text"}},
		{Type: SchemaChange, Change: Dropped, Target: TargetAggregate, Keyspace: "ks", Name: "a", Args: []string{"int"}},
	} {
		for v := V3; v <= V5; v++ {
			want := e
			if v == V3 && e.Args != nil {
				want = Event{Type: SchemaChange, Change: Updated, Target: TargetKeyspace, Keyspace: "ks"}
			}
			frame := AppendEvent(nil, v, &e)
			h, _, body := open(t, frame)
			got, err := DecodeEvent(body)
			if err != nil || !reflect.DeepEqual(got, want) || h.Stream != -1 || h.Op != OpEvent {
				t.Errorf("%s: got %+v %v\nwant %+v", v, got, err, want)
			}
			for n := range len(body) {
				if _, err := DecodeEvent(body[:n]); err == nil {
					t.Errorf("%s %+v cut at %d accepted", v, e, n)
				}
			}
			if e.Type != SchemaChange {
				continue
			}
			r, err := DecodeResult(v, AppendSchemaChangeResult(nil, v, &e))
			if err != nil || r.Kind != ResultSchemaChange || !reflect.DeepEqual(*r.Change, want) {
				t.Errorf("%s result: got %+v %v", v, r, err)
			}
		}
	}
}

func kvSpecs() *Specs {
	return NewSpecs([]Column{{"ks", "t", "k", types.Int, false}, {"ks", "t", "v", types.Text, false}})
}

// TestRows builds pages in every mode and reads them back.
func TestRows(t *testing.T) {
	specs := kvSpecs()
	for v := V3; v <= V5; v++ {
		for _, mode := range []MetadataMode{FullMetadata, SkipMetadata, ChangedMetadata} {
			for _, state := range [][]byte{nil, {}, []byte("next")} {
				b, mark := BeginRows([]byte("before"), v, specs, mode)
				b = AppendValue(AppendValue(b, []byte{0, 0, 0, 1}), []byte("one"))
				b = AppendNull(AppendValue(b, nil))
				b = EndRows(b, mark, 2, state)
				rows, err := DecodeRows(v, b[6:])
				if err != nil {
					t.Fatal(err)
				}
				checkRows(t, rows, v, mode, state)
				m := rows.Metadata
				if got := AppendMetadata(nil, v, &m); m.Columns != nil && !bytes.Equal(got, b[10:10+len(got)]) {
					t.Errorf("AppendMetadata: %x, want %x", got, b[10:10+len(got)])
				}
			}
		}
	}
}

func checkRows(t *testing.T, rows *Rows, v Version, mode MetadataMode, state []byte) {
	t.Helper()
	flags := RowsGlobalTableSpec
	if mode == SkipMetadata {
		flags |= RowsNoMetadata
	}
	if mode == ChangedMetadata && v == V5 {
		flags |= RowsMetadataChanged
	}
	if state != nil {
		flags |= RowsHasMorePages
	}
	m := rows.Metadata
	if m.Flags != flags || m.ColumnCount != 2 || (mode == SkipMetadata) != (m.Columns == nil) ||
		!bytes.Equal(m.PagingState, state) || (len(m.NewMetadataID) == 16) != (flags&RowsMetadataChanged != 0) {
		t.Errorf("%s mode %d: metadata %+v", v, mode, m)
	}
	var got []string
	for rows.Next() {
		for _, value := range rows.Values() {
			if value == nil {
				got = append(got, "null")
			} else {
				got = append(got, string(value))
			}
		}
	}
	if want := []string{"\x00\x00\x00\x01", "one", "", "null"}; rows.Err() != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s mode %d: %q %v", v, mode, got, rows.Err())
	}
}

// TestModeFor is Cassandra's rule, case by case.
func TestModeFor(t *testing.T) {
	a, b := MetadataID{1}, MetadataID{2}
	for _, c := range []struct {
		name              string
		v                 Version
		client            []byte
		skip, conditional bool
		current, prepared MetadataID
		want              MetadataMode
	}{
		{"v5 same", V5, a[:], false, false, a, a, FullMetadata},
		{"v5 same, skip", V5, a[:], true, false, a, b, SkipMetadata},
		{"v5 other", V5, b[:], false, false, a, a, ChangedMetadata},
		{"v5 other, skip", V5, b[:], true, false, a, a, ChangedMetadata},
		{"v5 conditional", V5, b[:], true, true, a, a, FullMetadata},
		{"v4 skip", V4, nil, true, false, a, a, SkipMetadata},
		{"v4 skip, altered", V4, nil, true, false, a, b, FullMetadata},
		{"v4", V4, nil, false, false, a, b, FullMetadata},
		{"v4 conditional", V4, nil, true, true, a, a, FullMetadata},
	} {
		e := Execute{ResultMetadataID: c.client}
		if c.skip {
			e.Flags = QuerySkipMetadata
		}
		if got := ModeFor(c.v, &e, c.current, c.prepared, c.conditional); got != c.want {
			t.Errorf("%s: mode %d", c.name, got)
		}
	}
}

// TestSpecsOfSeveralTables has no global table spec.
func TestSpecsOfSeveralTables(t *testing.T) {
	columns := []Column{{Keyspace: "a", Table: "t", Name: "x", Type: types.Int}, {Keyspace: "a", Table: "u", Name: "y", Type: types.Int}}
	b := AppendPrepared(nil, V5, StatementID{9}, NewSpecs(columns), []uint16{1}, NewSpecs(columns))
	r, err := DecodeResult(V5, b)
	if err != nil || len(r.Prepared.PKIndexes) != 0 || !reflect.DeepEqual(r.Prepared.Variables, columns) ||
		!reflect.DeepEqual(r.Prepared.Result.Columns, columns) || r.Prepared.Result.Flags != 0 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestEmptyMetadataID(t *testing.T) {
	id := EmptyMetadataID()
	if hex.EncodeToString(id[:]) != "d41d8cd98f00b204e9800998ecf8427e" || ComputeMetadataID(nil) != id {
		t.Errorf("%x", id)
	}
}

// TestTypes encodes every type in every version; vectors and what a version lacks travel as custom.
func TestTypes(t *testing.T) {
	for _, c := range []struct {
		typ    *types.Type
		custom Version // the last version in which it is custom
	}{
		{types.Int, 0}, {types.Text, 0}, {types.Counter, 0}, {types.Date, V3}, {types.Time, V3}, {types.Smallint, V3},
		{types.Tinyint, V3}, {types.Duration, V4}, {types.VectorOf(types.Float, 3), V5},
		{types.VectorOf(types.VectorOf(types.Text, 2), 3), V5}, {types.Empty, V5}, {types.CustomOf("com.example.Odd"), V5},
		{types.ListOf(types.Int, false), 0}, {types.MapOf(types.Text, types.SetOf(types.Date, false), false), 0},
		{types.TupleOf(types.Int, types.Duration), 0},
		{types.UDTOf("ks", "u", []string{"a", "b"}, []*types.Type{types.Int, types.ListOf(types.Date, false)}, false), 0},
	} {
		for v := V3; v <= V5; v++ {
			b := AppendType(nil, v, c.typ)
			got, rest, err := DecodeType(append(b, 7))
			if err != nil || len(rest) != 1 || !got.Equal(c.typ) {
				t.Errorf("%s: %s came back as %s: %v", v, c.typ, got, err)
			}
			if custom := b[0] == 0 && b[1] == 0; custom != (v <= c.custom) {
				t.Errorf("%s: %s custom: %v", v, c.typ, custom)
			}
			for n := range len(b) {
				if _, _, err := DecodeType(b[:n]); err == nil {
					t.Errorf("%s: %s cut at %d accepted", v, c.typ, n)
				}
			}
		}
	}
	deep := bytes.Repeat([]byte{0, 0x20}, 100)
	if _, _, err := DecodeType(deep); err == nil {
		t.Error("a type of depth 100 accepted")
	}
	if _, _, err := DecodeType([]byte{1, 9}); err == nil {
		t.Error("type id 0x0109 accepted")
	}
}

// TestHostileCounts: counts that the body cannot hold are errors, and cost nothing.
func TestHostileCounts(t *testing.T) {
	rows := func(flags, columns, count int32) []byte {
		return concat(int32(2), flags, columns, count)
	}
	for name, body := range map[string][]byte{
		"columns":          rows(0, 1<<30, 0),
		"negative columns": rows(4, -1, 0),
		"bare columns":     rows(4, 1<<20, 0),
		"rows":             rows(4, 1, 1<<30),
		"negative rows":    rows(4, 1, -1),
		"rows of nothing":  rows(4, 0, 1<<30),
		"pk indexes":       concat(int32(4), uint16(0), uint16(0), int32(0), int32(0), int32(1<<30)),
		"kind":             concat(int32(9)),
	} {
		if _, err := DecodeResult(V5, body); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	failure := concat(int32(0x1300), uint16(0), uint16(1), int32(0), int32(0), int32(1<<30), 0)
	for v := V4; v <= V5; v++ {
		if _, err := DecodeError(v, failure); err == nil {
			t.Errorf("%s: 2^30 failures accepted", v)
		}
	}
}

func TestSupportedAndAuth(t *testing.T) {
	options := DefaultSupported()
	got, err := DecodeSupported(AppendSupported(nil, options))
	if err != nil || !reflect.DeepEqual(got, options) {
		t.Errorf("%+v %v", got, err)
	}
	golden, err := DecodeSupported(loadGolden(t)["v4/supported"][HeaderLen:])
	if err != nil || len(golden) != len(options) {
		t.Fatal(golden, err)
	}
	golden[0].Values = golden[0].Values[:3] // without 6/v6-beta
	if !reflect.DeepEqual(golden, options) {
		t.Errorf("got %+v, want %+v", options, golden)
	}
	if class, err := DecodeAuthenticate(AppendAuthenticate(nil, PasswordAuthenticator)); err != nil || class != PasswordAuthenticator {
		t.Error(class, err)
	}
	if b := AppendAuthSuccess(nil, nil); hex.EncodeToString(b) != "ffffffff" {
		t.Errorf("AUTH_SUCCESS %x", b)
	}
}
