// Package protocol is the codec of the CQL native protocol, versions 3, 4 and 5, in both
// directions: it decodes requests and builds responses for the server, and builds requests and
// decodes responses for the bench, the shell and tests.
//
// It has no sockets and no goroutines. Bytes come in through a FrameReader, which cuts a stream
// into envelopes (and, from the STARTUP answer on in v5, opens the checksummed segments around
// them); requests are decoded by the DecodeX functions into structs that the caller reuses and
// whose slices alias the body; answers are appended to a caller's buffer between BeginResponse
// and EndFrame; AppendSegments wraps finished envelopes for a v5 connection.
//
// Everything that arrives is untrusted: no decoder panics, every length is checked against the
// bytes that are there before anything is allocated, and what a decoder allocates is bounded by
// a small multiple of its input. Errors meant for the client are *Error; errors of the framing,
// which also say whether the connection can go on, are *BadFrame.
//
// Nothing here is safe for concurrent use unless it says so; functions without a receiver hold
// no state and are.
//
// Sources: the specifications native_protocol_v3.spec, v4.spec and v5.spec of Apache Cassandra,
// and where they are silent or wrong, the behaviour of Cassandra 5.0.8. docs/format/native-protocol.md
// draws the bytes.
package protocol
