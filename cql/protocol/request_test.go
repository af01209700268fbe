package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"
)

func concat(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		case int:
			b = append(b, byte(p))
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case int32:
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		case int64:
			b = binary.BigEndian.AppendUint64(b, uint64(p))
		}
	}
	return b
}

func longString(s string) []byte { return AppendLongString(nil, s) }

// options is <query_parameters> without values: level, flags, the rest.
func options(v Version, level uint16, flags int, rest ...any) []byte {
	if v >= V5 {
		return concat(append([]any{level, int32(flags)}, rest...)...)
	}
	return concat(append([]any{level, flags}, rest...)...)
}

func decodeAny(v Version, op Opcode, body []byte) error {
	var err error
	switch op {
	case OpStartup:
		_, err = DecodeStartup(v, body)
	case OpQuery:
		err = DecodeQuery(v, body, new(Query))
	case OpPrepare:
		err = DecodePrepare(v, body, new(Prepare))
	case OpExecute:
		err = DecodeExecute(v, body, new(Execute))
	case OpBatch:
		err = DecodeBatch(v, body, new(Batch))
	case OpRegister:
		_, err = DecodeRegister(body)
	case OpAuthResponse:
		_, err = DecodeAuthResponse(body)
	}
	return err
}

// TestGoldenRequestErrors sends the decoders what Cassandra was sent when its answers were
// captured; code and text must be the same.
func TestGoldenRequestErrors(t *testing.T) {
	golden := loadGolden(t)
	startup := func(pairs ...string) []byte {
		b := concat(uint16(len(pairs) / 2))
		for _, s := range pairs {
			b = AppendString(b, s)
		}
		return b
	}
	for v := V3; v <= V5; v++ {
		const query, where = "SELECT k FROM helenus_proto.t", "SELECT k FROM helenus_proto.t where k=?"
		for _, c := range []struct {
			name string
			op   Opcode
			body []byte
		}{
			{"bad_consistency", OpQuery, concat(longString(query), options(v, 32, 0))},
			{"bad_batch", OpBatch, concat(9, uint16(0), options(v, 1, 0))},
			{"bad_batch_kind", OpBatch, concat(0, uint16(1), 7, options(v, 1, 0))},
			{"bad_value_len", OpQuery, concat(longString(where), options(v, 1, 1, uint16(1), int32(-3)))},
			{"bad_timestamp", OpQuery, concat(longString(query), options(v, 1, 0x20, int64(math.MinInt64)))},
			{"bad_utf8", OpQuery, concat(int32(2), "\xff\xfe", options(v, 1, 0))},
			{"short_string", OpQuery, concat(int32(200), "abc")},
			{"short_id", OpExecute, concat(uint16(200), "abc")},
			{"bad_register", OpRegister, concat(uint16(1), uint16(3), "FOO")},
			{"startup_snappy_v5", OpStartup, startup("CQL_VERSION", "3.0.0", "COMPRESSION", "snappy")},
			{"startup_foo", OpStartup, startup("CQL_VERSION", "3.0.0", "COMPRESSION", "foo")},
			{"startup_old", OpStartup, startup("CQL_VERSION", "2.0.0")},
			{"startup_abc", OpStartup, startup("CQL_VERSION", "abc")},
			{"startup_v3", OpStartup, startup("CQL_VERSION", "3")},
			{"startup_v4", OpStartup, startup("CQL_VERSION", "4.0.0")},
			{"startup_v299", OpStartup, startup("CQL_VERSION", "2.99.0")},
			{"startup_vbeta", OpStartup, startup("CQL_VERSION", "3.0.0-beta1")},
			{"startup_missing", OpStartup, startup()},
		} {
			name := v.String()[2:] + "/" + c.name
			h, _, body := open(t, golden[name])
			err := decodeAny(v, c.op, c.body)
			if h.Op == OpReady || c.name == "bad_value_len" && v == V3 { // v3 reads any negative length as null
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			var got *Error
			want, bad := DecodeError(v, body)
			if bad != nil || !errors.As(err, &got) || got.Code != want.Code || got.Message != want.Message {
				t.Errorf("%s: got %v\nwant %v", name, err, want)
			}
		}
	}
}

func TestCheckSequence(t *testing.T) {
	golden := loadGolden(t)
	for _, c := range []struct {
		stage  Stage
		op     Opcode
		golden string
	}{
		{StageEstablished, OpQuery, "v4/not_started"},
		{StageReady, OpStartup, "v4/startup_again"},
	} {
		_, _, body := open(t, golden[c.golden])
		want, _ := DecodeError(V4, body)
		if got := CheckSequence(c.stage, c.op); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", c.golden, got, want)
		}
	}
	for stage := StageEstablished; stage <= StageReady; stage++ {
		if err := CheckSequence(stage, OpOptions); err != nil {
			t.Errorf("OPTIONS at stage %d: %v", stage, err)
		}
	}
	for stage, op := range map[Stage]Opcode{StageEstablished: OpCredentials, StageReady: OpAuthResponse, StageAuthentication: OpStartup} {
		if err := CheckSequence(stage, op); err == nil || err.Code != CodeProtocol {
			t.Errorf("%s at stage %d: %v", op, stage, err)
		}
	}
	if err := CheckSequence(StageAuthentication, OpQuery); err == nil ||
		err.Message != "Unexpected message QUERY, expecting SASL_RESPONSE" {
		t.Errorf("got %v", err)
	}
}

func fullParams(v Version) QueryParams {
	p := QueryParams{
		Consistency: LocalQuorum, Flags: 0x3e, PageSize: 77, PagingState: []byte("state"),
		SerialConsistency: LocalSerial, Timestamp: -5, NowInSeconds: NoNowInSeconds,
		Values: []Value{{Bytes: []byte("one")}, {State: Null}, {Bytes: []byte{}}},
	}
	if v >= V4 {
		p.Values = append(p.Values, Value{State: Unset})
	}
	if v >= V5 {
		p.Flags |= QueryKeyspace | QueryNowInSeconds | 0x1000
		p.Keyspace, p.NowInSeconds = []byte("ks"), math.MaxUint32
	}
	return p
}

// decoded returns the params as a decoder returns them: with the bits that follow from fields.
func decoded(p QueryParams) QueryParams {
	if len(p.Values) > 0 {
		p.Flags |= QueryValues
	}
	if len(p.Names) > 0 {
		p.Flags |= QueryNames
	}
	return p
}

func split(t *testing.T, frame []byte, v Version, op Opcode) []byte {
	t.Helper()
	h, body, err := DecodeHeader(frame)
	if err != nil || h.Version != v || h.Op != op || h.Stream != 258 || h.Length != len(body) || h.Response {
		t.Fatalf("header %+v: %v", h, err)
	}
	return body
}

// TestRequestRoundTrip encodes requests with every option and decodes them into used structs.
func TestRequestRoundTrip(t *testing.T) {
	used := fullParams(V5)
	for v := V3; v <= V5; v++ {
		params := fullParams(v)
		named := params
		named.Names = [][]byte{[]byte("a"), []byte("b"), []byte("ü"), []byte("d")}[:len(named.Values)]
		for _, p := range []QueryParams{params, named} {
			q := Query{Query: []byte("junk"), QueryParams: used}
			body := split(t, AppendQuery(nil, v, 258, 0, "SELECT 1", &p), v, OpQuery)
			if err := DecodeQuery(v, body, &q); err != nil {
				t.Fatal(err)
			}
			if want := decoded(p); string(q.Query) != "SELECT 1" || !sameParams(q.QueryParams, want) {
				t.Errorf("%s query: got %+v\nwant %+v", v, q, want)
			}
			in := Execute{ID: []byte("0123456789abcdef"), QueryParams: p}
			if v >= V5 {
				in.ResultMetadataID = []byte("fedcba9876543210")
			}
			e := Execute{ResultMetadataID: []byte("junk"), QueryParams: used}
			body = split(t, AppendExecute(nil, v, 258, 0, &in), v, OpExecute)
			if err := DecodeExecute(v, body, &e); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(e.ID, in.ID) || !bytes.Equal(e.ResultMetadataID, in.ResultMetadataID) ||
				!sameParams(e.QueryParams, decoded(p)) {
				t.Errorf("%s execute: got %+v\nwant %+v", v, e, in)
			}
		}
	}
}

func sameParams(a, b QueryParams) bool {
	if len(a.Names) == 0 && len(b.Names) == 0 {
		a.Names, b.Names = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

func TestBatchRoundTrip(t *testing.T) {
	var b Batch
	for v := V5; v >= V3; v-- {
		p := QueryParams{Consistency: One, Flags: QueryTimestamp | QuerySerialConsistency,
			SerialConsistency: Serial, Timestamp: 9}
		in := Batch{Type: BatchCounter, QueryParams: p, Statements: []BatchStatement{
			{Query: []byte("UPDATE a"), Values: []Value{{Bytes: []byte("v")}, {State: Null}}},
			{Prepared: true, ID: []byte("id"), Values: nil},
			{Query: []byte("UPDATE b"), Values: []Value{{Bytes: []byte("w")}}},
		}}
		body := split(t, AppendBatch(nil, v, 258, 0, &in), v, OpBatch)
		if err := DecodeBatch(v, body, &b); err != nil {
			t.Fatal(err)
		}
		if b.Type != in.Type || len(b.Statements) != 3 || b.Timestamp != 9 || b.PageSize != NoPageSize {
			t.Errorf("%s: got %+v", v, b)
		}
		for i, s := range b.Statements {
			want := in.Statements[i]
			if s.Prepared != want.Prepared || !bytes.Equal(s.Query, want.Query) || !bytes.Equal(s.ID, want.ID) ||
				len(s.Values) != len(want.Values) || len(s.Values) > 0 && !reflect.DeepEqual(s.Values, want.Values) {
				t.Errorf("%s statement %d: got %+v\nwant %+v", v, i, s, want)
			}
		}
	}
}

func TestOtherRequests(t *testing.T) {
	for v := V3; v <= V5; v++ {
		var p Prepare
		body := split(t, AppendPrepare(nil, v, 258, 0, "SELECT ?", "ks"), v, OpPrepare)
		if err := DecodePrepare(v, body, &p); err != nil || string(p.Query) != "SELECT ?" || (string(p.Keyspace) == "ks") != (v == V5) {
			t.Errorf("%s: %+v %v", v, p, err)
		}
		body = split(t, AppendRegister(nil, v, 258, EventSet(0).With(StatusChange).With(SchemaChange)), v, OpRegister)
		if set, err := DecodeRegister(body); err != nil || set.Has(TopologyChange) || !set.Has(StatusChange) || !set.Has(SchemaChange) {
			t.Errorf("%s: %b %v", v, set, err)
		}
		token := AppendPlainToken(nil, "cassandra", "secret")
		body = split(t, AppendAuthResponse(nil, v, 258, token), v, OpAuthResponse)
		if got, err := DecodeAuthResponse(body); err != nil || string(got) != "\x00cassandra\x00secret" {
			t.Errorf("%s: %q %v", v, got, err)
		}
		body = split(t, AppendStartup(nil, v, 258, []StringPair{{"cql_version", "3.4.7"}, {"COMPRESSION", "LZ4"},
			{"THROW_ON_OVERLOAD", "1"}, {"DRIVER_NAME", "x"}, {"OTHER", "y"}}), v, OpStartup)
		s, err := DecodeStartup(v, body)
		if err != nil || s.Compression != LZ4 || !s.ThrowOnOverload || s.DriverName != "x" || s.CQLVersion != "3.4.7" {
			t.Errorf("%s: %+v %v", v, s, err)
		}
		if got, _ := s.Option("OTHER"); got != "y" {
			t.Errorf("%s: option %q", v, got)
		}
		split(t, AppendOptions(nil, v, 258), v, OpOptions)
	}
}

// TestEveryCutFails cuts requests everywhere: each must fail and none may panic.
func TestEveryCutFails(t *testing.T) {
	p := fullParams(V5)
	p.Names = [][]byte{[]byte("a"), []byte("b"), []byte("c"), []byte("d")}
	frames := [][]byte{
		AppendQuery(nil, V5, 0, 0, "SELECT 1", &p),
		AppendExecute(nil, V5, 0, 0, &Execute{ID: []byte("id"), ResultMetadataID: []byte("m"), QueryParams: p}),
		AppendPrepare(nil, V5, 0, 0, "SELECT 1", "ks"),
		AppendBatch(nil, V5, 0, 0, &Batch{QueryParams: p, Statements: []BatchStatement{{Query: []byte("x"), Values: p.Values}}}),
		AppendRegister(nil, V5, 0, EventSet(7)),
		AppendStartup(nil, V5, 0, []StringPair{{"CQL_VERSION", "3.0.0"}}),
		AppendAuthResponse(nil, V5, 0, []byte("x")),
	}
	for _, frame := range frames {
		h, body, _ := DecodeHeader(frame)
		if err := decodeAny(V5, h.Op, body); err != nil {
			t.Fatalf("%s: %v", h.Op, err)
		}
		for n := range len(body) {
			var e *Error
			if err := decodeAny(V5, h.Op, body[:n]); !errors.As(err, &e) || e.Code != CodeProtocol {
				t.Errorf("%s cut at %d: %v", h.Op, n, err)
			}
		}
	}
}

func TestCustomPayload(t *testing.T) {
	payload := []PayloadEntry{{"a", []byte("1")}, {"b", nil}}
	body := append(appendPayload(nil, payload), "message"...)
	got, message, err := SplitRequest(Header{Version: V4, Flags: FlagCustomPayload}, body)
	if err != nil || string(message) != "message" || !reflect.DeepEqual(got, payload) {
		t.Errorf("%+v %q %v", got, message, err)
	}
	if _, _, err := SplitRequest(Header{Version: V3, Flags: FlagCustomPayload}, body); err == nil ||
		err.Error() != "Received frame with CUSTOM_PAYLOAD flag for native protocol version < 4" {
		t.Errorf("v3: %v", err)
	}
	_, _, err = SplitRequest(Header{Version: V5, Flags: FlagCustomPayload}, []byte("\x00\x05"))
	if err == nil {
		t.Error("cut payload accepted")
	}
	x := Extras{Traced: true, TracingID: [16]byte{1, 2, 3}, Warnings: []string{"w1", "w2"}, Payload: payload}
	for v := V3; v <= V5; v++ {
		b, mark := BeginResponse(nil, v, OpReady, 3, &x)
		h, got, rest := open(t, EndFrame(append(b, "rest"...), mark))
		want := x
		if v < V4 {
			want.Warnings, want.Payload = nil, nil
		}
		if !reflect.DeepEqual(got, want) || string(rest) != "rest" || h.Stream != 3 {
			t.Errorf("%s: %+v %q", v, got, rest)
		}
	}
}

func TestConsistency(t *testing.T) {
	for c := Any; c <= NodeLocal; c++ {
		if got, err := ParseConsistency(c.String()); err != nil || got != c {
			t.Errorf("%s: %v %v", c, got, err)
		}
	}
	if c, err := ParseConsistency("local_quorum"); err != nil || c != LocalQuorum {
		t.Error(c, err)
	}
	if _, err := ParseConsistency("MOST"); err == nil {
		t.Error("MOST accepted")
	}
	if !Serial.IsSerial() || !LocalSerial.IsLocal() || Quorum.IsLocal() || Quorum.IsSerial() || Consistency(12).Known() {
		t.Error("classes of levels")
	}
}

// TestDecodeReuseShrinks checks that one huge request does not pin its slices.
func TestDecodeReuseShrinks(t *testing.T) {
	var e Execute
	huge := AppendExecute(nil, V4, 0, 0, &Execute{ID: []byte("i"), QueryParams: QueryParams{Values: make([]Value, 60000)}})
	small := AppendExecute(nil, V4, 0, 0, &Execute{ID: []byte("i"), QueryParams: QueryParams{Values: make([]Value, 2)}})
	for _, frame := range [][]byte{huge, small} {
		if err := DecodeExecute(V4, frame[HeaderLen:], &e); err != nil {
			t.Fatal(err)
		}
	}
	if len(e.Values) != 2 || cap(e.Values) > valuesKept {
		t.Errorf("%d values in room for %d", len(e.Values), cap(e.Values))
	}
}
