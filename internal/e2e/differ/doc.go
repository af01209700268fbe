// Package differ asks two CQL servers the same questions and shows where their answers differ. One is Helenus, the other
// a real Apache Cassandra, or the golden files that hold what one answered.
//
// The corpus in testdata is read by hand: every file has a keyspace of its own and runs from top to bottom, so a line
// sees what the lines before it did. The generator makes random tables, writes and reads from a seed, and shortens what
// it finds. The command in cmd compares against a live Cassandra and rewrites the golden files; the test in internal/e2e
// replays the corpus against Helenus alone.
//
// It speaks the native protocol itself (cql/protocol): a driver would hide half of what is compared. No server code may
// come in here.
package differ
