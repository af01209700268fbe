// Package cql turns CQL text into a syntax tree: lexer, parser and tree of the whole language of Cassandra 5.0 (CQL
// 3.4.7). It knows nothing of the catalog: names and types are left as written, and what needs a schema (does the
// table exist, does the literal fit the column) is the planner's business.
//
// Parse is the entry. The tree is made of plain structs: statements are pointers to structs that implement Statement,
// everything that can stand where a value or a selected expression stands implements Term. A tree is immutable after
// Parse and may be shared by goroutines; its strings alias the statement text.
//
// Errors are *SyntaxError (protocol code 0x2000) or, for the few semantic checks that Cassandra's parser does itself,
// *InvalidError (0x2200). Their texts are those of Cassandra, positions included, because drivers, ORMs and test suites
// match them. The grammar is LL(1) almost everywhere; where Cassandra's generated parser looks further ahead, the place
// that an error names differs from the place that is highlighted, and parser.go says how this is followed.
package cql
