package protocol

import (
	"strconv"
	"strings"
)

// Startup is what a STARTUP asks for. Unknown options are kept in Options and otherwise ignored.
type Startup struct {
	CQLVersion      string
	Compression     Compression
	ThrowOnOverload bool
	DriverName      string
	DriverVersion   string

	Options []StringPair // all options as sent, their keys in upper case, in order of arrival
}

// CQLVersion is the version of the language, as SUPPORTED and system.local tell it.
const CQLVersion = "3.4.7"

// startupOptionsMax bounds the options of one STARTUP.
const startupOptionsMax = 1024

// DecodeStartup decodes and checks the body of a STARTUP: a missing or too old CQL_VERSION and an
// unusable COMPRESSION are errors with Cassandra's texts. Error: *Error.
func DecodeStartup(v Version, body []byte) (Startup, error) {
	c := cursor{rest: body}
	n := c.count(4, "options")
	if n > startupOptionsMax {
		c.fail("Too many options in STARTUP: %d", n)
	}
	var s Startup
	for i := 0; i < n && c.err == nil; i++ {
		s.Options = append(s.Options, StringPair{Key: strings.ToUpper(c.string()), Value: c.string()})
	}
	if c.err != nil {
		return Startup{}, c.err
	}
	if err := s.interpret(v); err != nil {
		return Startup{}, err
	}
	return s, nil
}

// Option returns the value of an option by its upper-case key; the last one when it was sent
// twice.
func (s *Startup) Option(key string) (value string, ok bool) {
	for _, o := range s.Options {
		if o.Key == key {
			value, ok = o.Value, true
		}
	}
	return value, ok
}

func (s *Startup) interpret(v Version) *Error {
	version, ok := s.Option("CQL_VERSION")
	if !ok {
		return protocolErr("Missing value CQL_VERSION in STARTUP message")
	}
	if err := checkCQLVersion(version); err != nil {
		return err
	}
	s.CQLVersion = version
	if name, ok := s.Option("COMPRESSION"); ok {
		var err *Error
		if s.Compression, err = compressionOf(v, name); err != nil {
			return err
		}
	}
	throw, _ := s.Option("THROW_ON_OVERLOAD")
	s.ThrowOnOverload = throw == "1"
	s.DriverName, _ = s.Option("DRIVER_NAME")
	s.DriverVersion, _ = s.Option("DRIVER_VERSION")
	return nil
}

func compressionOf(v Version, name string) (Compression, *Error) {
	switch strings.ToLower(name) {
	case "lz4":
		return LZ4, nil
	case "snappy":
		if v >= V5 {
			return 0, protocolErr("Snappy compression is not supported in protocol V5")
		}
		return Snappy, nil
	}
	return 0, protocolErr("Unknown compression algorithm: %s", name)
}

// checkCQLVersion accepts 3.0.0 and later; Cassandra compares with 2.99.0.
func checkCQLVersion(s string) *Error {
	core, _, _ := strings.Cut(s, "-")
	core, _, _ = strings.Cut(core, "+")
	parts := strings.Split(core, ".")
	if len(parts) < 2 || len(parts) > 4 {
		return protocolErr("Invalid version value: %s", s)
	}
	var n [4]int
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return protocolErr("Invalid version value: %s", s)
		}
		n[i] = int(v)
	}
	if n[0] < 2 || n[0] == 2 && n[1] < 99 {
		return protocolErr("CQL version %s is not supported by the binary protocol (supported version are >= 3.0.0)", s)
	}
	return nil
}

// DefaultSupported returns what SUPPORTED says on every connection, in Cassandra's order. It does
// not list v6-beta, which Helenus does not speak.
func DefaultSupported() []SupportedOption {
	return []SupportedOption{
		{"PROTOCOL_VERSIONS", []string{V3.String(), V4.String(), V5.String()}},
		{"COMPRESSION", []string{"snappy", "lz4"}},
		{"CQL_VERSION", []string{CQLVersion}},
	}
}

// SupportedOption is one entry of SUPPORTED.
type SupportedOption struct {
	Name   string
	Values []string
}

// AppendSupported appends the body of SUPPORTED.
func AppendSupported(dst []byte, options []SupportedOption) []byte {
	dst = appendU16(dst, len(options))
	for _, o := range options {
		dst = AppendStringList(AppendString(dst, o.Name), o.Values)
	}
	return dst
}

// DecodeSupported decodes the body of SUPPORTED. Error: *Error.
func DecodeSupported(body []byte) ([]SupportedOption, error) {
	c := cursor{rest: body}
	n := c.count(4, "options")
	var options []SupportedOption
	for i := 0; i < n && c.err == nil; i++ {
		options = append(options, SupportedOption{c.string(), c.stringList()})
	}
	return options, c.error()
}

// CheckSequence returns the error, nil if none, for a request that may not come now: only OPTIONS
// and STARTUP may come first, only AUTH_RESPONSE (and OPTIONS) while authentication is pending, and no
// STARTUP once the connection is ready. Cassandra answers it on stream 0 before STARTUP.
func CheckSequence(stage Stage, op Opcode) *Error {
	switch {
	case op == OpCredentials:
		return protocolErr("Unsupported message")
	case stage == StageEstablished && op != OpStartup && op != OpOptions:
		return protocolErr("Unexpected message %s, expecting STARTUP or OPTIONS", op)
	case stage == StageAuthentication && op != OpAuthResponse && op != OpOptions:
		return protocolErr("Unexpected message %s, expecting SASL_RESPONSE", op)
	case stage == StageReady && op == OpStartup:
		return protocolErr("Unexpected message STARTUP, the connection is already initialized")
	case stage == StageReady && op == OpAuthResponse:
		return protocolErr("Unexpected message AUTH_RESPONSE, the connection is already initialized")
	}
	return nil
}

// Stage is how far a connection has come.
type Stage uint8

// The stages, in order.
const (
	StageEstablished    Stage = iota // nothing but OPTIONS so far
	StageAuthentication              // AUTHENTICATE has been sent
	StageReady                       // READY or AUTH_SUCCESS has been sent
)
