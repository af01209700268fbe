// Package history says when token ranges were last repaired, and what of a table may therefore be purged.
//
//	repair of a range on all its replicas ─► Entry ─► Map.Put (pure) ─► Book (durable) ─► Bound ─► purge
//
// A Map is a value: intervals with what is known of them, cut and joined as new knowledge comes. A Book keeps one per table, in a store
// that it is given. An entry names the replicas that were repaired: when a range gets another replica, what is recorded of it no longer counts,
// without anybody having to remove it.
//
// Bound is the one place that decides which tombstones may go. docs/design/0005-purge.md says why that is right.
package history
