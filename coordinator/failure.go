package coordinator

import (
	"errors"
	"slices"

	"github.com/helenusdb/helenus/rpc"
)

// errNotTaken is what a replica says that does not take requests at the moment: it starts, stops, or has too many.
var errNotTaken = errors.New("coordinator: the replica took no request")

// reasonOf says what a replica without an answer of use has against it. A request that did not arrive, or whose answer got
// lost, has ReasonTimeout, as in Cassandra, where such a request expires: nobody has looked at it, so another attempt may
// well succeed. See docs/design/0013-unreachable-replicas.md.
func reasonOf(err error) uint16 {
	switch {
	case errors.Is(err, errStale):
		return ReasonIncompatibleSchema
	case errors.Is(err, errNotTaken), errors.As(err, new(*rpc.Error)):
		return ReasonTimeout
	}
	return ReasonUnknown
}

// refused tells whether one of the replicas has said no: only then has an operation failed. If none of them has said anything,
// it timed out, whether or not there was anything to wait for.
func refused(fails []Failure) bool {
	return slices.ContainsFunc(fails, func(f Failure) bool { return f.Code != ReasonTimeout })
}
