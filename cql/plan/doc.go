// Package plan turns a parsed statement and a catalog into a compiled statement: names become column ids, terms become
// slots, the WHERE clause becomes partition keys and clustering slices. It is pure: no I/O, no goroutines, no clock and
// no randomness; what time and chance give comes in with Args.
//
//	st, err := plan.Compile(ast, plan.Env{Catalog: catalog, Keyspace: "ks"})   // once per statement
//	muts, err := st.Modify.Mutations(&buf, &args)                              // once per INSERT, UPDATE, DELETE
//
//	acc, err := st.Select.Access(&buf, &args)                                  // once per SELECT
//	err = w.Begin(st.Select, &args, acc, plan.Page{Rows: 5000})
//	for cmd := w.Next(); cmd != nil; cmd = w.Next() {
//		… read cmd from the replicas into page …
//		dst, err = w.Add(dst, page)
//	}
//	dst, err = w.Finish(dst)                                                   // w.Rows() rows, w.More() to be continued
//
// Statements with conditions, and batches with such, are run by a CAS: Add each with its values, read what Command says,
// Decide (as often as the coordinator asks), and if it was not applied take the answer from Result.
//
// A compiled statement is immutable and safe for concurrent use. Buffer, Args and RowWriter belong to one request at a
// time and are made to be reused: a warm EXECUTE of an INSERT or of a point SELECT does not allocate.
//
// Errors are *Error, with the protocol code and the text of Apache Cassandra 5.0.8 because drivers, ORMs and test suites
// match both; what is not built yet is refused by name.
package plan
