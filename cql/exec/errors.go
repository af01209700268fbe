package exec

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/schema"
)

func invalid(format string, args ...any) *protocol.Error {
	return protocol.Errorf(protocol.CodeInvalid, format, args...)
}

// unpreparedError tells the client to prepare the statement again.
func unpreparedError(id []byte) *protocol.Error {
	e := protocol.Errorf(protocol.CodeUnprepared, "Prepared query with ID %s not found (either the query was not prepared on this host (maybe the host "+
		"has been restarted?) or you have prepared too many queries and it has been evicted from the internal cache)", hex.EncodeToString(id))
	e.StatementID = append([]byte(nil), id...)
	return e
}

// wireError is the one table from errors to what clients are told.
func (x *Executor) wireError(o *op, err error) *protocol.Error {
	x.metrics.Errors.Add(1)
	if e := knownError(err); e != nil {
		x.countError(e.Code)
		return e
	}
	if e := (*coordinator.UnknownTable)(nil); errors.As(err, &e) {
		if o.stmt != nil && o.params == &o.execute.QueryParams {
			return unpreparedError(o.stmt.id[:])
		}
		if o.compiled != nil && o.compiled.Table != nil {
			return invalid("table %s does not exist", o.compiled.Table.Name)
		}
		return invalid("%s", e.Error())
	}
	if x.o.IsInvalid != nil && x.o.IsInvalid(err) {
		return invalid("%s", err)
	}
	x.o.Logger.Error("request failed", "err", err)
	return protocol.Errorf(protocol.CodeServerError, "%s", err)
}

func (x *Executor) countError(code protocol.ErrorCode) {
	switch code {
	case protocol.CodeUnavailable:
		x.metrics.Unavailable.Add(1)
	case protocol.CodeWriteTimeout, protocol.CodeReadTimeout, protocol.CodeCASWriteUnknown:
		x.metrics.Timeouts.Add(1)
	case protocol.CodeWriteFailure, protocol.CodeReadFailure:
		x.metrics.Failures.Add(1)
	}
}

// knownError returns the protocol's form of an error, nil for an unexpected one.
func knownError(err error) *protocol.Error {
	var (
		wire   *protocol.Error
		pl     *plan.Error
		syntax *cql.SyntaxError
		inv    *cql.InvalidError
		ddl    *schema.Error
		full   *coordinator.Overloaded
		large  *coordinator.TooLarge
		notYet *coordinator.NotYet
	)
	switch {
	case errors.As(err, &wire):
		return wire
	case errors.As(err, &pl):
		return &protocol.Error{Code: pl.Code, Message: pl.Msg, Keyspace: schema.SystemKeyspace, Function: pl.Function, ArgTypes: pl.ArgTypes}
	case errors.As(err, &syntax):
		return protocol.Errorf(protocol.CodeSyntax, "%s", syntax)
	case errors.As(err, &inv):
		return invalid("%s", inv)
	case errors.As(err, &ddl):
		return schemaError(ddl)
	case errors.As(err, &full):
		return protocol.Errorf(protocol.CodeOverloaded, "%s", full.Msg)
	case errors.As(err, &large):
		return invalid("%s", large)
	case errors.As(err, &notYet):
		return invalid("%s", notYet)
	}
	return replicaError(err)
}

func schemaError(e *schema.Error) *protocol.Error {
	code := protocol.CodeInvalid
	switch e.Code {
	case schema.Syntax:
		code = protocol.CodeSyntax
	case schema.Config:
		code = protocol.CodeConfig
	case schema.AlreadyExists:
		code = protocol.CodeAlreadyExists
	case schema.Unauthorized:
		code = protocol.CodeUnauthorized
	}
	return &protocol.Error{Code: code, Message: e.Msg, Keyspace: e.Keyspace, Table: e.Table}
}

// replicaError returns the protocol's form of what the coordinator says about replicas, nil for anything else.
func replicaError(err error) *protocol.Error {
	var (
		unavailable  *coordinator.Unavailable
		writeTimeout *coordinator.WriteTimeout
		writeFailure *coordinator.WriteFailure
		casUnknown   *coordinator.CASWriteUnknown
		readTimeout  *coordinator.ReadTimeout
		readFailure  *coordinator.ReadFailure
	)
	switch {
	case errors.As(err, &unavailable):
		return &protocol.Error{Code: protocol.CodeUnavailable, Message: unavailable.Error(), Consistency: protocol.Consistency(unavailable.Level),
			Required: int32(unavailable.Required), Alive: int32(unavailable.Alive)}
	case errors.As(err, &writeTimeout):
		return &protocol.Error{Code: protocol.CodeWriteTimeout, Message: writeTimeout.Error(), Consistency: protocol.Consistency(writeTimeout.Level),
			Received: int32(writeTimeout.Received), BlockFor: int32(writeTimeout.BlockFor), WriteType: protocol.WriteType(writeTimeout.Type),
			Contentions: uint16(min(writeTimeout.Contentions, math.MaxUint16))}
	case errors.As(err, &writeFailure):
		return &protocol.Error{Code: protocol.CodeWriteFailure, Message: failureText(writeFailure.Received, writeFailure.Failures),
			Consistency: protocol.Consistency(writeFailure.Level), Received: int32(writeFailure.Received), BlockFor: int32(writeFailure.BlockFor),
			WriteType: protocol.WriteType(writeFailure.Type), Failures: failures(writeFailure.Failures)}
	case errors.As(err, &casUnknown):
		return &protocol.Error{Code: protocol.CodeCASWriteUnknown, Message: casUnknown.Error(), Consistency: protocol.Consistency(casUnknown.Level),
			Received: int32(casUnknown.Received), BlockFor: int32(casUnknown.BlockFor)}
	case errors.As(err, &readTimeout):
		return &protocol.Error{Code: protocol.CodeReadTimeout, Message: readTimeout.Error(), Consistency: protocol.Consistency(readTimeout.Level),
			Received: int32(readTimeout.Received), BlockFor: int32(readTimeout.BlockFor), DataPresent: readTimeout.DataPresent}
	case errors.As(err, &readFailure):
		return &protocol.Error{Code: protocol.CodeReadFailure, Message: failureText(readFailure.Received, readFailure.Failures),
			Consistency: protocol.Consistency(readFailure.Level), Received: int32(readFailure.Received), BlockFor: int32(readFailure.BlockFor),
			DataPresent: readFailure.DataPresent, Failures: failures(readFailure.Failures)}
	}
	return nil
}

func failures(list []coordinator.Failure) []protocol.Failure {
	out := make([]protocol.Failure, len(list))
	for i, f := range list {
		out[i] = protocol.Failure{Addr: f.Addr, Code: f.Code}
	}
	return out
}

var reasons = [...]string{"UNKNOWN", "READ_TOO_MANY_TOMBSTONES", "TIMEOUT", "INCOMPATIBLE_SCHEMA", "READ_SIZE", "NODE_DOWN", "INDEX_NOT_AVAILABLE", "READ_TOO_MANY_INDEXES"}

// failureText is Cassandra's: "Operation failed - received 1 responses and 1 failures: UNKNOWN from /127.0.0.2:7000", with
// what the replica says in brackets.
func failureText(received int, list []coordinator.Failure) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Operation failed - received %d responses and %d failures", received, len(list))
	for code, name := range reasons {
		var from []string
		for _, f := range list {
			if int(f.Code) == code {
				from = append(from, "/"+f.Addr.String()+because(f.Why))
			}
		}
		if len(from) == 0 {
			continue
		}
		sep := ", "
		if !strings.Contains(b.String(), ": ") {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s from %s", sep, name, strings.Join(from, ", "))
	}
	return b.String()
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}
