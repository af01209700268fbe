package cql

import "github.com/helenusdb/helenus/internal/cqlident"

// IsReserved reports whether word (in any case) is reserved: it cannot be an identifier unless quoted.
func IsReserved(word string) bool { return cqlident.IsReserved(word) }

// QuoteIdent returns name as it has to be written in CQL, quoted only when needed (Cassandra's maybeQuote).
func QuoteIdent(name string) string { return cqlident.QuoteIdent(name) }
