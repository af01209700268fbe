// Package stream copies token ranges of a table from one node to another. Joining, replacing, decommissioning, rebuilding and the repair
// of many differences at once use it; what a range may be used for, before and after, is theirs to decide.
//
//	receiver                                         source
//	Fetcher.Fetch ── open: table, range, after ────► Server: snapshot of the range
//	       ─── next ── next ── next (window) ──────► reads on, as far as it is asked
//	Builder ◄── piece ◄── piece ◄──────────────────  records from the key where the last one ended, checksum
//	   └ every GroupBytes: ingest (durable), then the mark: the key up to which it is done
//
// The receiver drives: the source reads only what was asked for, so that both hold a few pieces, whatever the range is. Pieces are
// added to a table on the receiver's disk as they come, and asked for again as they are added; the tables are ingested every
// GroupBytes. A stream that is cut off, by a broken connection or by the end of either process, goes on behind its last ingest,
// from a new snapshot and, if the caller wants, from another replica. That is right because rows merge: each record is a state that
// some replica had, and whatever the receiver has of it already, newer or older, older and newer snapshots in any order give the
// same row. A deletion travels in the record of what it deletes, or before it; purges stand still in the range on both sides, so
// that nothing arrives after its tombstone has gone.
//
// Bounds: sessions at a source, fetches at a receiver, pieces in flight and their size are all limited. Every wait ends: an answer has
// a deadline, a session that nobody asks is closed, as are all of a connection that ends and of a node that stops, and a fetch that
// does not get on for Patience gives up with the reason, its mark kept.
//
// Throttle limits what a source sends, over all sessions; it can be changed at any time. Fetcher.Progress, Server.Progress and Peers
// say what is under way.
//
// Verbs 96 to 98, class Stream. docs/format/streaming.md draws the bytes, docs/design/0010-streaming.md says why.
package stream
