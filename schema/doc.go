// Package schema is the catalog: keyspaces, tables, types and their options as immutable values, DDL as pure
// functions over them, and the text DESCRIBE shows.
//
// A *Catalog never changes once built. A DDL method (CreateTable, AlterType, ...) validates a statement against a
// catalog and returns a Plan: the Changes to log, the event clients are told and warnings. Changes carry results
// (ids, generations, whole definitions), never statements; Apply folds them into a new catalog, the same one on
// every node, whose Version is a digest of its content. Everything here is safe for concurrent use because nothing
// here is written after it was built; callers must not write to what they are handed.
//
// The system keyspaces are part of every catalog (Bootstrap) but come from code, not from the log: a snapshot holds
// the user's keyspaces and the replication of the system keyspaces that an operator altered.
//
// Names, defaults, bounds and error texts are Apache Cassandra 5.0.8's. docs/format/catalog.md draws the bytes of
// changes and snapshots.
package schema
