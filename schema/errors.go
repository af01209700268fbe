package schema

import (
	"errors"
	"fmt"
)

// Code classifies an Error as the native protocol's error codes do.
type Code uint8

// The codes, with the protocol's numbers beside them.
const (
	Invalid       Code = iota // 0x2200
	Syntax                    // 0x2000
	Config                    // 0x2300
	AlreadyExists             // 0x2400: Keyspace, and Table unless it is the keyspace that exists
	Unauthorized              // 0x2100: what nobody may change
)

// Error says why a DDL statement is refused. Its text is Cassandra's.
type Error struct {
	Code     Code
	Msg      string
	Keyspace string // AlreadyExists only
	Table    string // AlreadyExists only; "" when it is the keyspace that exists
}

func (e *Error) Error() string { return e.Msg }

// ErrCorrupt is matched by every error about bytes that are not an encoded catalog or change.
var ErrCorrupt = errors.New("schema: corrupt encoding")

// ErrConflict is matched by Apply's error when a change does not fit the catalog it is applied to: the catalog has
// moved on since the change was planned.
var ErrConflict = errors.New("schema: change does not fit the catalog")

func invalid(format string, args ...any) *Error {
	return &Error{Code: Invalid, Msg: fmt.Sprintf(format, args...)}
}

func config(format string, args ...any) *Error {
	return &Error{Code: Config, Msg: fmt.Sprintf(format, args...)}
}

func syntax(format string, args ...any) *Error {
	return &Error{Code: Syntax, Msg: fmt.Sprintf(format, args...)}
}

func unauthorized(format string, args ...any) *Error {
	return &Error{Code: Unauthorized, Msg: fmt.Sprintf(format, args...)}
}
