package stream

import (
	"errors"
	"fmt"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// What a source refuses, to be matched with errors.Is.
var (
	ErrUnknownTable = errors.New("stream: the source has no such table")
	ErrNotOwner     = errors.New("stream: the source does not own the range")
	ErrStopping     = errors.New("stream: the source is starting or stopping")
	ErrBusy         = errors.New("stream: the source has as many streams as it may have")
	ErrBehind       = errors.New("stream: the source does not have this node's metadata yet")
	ErrSession      = errors.New("stream: the source has closed the session")
	// ErrRefused: the source does not take part: it is too old, or has failed.
	ErrRefused = errors.New("stream: refused by the source")
	// ErrPatience is returned by a fetch that did not get on for Options.Patience; it wraps what it met last.
	ErrPatience = errors.New("stream: no progress")

	errGap = errors.New("stream: a piece is missing")
)

// Refusal is an answer of the source that is not OK. It wraps one of the errors above.
type Refusal struct {
	From   ring.HostID
	Status rpc.Status
	Text   string // from the source, may be empty
}

// Error says who refused, and why.
func (r *Refusal) Error() string {
	if r.Text == "" {
		return fmt.Sprintf("%v (%v, by %v)", r.Unwrap(), r.Status, r.From)
	}
	return fmt.Sprintf("%v (%v, by %v): %s", r.Unwrap(), r.Status, r.From, r.Text)
}

// Unwrap returns the kind of refusal.
func (r *Refusal) Unwrap() error {
	switch r.Status {
	case rpc.StatusUnknownTable:
		return ErrUnknownTable
	case rpc.StatusNotOwner:
		return ErrNotOwner
	case rpc.StatusNotReady:
		return ErrStopping
	case rpc.StatusOverloaded:
		return ErrBusy
	case rpc.StatusWrongEpoch:
		return ErrBehind
	case StatusNoSession:
		return ErrSession
	}
	return ErrRefused
}

// final tells whether trying again is pointless.
func (r *Refusal) final() bool {
	switch r.Status {
	case rpc.StatusUnknownTable, rpc.StatusNotOwner, rpc.StatusUnknownVerb, rpc.StatusBadRequest:
		return true
	}
	return false
}

// sinkError is an error of this node's own store: no other answer of the source would help.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return "stream: ingest: " + e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }
