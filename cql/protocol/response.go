package protocol

// The bodies of responses other than RESULT, and what reads them.

// AppendReady appends the (empty) body of READY: dst itself. It is there for symmetry.
func AppendReady(dst []byte) []byte { return dst }

// PasswordAuthenticator is the class name that AUTHENTICATE carries. Drivers check it against a
// list of names they trust.
const PasswordAuthenticator = "org.apache.cassandra.auth.PasswordAuthenticator"

// AppendAuthenticate appends the body of AUTHENTICATE.
func AppendAuthenticate(dst []byte, class string) []byte { return AppendString(dst, class) }

// DecodeAuthenticate returns the class name of an AUTHENTICATE. Error: *Error.
func DecodeAuthenticate(body []byte) (string, error) {
	c := cursor{rest: body}
	return c.string(), c.error()
}

// AppendAuthSuccess appends the body of AUTH_SUCCESS; a nil token is null, which is what the
// password authenticator sends.
func AppendAuthSuccess(dst, token []byte) []byte { return AppendBytes(dst, token) }

// AppendAuthChallenge appends the body of AUTH_CHALLENGE.
func AppendAuthChallenge(dst, token []byte) []byte { return AppendBytes(dst, token) }

// AppendVoid appends the body of a RESULT Void.
func AppendVoid(dst []byte) []byte { return appendI32(dst, int(ResultVoid)) }

// AppendSetKeyspace appends the body of a RESULT Set_keyspace.
func AppendSetKeyspace(dst []byte, keyspace string) []byte {
	return AppendString(appendI32(dst, int(ResultSetKeyspace)), keyspace)
}

// messageTimeout is Cassandra's text for a timeout whose own one does not exist in the client's
// version.
const messageTimeout = "Operation timed out - received only %d responses."

// ForVersion returns e as a client of version v is told about it: v3 has no read, write, function
// and CDC failures, and before v5 there is no CAS_WRITE_UNKNOWN (Cassandra:
// ErrorMessage.getBackwardsCompatibleException). It returns e itself when nothing changes.
func (e *Error) ForVersion(v Version) *Error {
	switch e.Code {
	case CodeReadFailure:
		if v < V4 {
			return e.asTimeout(CodeReadTimeout)
		}
	case CodeWriteFailure:
		if v < V4 {
			return e.asTimeout(CodeWriteTimeout)
		}
	case CodeFunctionFailure, CodeCDCWriteFailure:
		if v < V4 {
			return Errorf(CodeInvalid, "ERROR %s: %s", e.Code, e.Message)
		}
	case CodeCASWriteUnknown:
		if v < V5 {
			t := e.asTimeout(CodeWriteTimeout)
			t.WriteType = WriteCAS
			return t
		}
	case CodeWriteTimeout:
		if v < V5 && e.WriteType == WriteCAS {
			return e.asTimeout(CodeWriteTimeout)
		}
	}
	return e
}

func (e *Error) asTimeout(code ErrorCode) *Error {
	t := Errorf(code, messageTimeout, e.Received)
	t.Consistency, t.Received, t.BlockFor = e.Consistency, e.Received, e.BlockFor
	t.WriteType, t.DataPresent = e.WriteType, e.DataPresent
	return t
}

// AppendError appends the body of ERROR, in the form that version v knows.
func AppendError(dst []byte, v Version, e *Error) []byte {
	e = e.ForVersion(v)
	dst = AppendString(appendI32(dst, int(e.Code)), e.Message)
	switch e.Code {
	case CodeUnavailable:
		dst = appendU16(dst, int(e.Consistency))
		dst = appendI32(appendI32(dst, int(e.Required)), int(e.Alive))
	case CodeReadTimeout:
		dst = append(appendLevel(dst, e), boolByte(e.DataPresent))
	case CodeWriteTimeout:
		dst = AppendString(appendLevel(dst, e), string(e.WriteType))
		if v >= V5 && e.WriteType == WriteCAS {
			dst = appendU16(dst, int(e.Contentions))
		}
	case CodeReadFailure:
		dst = append(appendFailures(appendLevel(dst, e), v, e.Failures), boolByte(e.DataPresent))
	case CodeWriteFailure:
		dst = AppendString(appendFailures(appendLevel(dst, e), v, e.Failures), string(e.WriteType))
	case CodeCASWriteUnknown:
		dst = appendLevel(dst, e)
	case CodeFunctionFailure:
		dst = AppendString(AppendString(dst, e.Keyspace), e.Function)
		dst = AppendStringList(dst, e.ArgTypes)
	case CodeAlreadyExists:
		dst = AppendString(AppendString(dst, e.Keyspace), e.Table)
	case CodeUnprepared:
		dst = AppendShortBytes(dst, e.StatementID)
	}
	return dst
}

// AppendErrorFrame appends a whole ERROR envelope without extras.
func AppendErrorFrame(dst []byte, v Version, stream int16, e *Error) []byte {
	dst, mark := BeginFrame(dst, v, OpError, stream, 0)
	return EndFrame(AppendError(dst, v, e), mark)
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// appendLevel appends <cl><received><blockfor>.
func appendLevel(dst []byte, e *Error) []byte {
	dst = appendU16(dst, int(e.Consistency))
	return appendI32(appendI32(dst, int(e.Received)), int(e.BlockFor))
}

// appendFailures appends <numfailures>, and from v5 on the reason map that it counts.
func appendFailures(dst []byte, v Version, failures []Failure) []byte {
	dst = appendI32(dst, len(failures))
	if v < V5 {
		return dst
	}
	for _, f := range failures {
		dst = appendU16(appendInetAddr(dst, f.Addr), int(f.Code))
	}
	return dst
}

// DecodeError decodes the body of ERROR. The second result is what is wrong with the body itself:
// an *Error too, nil when it was well-formed.
func DecodeError(v Version, body []byte) (*Error, error) {
	c := cursor{rest: body}
	e := &Error{Code: ErrorCode(c.i32("an error code")), Message: c.string()}
	switch e.Code {
	case CodeUnavailable:
		e.Consistency = c.consistency()
		e.Required, e.Alive = c.i32("required"), c.i32("alive")
	case CodeReadTimeout:
		c.level(e)
		e.DataPresent = c.u8("data_present") != 0
	case CodeWriteTimeout:
		c.level(e)
		e.WriteType = WriteType(c.string())
		if v >= V5 && e.WriteType == WriteCAS && len(c.rest) > 0 {
			e.Contentions = uint16(c.u16("contentions"))
		}
	case CodeReadFailure:
		c.level(e)
		e.Failures = c.failures(v)
		e.DataPresent = c.u8("data_present") != 0
	case CodeWriteFailure:
		c.level(e)
		e.Failures = c.failures(v)
		e.WriteType = WriteType(c.string())
	case CodeCASWriteUnknown:
		c.level(e)
	case CodeFunctionFailure:
		e.Keyspace, e.Function, e.ArgTypes = c.string(), c.string(), c.stringList()
	case CodeAlreadyExists:
		e.Keyspace, e.Table = c.string(), c.string()
	case CodeUnprepared:
		e.StatementID = append([]byte(nil), c.shortBytes()...)
	}
	if c.err != nil {
		return nil, c.err
	}
	return e, nil
}

func (c *cursor) level(e *Error) {
	e.Consistency = c.consistency()
	e.Received, e.BlockFor = c.i32("received"), c.i32("blockfor")
}

// failuresMax bounds the replicas of one failure: before v5 the count stands alone, so the size of
// the body says nothing about it.
const failuresMax = 4096

func (c *cursor) failures(v Version) []Failure {
	n := int(c.i32("numfailures"))
	if c.err != nil || n == 0 {
		return nil
	}
	if n < 0 || n > failuresMax || v >= V5 && n*7 > len(c.rest) {
		c.fail("Invalid number of failures %d", n)
		return nil
	}
	failures := make([]Failure, n)
	for i := 0; v >= V5 && i < n && c.err == nil; i++ {
		failures[i] = Failure{Addr: c.inetAddr(), Code: uint16(c.u16("a failure code"))}
	}
	return failures
}
