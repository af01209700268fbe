package workload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

const (
	dialTimeout = 3 * time.Second
	answerMax   = 16 << 20 // bytes
)

// errNotSent is wrapped by errors of requests that no node can have received.
var errNotSent = errors.New("not sent")

// client asks any node, one request at a time. It keeps a connection to each and belongs to one goroutine.
type client struct {
	env     Env
	timeout time.Duration
	conns   []*conn // by node; nil: none
}

func newClient(env Env, timeout time.Duration) *client {
	return &client{env: env, timeout: timeout, conns: make([]*conn, env.Nodes())}
}

func (c *client) close() {
	for i, k := range c.conns {
		if k != nil {
			_ = k.nc.Close()
			c.conns[i] = nil
		}
	}
}

// request is a QUERY or, with statements, a BATCH.
type request struct {
	text       string
	values     []protocol.Value
	statements []protocol.BatchStatement
	batch      protocol.BatchType
	level      protocol.Consistency
	serial     protocol.Consistency // 0: not sent
	ts         int64                // µs; 0: the coordinator's
	now        int64                // seconds that decide what has expired; 0: the coordinator's
	pageSize   int32
	state      []byte
	traced     bool
}

// answer is a result, in memory of its own.
type answer struct {
	columns []string
	rows    [][][]byte
	state   []byte // of paging; nil: that was all
	traceID [16]byte
}

// column returns the index of a column, -1 if the answer has none of that name.
func (a *answer) column(name string) int {
	for i, c := range a.columns {
		if c == name {
			return i
		}
	}
	return -1
}

// value returns a value of a row; nil when it is null or the answer has no such column.
func (a *answer) value(row int, name string) []byte {
	if i := a.column(name); i >= 0 {
		return a.rows[row][i]
	}
	return nil
}

// do asks a node. Errors: *protocol.Error; anything else is about the connection, which is given up, and wraps errNotSent when the
// node cannot have received the request.
func (c *client) do(ctx context.Context, node int, r *request) (*answer, error) {
	if c.conns[node] == nil {
		k, err := dial(ctx, c.env, node)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNotSent, err)
		}
		c.conns[node] = k
	}
	a, err := c.conns[node].do(r, c.timeout)
	if e := (*protocol.Error)(nil); err != nil && !errors.As(err, &e) {
		_ = c.conns[node].nc.Close()
		c.conns[node] = nil
	}
	return a, err
}

// conn is a connection of protocol v5.
type conn struct {
	nc     net.Conn
	reader *protocol.FrameReader
	stream int16
	framed bool
	frame  []byte
	out    []byte
}

func dial(ctx context.Context, env Env, node int) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := env.Dial(ctx, node)
	if err != nil {
		return nil, err
	}
	k := &conn{nc: nc, reader: protocol.NewFrameReader(protocol.ReaderOptions{Client: true, FrameMax: answerMax})}
	if err := k.start(); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return k, nil
}

func (k *conn) start() error {
	k.frame = protocol.AppendStartup(k.frame[:0], protocol.V5, 0, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}})
	f, err := k.exchange(dialTimeout)
	if err != nil {
		return err
	}
	if f.Header.Op != protocol.OpReady {
		return fmt.Errorf("STARTUP is answered with %s", f.Header.Op)
	}
	k.reader.SetVersion(protocol.V5)
	k.reader.StartSegments(protocol.NoCompression)
	k.framed = true
	return nil
}

// exchange sends k.frame and returns the frame that answers it, valid until the next call.
func (k *conn) exchange(timeout time.Duration) (protocol.Frame, error) {
	_ = k.nc.SetDeadline(time.Now().Add(timeout))
	k.out = append(k.out[:0], k.frame...)
	if k.framed {
		k.out = protocol.AppendSegments(k.out[:0], k.frame, protocol.NoCompression)
	}
	if _, err := k.nc.Write(k.out); err != nil {
		return protocol.Frame{}, err
	}
	for {
		f, err := k.reader.ReadFrame(k.nc)
		if err != nil || f.Header.Stream == k.stream {
			return f, err
		}
	}
}

func (k *conn) do(r *request, timeout time.Duration) (*answer, error) {
	k.stream = (k.stream + 1) & 0x7fff
	k.encode(r)
	f, err := k.exchange(timeout)
	if err != nil {
		return nil, err
	}
	return decode(f)
}

func (k *conn) encode(r *request) {
	p := protocol.QueryParams{Consistency: r.level, SerialConsistency: r.serial, PageSize: r.pageSize, PagingState: r.state, Timestamp: r.ts,
		NowInSeconds: r.now, Values: r.values}
	for _, f := range []struct {
		on   bool
		flag uint32
	}{{r.serial != 0, protocol.QuerySerialConsistency}, {r.pageSize > 0, protocol.QueryPageSize}, {r.state != nil, protocol.QueryPagingState},
		{r.ts != 0, protocol.QueryTimestamp}, {r.now != 0, protocol.QueryNowInSeconds}} {
		if f.on {
			p.Flags |= f.flag
		}
	}
	var flags byte
	if r.traced {
		flags = protocol.FlagTracing
	}
	if r.statements == nil {
		k.frame = protocol.AppendQuery(k.frame[:0], protocol.V5, k.stream, flags, r.text, &p)
		return
	}
	k.frame = protocol.AppendBatch(k.frame[:0], protocol.V5, k.stream, flags, &protocol.Batch{Type: r.batch, Statements: r.statements, QueryParams: p})
}

func decode(f protocol.Frame) (*answer, error) {
	extras, body, err := protocol.SplitResponse(f.Header, f.Body)
	if err != nil {
		return nil, badAnswer(err)
	}
	if f.Header.Op == protocol.OpError {
		e, err := protocol.DecodeError(protocol.V5, body)
		if err != nil {
			return nil, badAnswer(err)
		}
		return nil, e
	}
	if f.Header.Op != protocol.OpResult {
		return nil, fmt.Errorf("the answer is a %s", f.Header.Op)
	}
	res, err := protocol.DecodeResult(protocol.V5, body)
	if err != nil {
		return nil, badAnswer(err)
	}
	a := &answer{traceID: extras.TracingID}
	if res.Kind != protocol.ResultRows {
		return a, nil
	}
	rows := &res.Rows
	for _, c := range rows.Metadata.Columns {
		a.columns = append(a.columns, c.Name)
	}
	if rows.Metadata.PagingState != nil {
		a.state = append([]byte{}, rows.Metadata.PagingState...)
	}
	for rows.Next() {
		a.rows = append(a.rows, cloneValues(rows.Values()))
	}
	if err := rows.Err(); err != nil {
		return nil, badAnswer(err)
	}
	return a, nil
}

// badAnswer hides that the error of decoding is a *protocol.Error: it is not the node that sent it.
func badAnswer(err error) error { return errors.New("the answer cannot be decoded: " + err.Error()) }

func cloneValues(values [][]byte) [][]byte {
	out := make([][]byte, len(values))
	for i, v := range values {
		if v != nil {
			out[i] = append([]byte{}, v...)
		}
	}
	return out
}

// outcomeOf says what an error means for the operation.
func outcomeOf(err error) check.Outcome {
	var e *protocol.Error
	switch {
	case err == nil:
		return check.OK
	case errors.Is(err, errNotSent):
		return check.NotApplied
	case !errors.As(err, &e):
		return check.Unknown
	}
	switch e.Code {
	case protocol.CodeUnavailable, protocol.CodeOverloaded, protocol.CodeBootstrapping, protocol.CodeUnprepared, protocol.CodeSyntax,
		protocol.CodeInvalid, protocol.CodeConfig, protocol.CodeUnauthorized, protocol.CodeAlreadyExists, protocol.CodeProtocol:
		return check.NotApplied
	case protocol.CodeWriteFailure:
		return outcomeOfFailure(e)
	}
	return check.Unknown
}

// outcomeOfFailure says what it means that replicas refused. A conditional write is not applied then, and neither is a count of which nobody has anything
// (docs/design/0006-paxos.md, 0007-counters.md) nor a batch that no node keeps. A plain write may be on some replica, or come to one as a hint.
func outcomeOfFailure(e *protocol.Error) check.Outcome {
	switch e.WriteType {
	case protocol.WriteCAS:
		return check.NotApplied
	case protocol.WriteCounter, protocol.WriteBatchLog:
		if e.Received == 0 {
			return check.NotApplied
		}
	}
	return check.Unknown
}

// refused tells whether the node says that the request itself is wrong, which none of a workload's is.
func refused(err error) bool {
	var e *protocol.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case protocol.CodeSyntax, protocol.CodeInvalid, protocol.CodeConfig, protocol.CodeUnauthorized, protocol.CodeProtocol:
		return true
	}
	return false
}

// errorText is what the trace shows of an error: nothing in it depends on the order of goroutines.
func errorText(err error) string {
	var e *protocol.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return e.Code.String()
	case errors.Is(err, errNotSent):
		return "not sent"
	}
	return "connection lost"
}

func text(s string) protocol.Value { return protocol.Value{Bytes: []byte(s)} }

func bigint(n int64) protocol.Value {
	return protocol.Value{Bytes: binary.BigEndian.AppendUint64(nil, uint64(n))}
}

func integer(n int32) protocol.Value {
	return protocol.Value{Bytes: binary.BigEndian.AppendUint32(nil, uint32(n))}
}

func listOf(items ...string) protocol.Value {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(items)))
	for _, s := range items {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return protocol.Value{Bytes: b}
}

// mapOf is a map with s as its one key and value.
func mapOf(s string) protocol.Value {
	b := binary.BigEndian.AppendUint32(nil, 1)
	for range 2 {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return protocol.Value{Bytes: b}
}

// texts decodes a list of texts.
func texts(b []byte) []string {
	var out []string
	for p := 4; len(b) >= p+4; {
		n := int(int32(binary.BigEndian.Uint32(b[p:])))
		if n < 0 || p+4+n > len(b) {
			break
		}
		out = append(out, string(b[p+4:p+4+n]))
		p += 4 + n
	}
	return out
}

// number decodes a bigint, timestamp or counter; 0 for null.
func number(b []byte) int64 {
	if len(b) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

// Tell sends a statement to a node, as an operator does beside the workloads, and returns what went wrong.
func Tell(ctx context.Context, env Env, node int, statement string) error {
	c := newClient(env, Options{}.withDefaults().Timeout)
	defer c.close()
	_, err := c.do(ctx, node, &request{text: statement, level: protocol.Quorum})
	return err
}
