// Package shell is an interactive CQL shell: it cuts what is typed, piped or sourced into statements, carries out the
// few commands that are its own (CONSISTENCY, TRACING, SOURCE, ...), sends the rest to a server over the native
// protocol (v5, v4 or v3), and prints what comes back as cqlsh lays it out, or as CSV or JSON. `helenus sh` is its command
// line.
//
// A Shell serves one user over one connection and is not safe for concurrent use. It works with any server that speaks
// the protocol.
package shell
