package protocol

import (
	"fmt"
	"net/netip"
)

// ErrorCode is the [int] that an ERROR body starts with.
type ErrorCode int32

// The error codes.
const (
	CodeServerError     ErrorCode = 0x0000
	CodeProtocol        ErrorCode = 0x000A
	CodeBadCredentials  ErrorCode = 0x0100
	CodeUnavailable     ErrorCode = 0x1000
	CodeOverloaded      ErrorCode = 0x1001
	CodeBootstrapping   ErrorCode = 0x1002
	CodeTruncate        ErrorCode = 0x1003
	CodeWriteTimeout    ErrorCode = 0x1100
	CodeReadTimeout     ErrorCode = 0x1200
	CodeReadFailure     ErrorCode = 0x1300
	CodeFunctionFailure ErrorCode = 0x1400
	CodeWriteFailure    ErrorCode = 0x1500
	CodeCDCWriteFailure ErrorCode = 0x1600
	CodeCASWriteUnknown ErrorCode = 0x1700
	CodeSyntax          ErrorCode = 0x2000
	CodeUnauthorized    ErrorCode = 0x2100
	CodeInvalid         ErrorCode = 0x2200
	CodeConfig          ErrorCode = 0x2300
	CodeAlreadyExists   ErrorCode = 0x2400
	CodeUnprepared      ErrorCode = 0x2500
)

// String returns Cassandra's name of the code, "READ_TIMEOUT".
func (c ErrorCode) String() string {
	switch c {
	case CodeServerError:
		return "SERVER_ERROR"
	case CodeProtocol:
		return "PROTOCOL_ERROR"
	case CodeBadCredentials:
		return "BAD_CREDENTIALS"
	case CodeUnavailable:
		return "UNAVAILABLE"
	case CodeOverloaded:
		return "OVERLOADED"
	case CodeBootstrapping:
		return "IS_BOOTSTRAPPING"
	case CodeTruncate:
		return "TRUNCATE_ERROR"
	case CodeWriteTimeout:
		return "WRITE_TIMEOUT"
	case CodeReadTimeout:
		return "READ_TIMEOUT"
	case CodeReadFailure:
		return "READ_FAILURE"
	case CodeFunctionFailure:
		return "FUNCTION_FAILURE"
	case CodeWriteFailure:
		return "WRITE_FAILURE"
	case CodeCDCWriteFailure:
		return "CDC_WRITE_FAILURE"
	case CodeCASWriteUnknown:
		return "CAS_WRITE_UNKNOWN"
	case CodeSyntax:
		return "SYNTAX_ERROR"
	case CodeUnauthorized:
		return "UNAUTHORIZED"
	case CodeInvalid:
		return "INVALID"
	case CodeConfig:
		return "CONFIG_ERROR"
	case CodeAlreadyExists:
		return "ALREADY_EXISTS"
	case CodeUnprepared:
		return "UNPREPARED"
	}
	return fmt.Sprintf("0x%04X", uint32(c))
}

// Error is the content of an ERROR body. Which fields count depends on Code; all others are
// ignored when encoding and zero when decoded. It is immutable once it has been returned or sent.
type Error struct {
	Code    ErrorCode
	Message string

	// Unavailable, timeouts, failures, CAS write unknown.
	Consistency Consistency

	Required int32 // unavailable: replicas the level needs
	Alive    int32 // unavailable: replicas that are up

	Received    int32     // timeouts, failures, CAS write unknown: answers that came
	BlockFor    int32     // the same: answers waited for
	WriteType   WriteType // write timeout and failure
	DataPresent bool      // read timeout and failure: the data (not only digests) came
	Contentions uint16    // write timeout of type CAS (v5): contention retries

	// Failures of reads and writes: one entry per replica that failed. Versions 3 and 4 carry
	// only their number; a decoder of those returns that many zero entries.
	Failures []Failure

	Keyspace string   // already exists, function failure
	Table    string   // already exists; "" for a keyspace
	Function string   // function failure
	ArgTypes []string // function failure: CQL names

	StatementID []byte // unprepared
}

// Failure says why one replica failed a request (v5).
type Failure struct {
	Addr netip.Addr
	Code uint16 // one of the FailureX codes
}

// Reasons of failure, as Cassandra 5.0 numbers them (RequestFailureReason).
const (
	FailureUnknown               uint16 = 0x0000
	FailureReadTooManyTombstones uint16 = 0x0001
	FailureTimeout               uint16 = 0x0002
	FailureIncompatibleSchema    uint16 = 0x0003
	FailureReadSize              uint16 = 0x0004
	FailureNodeDown              uint16 = 0x0005
	FailureIndexNotAvailable     uint16 = 0x0006
	FailureReadTooManyIndexes    uint16 = 0x0007
)

// Error returns the message alone, as a client would show it.
func (e *Error) Error() string { return e.Message }

// Errorf returns an Error of that code with a formatted message.
func Errorf(code ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func protocolErr(format string, args ...any) *Error { return Errorf(CodeProtocol, format, args...) }
