package coordinator

import "github.com/helenusdb/helenus/coordinator/paxos"

// ScanAhead returns how many bytes are reserved for parts that scans read ahead.
func (c *Coordinator) ScanAhead() int64 { return c.ahead.Load() }

// ForgetBody returns the body of VerbForget.
func ForgetBody(planned uint64, at Register, b paxos.Ballot) []byte {
	q := ballotRequest{verb: VerbForget, planned: planned, generation: at.Generation, token: at.Token, key: at.Key, ballot: b}
	return q.append(nil)
}
