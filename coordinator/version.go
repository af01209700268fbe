package coordinator

import (
	"fmt"

	"github.com/helenusdb/helenus/meta"
)

// NotYet says that an operation needs messages that some member does not understand: the cluster is being upgraded. Nothing was
// sent.
type NotYet struct {
	What       string
	Have, Need uint32 // cluster versions
}

// Error names the operation and what has to be done.
func (e *NotYet) Error() string {
	return fmt.Sprintf("%s need every node of the cluster to be upgraded first (the cluster uses metadata version %d, they need %d)", e.What, e.Have, e.Need)
}

// understands returns *NotYet unless every member knows the verbs of logged batches, counters and conditional writes.
func (v *view) understands(what string) error {
	if have := v.state.ClusterVersion; have < meta.VersionAgreement {
		return &NotYet{what, have, meta.VersionAgreement}
	}
	return nil
}
