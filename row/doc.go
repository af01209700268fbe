// Package row is the row model and its byte format, the same on disk, on the wire, in hints and in streams.
// Reconciliation lives here and nowhere else. Everything is pure: no clock, no I/O, no goroutine.
//
// # Content
//
// A row has an optional Liveness, an optional row Deletion, cells, and for complex columns (collections and UDTs that are
// not frozen) an optional deletion and one cell per element. A fragment is content of one partition: partition deletion,
// static row, range tombstones, rows. A Mutation is a fragment on its way to a partition; a Page is a sequence of
// fragments on its way back. docs/format/row.md draws the bytes. Encodings are canonical: one content has one encoding,
// so that equal bytes, equal digests and equal content mean the same (scenario R8).
//
// # Positions
//
// A clustering key is the concatenation of memcomparable components (types.Type.AppendKey). P is the position before
// everything that begins with the components P, and P || 0xFF the position after it. Slices and range tombstones are
// half-open intervals of such byte strings.
//
// # Reconciliation
//
// Merge is commutative, associative and idempotent, and total over all fields. Deletions win by timestamp, then local
// time; liveness and cells as Liveness.Supersedes and Cell.supersedes say, which is Cassandra's order where Cassandra
// has one. What a deletion shadows (timestamp <= its own) is left out, by whichever deletion covers it: complex, row,
// range, partition.
//
// Nothing in Merge looks at a clock. An expired cell loses its value when Compact sees it, but keeps TTL and expiry. In
// Cassandra it becomes a tombstone that beats an expiring cell of the same timestamp which may still be alive: there,
// what a read returns depends on who compacted first. Here it does not (T9, T10, T11). As in Cassandra, its gc_grace
// counts from expiry - TTL.
//
// Only what is stored for good may lose values, by a now that lies behind all clocks. Reads of several coordinators overlap and
// their nows differ, also by as much as clients like to say. So a page of all columns, which may repair other replicas, has what
// expired as it was written, and repairs are a part of what the replicas hold together, at whatever Now. If they lacked the
// values, a reader of an earlier Now would find rows whose marker is alive and whose cells are gone.
//
// # What counts
//
// A tombstone with LocalTime < Command.GCBefore is purgeable: one replica may have dropped it already and another not. So
// it is no part of a digest, and two replicas that differ only in such tombstones agree (R10). Data pages keep it,
// because on another replica it may still shadow older data, which must not appear in the reconciled result (R17).
// Diff sends it to a replica only if it deletes something there that counts; then one repair is enough, and a replica
// that has purged it is not given it again.
//
// Limits, cuts and live rows are computed on what counts, after expiry at Command.Now, so they are the same on data and
// digest pages, and on replicas with equal content. One exception keeps a page bounded: a read that has walked over
// deadBytesMax of shadowed rows and purgeable tombstones is cut there. Then digests may differ without anything to repair.
//
// Whoever purges must drop what a purgeable tombstone shadows along with it, and work on all there is of the row on the
// node: on merged rows and normalized ranges.
//
// # Projection
//
// A page of selected columns has those columns, and of the others only what decides that a row exists: nothing when its
// liveness is alive, otherwise their live cells with empty values. That is exact as long as digests agree. When they
// differ, the pages cannot be reconciled, because what was left out may decide what a merged row shows: Command.Full is
// to be sent to the replicas, whose pages hold everything, and repairs never write back partial rows.
package row
