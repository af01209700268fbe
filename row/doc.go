// Package row is the row model and its byte format, used on disk, on the wire, in hints and in streams. Reconciliation
// lives here and nowhere else.
package row
