// Package cqlident knows which CQL words may stand as identifiers without quotes. It is a leaf, so that the catalog
// (DESCRIBE) and the parser share one list.
package cqlident
