// Package storage is one node's engine: every table's rows in one Pebble store, one key per row, each write a MERGE of an encoded
// partial row that package row reconciles cell by cell.
//
//	Batch.Apply ─ stripe token shared ─► Pebble batch ─ Commit ─► visible ─► row cache told ─► token released
//	                                                                 └► sync goroutine: SyncWait in order ─► Committed callbacks
//	Read ─► row cache | Pebble iterator ─► row.PageBuilder; the ordinal of what was seen and is not durable yet goes back with the page
//
// Keys are drawn in docs/format/storage-keys.md. Rows live in space 'R'; the deletions that cover more than one row (partition
// deletions and range tombstones) are one merged fragment per partition in space 'M', so that a partition without any costs no
// lookup: a filter in memory knows which partitions may have one.
//
// Pebble merges operands but never drops a value that has died, so that is done here: fold rewrites a row that had too many
// operands, purge rewrites rows with expired cells and tombstones past their grace, found through the death index. Both read and
// Set, hence hold the partition's stripe exclusively; writers hold it shared until they are applied.
//
// A Snapshot shows a token range as of one moment, for another node; an Ingest takes what such a one shows into this store, as tables
// of MERGE records beside the log. It holds its stripes shared, as a batch does, because merges commute; so fold and purge, whose Set
// would lose it, stay out.
//
// Durability: under Group (default) and Batch, Committed is called after the write-ahead log is on disk, never before and never
// after an fsync has failed: then Options.Fatal ends the process. What a read saw before it was durable is named by the ordinal
// Read returns; the answer waits for it with WhenSynced.
//
// Snapshots are checkpoints of some tables' spans, made under another name and renamed (docs/format/snapshots.md).
package storage
