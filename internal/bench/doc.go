// Package bench is a load generator for any CQL server: prepared statements over raw native-protocol frames, many
// requests in flight on each connection, every answer checked, closed loop or fixed rate. It is as cheap as a client can
// be, so that what is measured is the server; `helenus bench` is its command line.
//
// The table is bench.kv: a bigint key and five blobs of 34 bytes whose content is a function of the key, so that a read
// can tell a wrong answer from a right one. With a fixed rate, latency counts from the instant at which a request was
// due, so that a server that stalls cannot hide.
package bench
