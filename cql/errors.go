package cql

import "strconv"

// SyntaxError says that a statement does not follow the grammar; protocol code 0x2000. Error returns the text that
// Cassandra sends: "line 1:7 no viable alternative at input 'x' (SELECT [x]...)".
type SyntaxError struct {
	Line int    // from 1; 0 at the end of the text; -1 when Cassandra names no place
	Col  int    // from 0, UTF-16 units; -1 at the end of the text
	Msg  string // without the place
}

// noPlace is SyntaxError.Line of messages that carry no place.
const noPlace = -1

// Error implements error.
func (e *SyntaxError) Error() string {
	if e.Line == noPlace {
		return e.Msg
	}
	b := make([]byte, 0, len(e.Msg)+24)
	b = append(b, "line "...)
	b = strconv.AppendInt(b, int64(e.Line), 10)
	b = append(b, ':')
	b = strconv.AppendInt(b, int64(e.Col), 10)
	b = append(b, ' ')
	return string(append(b, e.Msg...))
}

// InvalidError is a statement that follows the grammar but that Cassandra refuses while parsing, or one beyond a limit;
// protocol code 0x2200.
type InvalidError struct{ Msg string }

// Error implements error.
func (e *InvalidError) Error() string { return e.Msg }
