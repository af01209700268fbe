// Package hints keeps the writes that a replica missed and delivers them when it is back: in the order in which they
// were made, throttled, with their original timestamps, across restarts of this node.
//
// A hint is stored under its target's host id in the node's own store, in the same batch as the local write where there
// is one. None is kept for a replica that has been down for longer than the window, beyond the bound of bytes per target,
// or when it has grown older than its tables' gc_grace: a deletion that such a hint should have met may be gone by then.
// A hint that is not delivered stays until it is; a repeated delivery does no harm, since mutations are idempotent.
//
// The value of a hint is the body of the message that would have been sent (docs/format/messages.md); this package does
// not look into it.
package hints
