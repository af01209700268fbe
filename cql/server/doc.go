// Package server speaks the native protocol with CQL clients: it listens, negotiates versions, compression and
// authentication, cuts what arrives into requests, hands them to a Session and writes the answers.
//
// A connection has one reader goroutine. It reads what has arrived, calls Session.Request for every request in it,
// then Session.Flush, and writes everything that was answered by then in one go: a burst costs one read and one write.
// Answers that come later, from whatever goroutine, are appended to the connection's out buffer under its only lock,
// and a second goroutine writes what has gathered there. Nothing is ever written to a socket under a lock.
//
// Everything is bounded: envelopes before and after STARTUP, requests in flight and unsent answers per connection (the
// reader then pauses), bytes in flight per client address and in all (requests are then refused with OVERLOADED),
// connections per address and in all, the time a client may take to say hello, to finish a frame and to read answers.
//
// The package knows nothing of CQL: it stands on cql/protocol alone, and whoever executes requests implements Handler
// and Session. Its behaviour is that of Apache Cassandra 5.0.8.
package server
