package types

import "fmt"

// MarshalError says that bytes or text are not a legal value of a type. Its text is the one
// Cassandra gives (MarshalException), to be sent as an INVALID error as it stands.
type MarshalError struct{ Msg string }

func (e *MarshalError) Error() string { return e.Msg }

// ConstantError says that a constant's token class does not fit the type it is written for.
type ConstantError struct {
	Class ConstClass
	Text  string // the constant's text, strings without quotes
	Type  *Type
}

// Error returns the text without the column's name; Message is the one for clients.
func (e *ConstantError) Error() string {
	return fmt.Sprintf("Invalid %s constant (%s) for type %s", e.Class, e.Text, e.Type)
}

// Message returns Cassandra's text for a constant written for the column or marker named name.
func (e *ConstantError) Message(name string) string {
	return fmt.Sprintf("Invalid %s constant (%s) for \"%s\" of type %s", e.Class, e.Text, name, e.Type)
}

func marshalErrorf(format string, args ...any) error {
	return &MarshalError{Msg: fmt.Sprintf(format, args...)}
}
