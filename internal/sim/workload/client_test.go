package workload

import (
	"errors"
	"fmt"
	"testing"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// TestOutcomeOf: what an answer says is taken at its word, so that a lie in it is one that the checkers see.
func TestOutcomeOf(t *testing.T) {
	failure := func(kind protocol.WriteType, received int32) error {
		return &protocol.Error{Code: protocol.CodeWriteFailure, WriteType: kind, Received: received}
	}
	for _, c := range []struct {
		err  error
		want check.Outcome
	}{
		{nil, check.OK},
		{fmt.Errorf("dial: %w", errNotSent), check.NotApplied},
		{errors.New("connection reset"), check.Unknown},
		{&protocol.Error{Code: protocol.CodeUnavailable}, check.NotApplied},
		{&protocol.Error{Code: protocol.CodeOverloaded}, check.NotApplied},
		{&protocol.Error{Code: protocol.CodeServerError}, check.Unknown},
		{&protocol.Error{Code: protocol.CodeWriteTimeout, WriteType: protocol.WriteCAS}, check.Unknown},
		{&protocol.Error{Code: protocol.CodeCASWriteUnknown}, check.Unknown},
		{failure(protocol.WriteCAS, 0), check.NotApplied},
		{failure(protocol.WriteCAS, 1), check.NotApplied},
		{failure(protocol.WriteCounter, 0), check.NotApplied},
		{failure(protocol.WriteCounter, 1), check.Unknown},
		{failure(protocol.WriteBatchLog, 0), check.NotApplied},
		{failure(protocol.WriteSimple, 0), check.Unknown},
		{failure(protocol.WriteBatch, 0), check.Unknown},
		{failure(protocol.WriteUnloggedBatch, 0), check.Unknown},
	} {
		if got := outcomeOf(c.err); got != c.want {
			t.Errorf("%v means %s, want %s", c.err, got, c.want)
		}
	}
}
