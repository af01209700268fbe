// Package exec runs CQL requests: it is the server.Handler that stands between the connections and the coordinator.
//
// A request takes one of two ways. A single INSERT, UPDATE, DELETE, small batch or read of one row runs inline, on the
// goroutine that reads its connection: a pooled op decodes it, has package plan make mutations or a command, and hands
// them to the connection's coordinator.Burst; the answer comes as a callback. Everything else (scans, aggregates, IN,
// list operations that read first, DDL, DESCRIBE, traced requests) goes as a job to a bounded pool of goroutines that
// use the coordinator's blocking forms. Conditional writes and serial reads, which wait for one another, have a pool of
// their own. When a queue is full the client is told OVERLOADED.
//
// Prepared statements are kept by id, bounded in bytes. Each is compiled against one catalog; an execution that finds a
// newer one compiles again when its table only changed in what a client cannot see, and otherwise forgets the statement,
// so that the client prepares it again (UNPREPARED).
//
// Errors have the codes and texts of Apache Cassandra 5.0.8.
package exec
