// Package batchlog keeps logged batches until all of their mutations have been made, so that a batch over several
// partitions is there whole or not at all, whatever becomes of its coordinator.
//
// # What a coordinator does
//
// It chooses the nodes that keep the batch (Choose), has each of them store an entry, and begins to write only when all of
// them have said that it is durable. When every mutation has reached the batch's level it removes the entry, without waiting
// and only where it was stored. Whatever happens between, the entry stays.
//
// # What the nodes that keep it do
//
// Each looks through its entries (Log.Run, from its start on). One that it has held for longer than Options.Age, by its own
// clock, was left behind: its mutations are made again on all replicas with their original timestamps, so that a second
// time changes nothing and a later write is never overwritten. The entry is removed when every replica has them or a hint
// for it is durable. Otherwise it stays, is tried again, and is counted. What is dropped is counted too: an entry whose
// tables are gone, which is older than gc_grace of one of them (a deletion that it would run into may be gone by then), or
// whose bytes are damaged.
//
// A turn holds no more than pageBytesMax of entries, or one entry, in memory, and is paced by Options.Rate.
//
// This package chooses, stores, scans and paces; it does not know tables or replicas, which are the coordinator's. The
// bytes of messages and entries are drawn in docs/format/messages.md.
package batchlog
