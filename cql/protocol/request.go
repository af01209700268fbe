package protocol

import (
	"math"
	"slices"
)

// ValueState says whether a bound value is there.
type ValueState uint8

// The states of a bound value.
const (
	Set   ValueState = iota // Bytes holds it; may be empty
	Null                    // null: Bytes is nil
	Unset                   // left as it is (v4 and up): Bytes is nil
)

// Value is a bound value of a request. Bytes aliases the body it was decoded from.
type Value struct {
	Bytes []byte
	State ValueState
}

// Absent timestamps and clocks of QueryParams.
const (
	NoTimestamp    int64 = math.MinInt64
	NoNowInSeconds int64 = math.MinInt64
	NoPageSize     int32 = -1
)

// valuesKept is how many values a reused request keeps room for: one huge request must not pin
// its slices to the connection.
const valuesKept = 4096

// QueryParams is the <query_parameters> part of QUERY, EXECUTE and BATCH. Its slices alias the
// body. Decoding into one that was used before reuses Values and Names.
type QueryParams struct {
	Consistency Consistency
	Flags       uint32 // QueryX bits as sent; unknown ones included

	Values []Value
	Names  [][]byte // one per value when they are named, else empty

	PageSize          int32  // NoPageSize when not sent; other values as sent
	PagingState       []byte // nil when not sent or null
	SerialConsistency Consistency
	Timestamp         int64  // µs since the epoch; NoTimestamp when not sent
	Keyspace          []byte // nil when not sent (v5)
	NowInSeconds      int64  // seconds since the epoch, unsigned 32 bits; NoNowInSeconds when not sent (v5)
}

// SkipMetadata reports whether the client asked to leave the result metadata out.
func (p *QueryParams) SkipMetadata() bool { return p.Flags&QuerySkipMetadata != 0 }

// reset makes p that of a request without options, keeping room for values.
func (p *QueryParams) reset() {
	values, names := p.Values[:0], p.Names[:0]
	if cap(values) > valuesKept {
		values, names = nil, nil
	}
	*p = QueryParams{Values: values, Names: names, PageSize: NoPageSize, SerialConsistency: Serial,
		Timestamp: NoTimestamp, NowInSeconds: NoNowInSeconds}
}

func (c *cursor) consistency() Consistency {
	l := Consistency(c.u16("a consistency level"))
	if !l.Known() {
		c.fail("Unknown code %d for a consistency level", uint16(l))
	}
	return l
}

// values reads a [short] count and that many values, each after its name when named, and appends
// them to values and names.
func (c *cursor) values(v Version, named bool, values []Value, names [][]byte) ([]Value, [][]byte) {
	size := 4
	if named {
		size = 6
	}
	n := c.count(size, "values")
	values = slices.Grow(values, n)
	for i := 0; i < n && c.err == nil; i++ {
		if named {
			names = append(names, c.stringBytes())
		}
		values = append(values, c.value(v))
	}
	return values, names
}

func (c *cursor) value(v Version) Value {
	n := int(c.i32("a value length"))
	switch {
	case n >= 0 && n <= len(c.rest):
		b := c.rest[:n:n]
		c.rest = c.rest[n:]
		return Value{Bytes: b}
	case n >= 0:
		c.fail("Not enough bytes to read a value of %d bytes", n)
		return Value{}
	case n == -1 || v < V4: // before v4 any negative length is null
		return Value{State: Null}
	case n == -2:
		return Value{State: Unset}
	}
	c.fail("Invalid ByteBuf length %d", n)
	return Value{}
}

// params reads <query_parameters>. Cassandra acts on any known bit in any version, and so do we.
func (c *cursor) params(v Version, p *QueryParams) {
	p.reset()
	p.Consistency = c.consistency()
	if v >= V5 {
		p.Flags = uint32(c.i32("query flags"))
	} else {
		p.Flags = uint32(c.u8("query flags"))
	}
	if p.Flags&QueryValues != 0 {
		p.Values, p.Names = c.values(v, p.Flags&QueryNames != 0, p.Values, p.Names)
	}
	if p.Flags&^(QueryValues|QuerySkipMetadata) != 0 {
		c.options(p)
	}
}

// options reads what follows the values, each part where its flag is set.
func (c *cursor) options(p *QueryParams) {
	if p.Flags&QueryPageSize != 0 {
		p.PageSize = c.i32("a page size")
	}
	if p.Flags&QueryPagingState != 0 {
		p.PagingState = c.bytes()
	}
	if p.Flags&QuerySerialConsistency != 0 {
		p.SerialConsistency = c.consistency()
	}
	if p.Flags&QueryTimestamp != 0 {
		p.Timestamp = c.i64("a timestamp")
		if p.Timestamp == math.MinInt64 && c.err == nil {
			c.fail("Out of bound timestamp, must be in [%d, %d] (got %d)",
				int64(math.MinInt64+1), int64(math.MaxInt64), int64(math.MinInt64))
		}
	}
	if p.Flags&QueryKeyspace != 0 {
		p.Keyspace = c.stringBytes()
	}
	if p.Flags&QueryNowInSeconds != 0 {
		p.NowInSeconds = int64(uint32(c.i32("a now_in_seconds")))
	}
}

// Query is a QUERY request. Its slices alias the body.
type Query struct {
	Query []byte // UTF-8
	QueryParams
}

// DecodeQuery decodes the body of a QUERY into q, reusing its slices. Error: *Error; q is then
// undefined. Bytes after the message are ignored, as Cassandra does, here and in all requests.
func DecodeQuery(v Version, body []byte, q *Query) error {
	c := cursor{rest: body}
	q.Query = c.longStringBytes()
	c.params(v, &q.QueryParams)
	return c.error()
}

// Execute is an EXECUTE request. Its slices alias the body.
type Execute struct {
	ID               []byte // of the prepared statement
	ResultMetadataID []byte // what the client believes it to be (v5); nil before
	QueryParams
}

// DecodeExecute decodes the body of an EXECUTE into e, reusing its slices: it allocates nothing
// once they are large enough. Error: *Error; e is then undefined.
func DecodeExecute(v Version, body []byte, e *Execute) error {
	c := cursor{rest: body}
	e.ID = c.shortBytes()
	e.ResultMetadataID = nil
	if v >= V5 {
		e.ResultMetadataID = c.shortBytes()
	}
	c.params(v, &e.QueryParams)
	return c.error()
}

// Prepare is a PREPARE request. Its slices alias the body.
type Prepare struct {
	Query    []byte // UTF-8
	Keyspace []byte // nil when not sent (v5)
}

// DecodePrepare decodes the body of a PREPARE. Error: *Error.
func DecodePrepare(v Version, body []byte, p *Prepare) error {
	c := cursor{rest: body}
	*p = Prepare{Query: c.longStringBytes()}
	if v >= V5 && uint32(c.i32("prepare flags"))&PrepareKeyspace != 0 {
		p.Keyspace = c.stringBytes()
	}
	return c.error()
}

// BatchStatement is one statement of a BATCH: Query, or the ID of a prepared statement.
type BatchStatement struct {
	Prepared bool
	Query    []byte // UTF-8; nil when Prepared
	ID       []byte // nil unless Prepared
	Values   []Value
}

// Batch is a BATCH request. Its slices alias the body, and Statements[i].Values one slice that
// the next decoding into the same Batch reuses.
type Batch struct {
	Type       BatchType
	Statements []BatchStatement
	QueryParams

	values []Value
	ends   []int // ends[i] is where the values of statement i end in values
}

// DecodeBatch decodes the body of a BATCH into b, reusing its slices. Error: *Error; b is then
// undefined.
func DecodeBatch(v Version, body []byte, b *Batch) error {
	c := cursor{rest: body}
	b.reset()
	b.Type = BatchType(c.u8("a batch type"))
	n := c.u16("a number of statements")
	b.Statements = slices.Grow(b.Statements, min(n, len(c.rest)/5)) // none is shorter
	for i := 0; i < n && c.err == nil; i++ {
		b.Statements = append(b.Statements, c.batchStatement())
		b.values, _ = c.values(v, false, b.values, nil)
		b.ends = append(b.ends, len(b.values))
	}
	c.params(v, &b.QueryParams)
	if c.err == nil && b.Type > BatchCounter {
		c.fail("Invalid BATCH message type %d", int8(b.Type))
	}
	if c.err == nil {
		b.share()
	}
	return c.error()
}

func (b *Batch) reset() {
	if cap(b.values) > valuesKept || cap(b.Statements) > valuesKept {
		b.values, b.Statements, b.ends = nil, nil, nil
	}
	b.Statements, b.values, b.ends = b.Statements[:0], b.values[:0], b.ends[:0]
}

// share gives each statement its part of the values. It runs last because values may move while
// it grows.
func (b *Batch) share() {
	start := 0
	for i, end := range b.ends {
		b.Statements[i].Values = b.values[start:end:end]
		start = end
	}
}

func (c *cursor) batchStatement() (s BatchStatement) {
	switch kind := c.u8("a batch statement kind"); kind {
	case 0:
		s.Query = c.longStringBytes()
	case 1:
		s.Prepared, s.ID = true, c.shortBytes()
	default:
		c.fail("Invalid query kind in BATCH messages. Must be 0 or 1 but got %d", int8(kind))
	}
	return s
}

// DecodeAuthResponse returns the token of an AUTH_RESPONSE, aliasing body; nil when it is null.
// Error: *Error.
func DecodeAuthResponse(body []byte) (token []byte, err error) {
	c := cursor{rest: body}
	token = c.bytes()
	return token, c.error()
}

// DecodeRegister returns the set of event types a REGISTER asks for. Error: *Error.
func DecodeRegister(body []byte) (EventSet, error) {
	c := cursor{rest: body}
	var set EventSet
	n := c.count(2, "event types")
	for i := 0; i < n && c.err == nil; i++ {
		name := c.stringBytes()
		if t, ok := parseEventType(name); ok {
			set = set.With(t)
		} else if c.err == nil {
			c.fail("Invalid value '%s' for Type", name[:min(len(name), 256)])
		}
	}
	return set, c.error()
}
