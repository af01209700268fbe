package protocol

import "strconv"

// Version is a native protocol version. Helenus speaks V3, V4 and V5.
type Version uint8

// The supported versions.
const (
	V3 Version = 3
	V4 Version = 4
	V5 Version = 5

	// MaxVersion is the newest version spoken: what an error about an unknown version is sent in.
	MaxVersion = V5
)

// Supported reports whether Helenus speaks v.
func (v Version) Supported() bool { return v >= V3 && v <= V5 }

// String returns the version as Cassandra names it, "4/v4".
func (v Version) String() string {
	n := strconv.Itoa(int(v))
	return n + "/v" + n
}

// Limits on what arrives and on what is built.
const (
	// HeaderLen is the size of an envelope header in bytes.
	HeaderLen = 9

	// FrameMax bounds one envelope, header included, in bytes (native_transport_max_frame_size
	// and, for envelopes that span v5 segments, native_transport_max_message_size). A longer one
	// is skipped and answered with an error.
	FrameMax = 16 << 20

	// PreStartupMax bounds one envelope on a connection that has not finished its STARTUP and
	// authentication, in bytes.
	PreStartupMax = 64 << 10

	// SegmentPayloadMax is the largest payload of a v5 segment, in bytes, before compression.
	SegmentPayloadMax = 1<<17 - 1

	// StringMax is the longest [string], in bytes. Longer ones are cut when encoded.
	StringMax = 1<<16 - 1

	// consecutiveErrorsMax is how many broken envelopes in a row one v5 segment may hold before
	// the connection is given up (Cassandra: consecutive_message_errors_threshold).
	consecutiveErrorsMax = 1

	// typeDepthMax bounds how deep a decoded type may nest.
	typeDepthMax = 64
)

// Opcode says what an envelope's body is.
type Opcode uint8

// The opcodes. 0x04 was CREDENTIALS in version 1 and is answered with "Unsupported message".
const (
	OpError         Opcode = 0x00
	OpStartup       Opcode = 0x01
	OpReady         Opcode = 0x02
	OpAuthenticate  Opcode = 0x03
	OpCredentials   Opcode = 0x04
	OpOptions       Opcode = 0x05
	OpSupported     Opcode = 0x06
	OpQuery         Opcode = 0x07
	OpResult        Opcode = 0x08
	OpPrepare       Opcode = 0x09
	OpExecute       Opcode = 0x0A
	OpRegister      Opcode = 0x0B
	OpEvent         Opcode = 0x0C
	OpBatch         Opcode = 0x0D
	OpAuthChallenge Opcode = 0x0E
	OpAuthResponse  Opcode = 0x0F
	OpAuthSuccess   Opcode = 0x10
)

var opcodeNames = [...]string{"ERROR", "STARTUP", "READY", "AUTHENTICATE", "CREDENTIALS", "OPTIONS",
	"SUPPORTED", "QUERY", "RESULT", "PREPARE", "EXECUTE", "REGISTER", "EVENT", "BATCH",
	"AUTH_CHALLENGE", "AUTH_RESPONSE", "AUTH_SUCCESS"}

// Known reports whether op is defined by the protocol.
func (op Opcode) Known() bool { return int(op) < len(opcodeNames) }

// String returns the name that Cassandra uses in error texts, "EXECUTE".
func (op Opcode) String() string {
	if op.Known() {
		return opcodeNames[op]
	}
	return "0x" + strconv.FormatUint(uint64(op), 16)
}

// IsResponse reports whether op is sent by servers.
func (op Opcode) IsResponse() bool {
	switch op {
	case OpError, OpReady, OpAuthenticate, OpSupported, OpResult, OpEvent, OpAuthChallenge, OpAuthSuccess:
		return true
	}
	return false
}

// Header flags.
const (
	FlagCompressed    byte = 0x01
	FlagTracing       byte = 0x02
	FlagCustomPayload byte = 0x04
	FlagWarning       byte = 0x08
	FlagUseBeta       byte = 0x10
)

// Flags of QUERY, EXECUTE and BATCH ([byte] before v5, [int] from v5 on).
const (
	QueryValues            uint32 = 0x01
	QuerySkipMetadata      uint32 = 0x02
	QueryPageSize          uint32 = 0x04
	QueryPagingState       uint32 = 0x08
	QuerySerialConsistency uint32 = 0x10
	QueryTimestamp         uint32 = 0x20
	QueryNames             uint32 = 0x40
	QueryKeyspace          uint32 = 0x80
	QueryNowInSeconds      uint32 = 0x100
)

// PrepareKeyspace is the flag of PREPARE (v5): a keyspace follows.
const PrepareKeyspace uint32 = 0x01

// Flags of Rows and Prepared metadata.
const (
	RowsGlobalTableSpec uint32 = 0x01
	RowsHasMorePages    uint32 = 0x02
	RowsNoMetadata      uint32 = 0x04
	RowsMetadataChanged uint32 = 0x08
)

// ResultKind is the first [int] of a RESULT body.
type ResultKind int32

// The kinds of RESULT.
const (
	ResultVoid         ResultKind = 1
	ResultRows         ResultKind = 2
	ResultSetKeyspace  ResultKind = 3
	ResultPrepared     ResultKind = 4
	ResultSchemaChange ResultKind = 5
)

// BatchType is the kind of a BATCH.
type BatchType uint8

// The kinds of batch.
const (
	BatchLogged   BatchType = 0
	BatchUnlogged BatchType = 1
	BatchCounter  BatchType = 2
)

// String returns the name Cassandra uses, "LOGGED".
func (t BatchType) String() string {
	switch t {
	case BatchLogged:
		return "LOGGED"
	case BatchUnlogged:
		return "UNLOGGED"
	case BatchCounter:
		return "COUNTER"
	}
	return strconv.Itoa(int(t))
}

// WriteType says which write failed, in write timeouts and failures. Drivers look it up in a
// table: send no others.
type WriteType string

// The write types.
const (
	WriteSimple        WriteType = "SIMPLE"
	WriteBatch         WriteType = "BATCH"
	WriteUnloggedBatch WriteType = "UNLOGGED_BATCH"
	WriteCounter       WriteType = "COUNTER"
	WriteBatchLog      WriteType = "BATCH_LOG"
	WriteCAS           WriteType = "CAS"
	WriteView          WriteType = "VIEW"
	WriteCDC           WriteType = "CDC"
)
