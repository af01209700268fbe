package shell

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/cql/protocol"
)

// errorNames are the names that users of cqlsh know errors by: the Python driver's class, and its summary.
func errorNames(code protocol.ErrorCode) (class, summary string) {
	switch code {
	case protocol.CodeServerError:
		return "ServerError", "Server error"
	case protocol.CodeProtocol:
		return "ProtocolException", "Protocol error"
	case protocol.CodeBadCredentials:
		return "AuthenticationFailed", "Bad credentials"
	case protocol.CodeUnavailable:
		return "Unavailable", "Unavailable exception"
	case protocol.CodeOverloaded:
		return "OverloadedErrorMessage", "Coordinator node overloaded"
	case protocol.CodeBootstrapping:
		return "IsBootstrappingErrorMessage", "Coordinator node is bootstrapping"
	case protocol.CodeTruncate:
		return "TruncateError", "Error during truncate"
	case protocol.CodeWriteTimeout:
		return "WriteTimeout", "Coordinator node timed out waiting for replica nodes' responses"
	case protocol.CodeReadTimeout:
		return "ReadTimeout", "Coordinator node timed out waiting for replica nodes' responses"
	case protocol.CodeReadFailure:
		return "ReadFailure", "Replica(s) failed to execute read"
	case protocol.CodeFunctionFailure:
		return "FunctionFailure", "User Defined Function failure"
	case protocol.CodeWriteFailure:
		return "WriteFailure", "Replica(s) failed to execute write"
	case protocol.CodeCDCWriteFailure:
		return "CDCWriteFailure", "Failed to execute write due to CDC space exhaustion."
	case protocol.CodeCASWriteUnknown:
		return "CASWriteUnknown", "Outcome of a conditional write is unknown"
	case protocol.CodeSyntax:
		return "SyntaxException", "Syntax error in CQL query"
	case protocol.CodeUnauthorized:
		return "Unauthorized", "Unauthorized"
	case protocol.CodeInvalid:
		return "InvalidRequest", "Invalid query"
	case protocol.CodeConfig:
		return "ConfigurationException", "Query invalid because of configuration issue"
	case protocol.CodeAlreadyExists:
		return "AlreadyExists", "Item already exists"
	case protocol.CodeUnprepared:
		return "PreparedQueryNotFound", "Matching prepared statement not found on this node"
	}
	return "ErrorMessage", "Unknown"
}

// errorText returns an error as cqlsh prints it, with its class and the server's code.
func errorText(err error) string {
	var e *protocol.Error
	var op *net.OpError
	switch {
	case errors.As(err, &e) && !errors.Is(err, ErrBroken):
		return serverErrorText(e)
	case errors.Is(err, context.Canceled):
		return "Interrupted; a write may have been carried out"
	case errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, ErrBroken):
		return "OperationTimedOut: no answer in time (see --request-timeout); the statement may have been carried out"
	case errors.Is(err, ErrBroken):
		return "ConnectionException: " + err.Error()
	case errors.As(err, &op):
		return "NoHostAvailable: " + err.Error()
	}
	return err.Error()
}

func serverErrorText(e *protocol.Error) string {
	class, summary := errorNames(e.Code)
	switch e.Code {
	case protocol.CodeSyntax:
		return class + ": " + e.Message
	case protocol.CodeAlreadyExists:
		if e.Table == "" {
			return fmt.Sprintf("%s: Keyspace '%s' already exists", class, e.Keyspace)
		}
		return fmt.Sprintf("%s: Table '%s.%s' already exists", class, e.Keyspace, e.Table)
	}
	return fmt.Sprintf("%s: Error from server: code=%04x [%s] message=\"%s\"%s", class, uint32(e.Code), summary, e.Message, errorInfo(e))
}

// errorInfo returns what a server says about replicas, as the Python driver prints it.
func errorInfo(e *protocol.Error) string {
	info := []string{"'consistency': '" + e.Consistency.String() + "'"}
	add := func(name, value string) { info = append(info, "'"+name+"': "+value) }
	number := func(n int32) string { return strconv.Itoa(int(n)) }
	switch e.Code {
	case protocol.CodeUnavailable:
		add("required_replicas", number(e.Required))
		add("alive_replicas", number(e.Alive))
	case protocol.CodeWriteTimeout, protocol.CodeReadTimeout, protocol.CodeReadFailure, protocol.CodeWriteFailure, protocol.CodeCASWriteUnknown:
		add("required_responses", number(e.BlockFor))
		add("received_responses", number(e.Received))
	default:
		return ""
	}
	switch e.Code {
	case protocol.CodeWriteTimeout:
		add("write_type", "'"+string(e.WriteType)+"'")
	case protocol.CodeReadFailure, protocol.CodeWriteFailure:
		add("failures", strconv.Itoa(len(e.Failures)))
		var reasons []string
		for _, f := range e.Failures {
			if f.Addr.IsValid() {
				reasons = append(reasons, fmt.Sprintf("'%s': '0x%04x'", f.Addr, f.Code))
			}
		}
		if len(reasons) > 0 {
			add("error_code_map", "{"+strings.Join(reasons, ", ")+"}")
		}
	}
	return " info={" + strings.Join(info, ", ") + "}"
}
