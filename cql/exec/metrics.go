package exec

import "sync/atomic"

// Metrics counts since the executor was made. All fields may be read at any time.
type Metrics struct {
	Inline, Heavy, CAS, DDL atomic.Int64 // requests begun, by the way they took
	Overloaded              atomic.Int64 // requests refused because a queue was full

	Prepared          atomic.Int64 // prepared statements held now
	PreparedBytes     atomic.Int64 // their estimated size
	PreparedEvicted   atomic.Int64 // forgotten to keep within Limits.PreparedBytes
	PreparedDropped   atomic.Int64 // forgotten because the schema changed
	PreparedMissed    atomic.Int64 // executions answered UNPREPARED
	PreparedExecuted  atomic.Int64
	RegularStatements atomic.Int64 // QUERY
	Batches           atomic.Int64

	StatementHits, StatementMisses atomic.Int64 // of the cache of QUERY texts

	Reads, Writes atomic.Int64 // SELECTs; INSERT, UPDATE, DELETE and batches
	Errors        atomic.Int64 // requests answered with an ERROR
	Unavailable   atomic.Int64
	Timeouts      atomic.Int64
	Failures      atomic.Int64
}
