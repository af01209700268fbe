// Package watermark remembers outside of a store how much of the store was durable, so that a store whose newest part is
// gone is noticed at its next start. A write-ahead log that lost its tail looks like one that ends there: its own checksums
// cannot tell.
//
// The owner commits a beat, a rising number, into its store, waits until it is durable, and then writes the number here. A
// store that holds a lower beat than its watermark has lost what came after. The package knows nothing of the store.
package watermark
