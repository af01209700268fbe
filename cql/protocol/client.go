package protocol

// Requests, as the bench, the shell and tests send them. Each function appends a whole envelope.

// AppendOptions appends an OPTIONS request.
func AppendOptions(dst []byte, v Version, stream int16) []byte {
	dst, _ = BeginFrame(dst, v, OpOptions, stream, 0)
	return dst
}

// AppendStartup appends a STARTUP request with these options, in their order.
func AppendStartup(dst []byte, v Version, stream int16, options []StringPair) []byte {
	dst, mark := BeginFrame(dst, v, OpStartup, stream, 0)
	dst = appendU16(dst, len(options))
	for _, o := range options {
		dst = AppendString(AppendString(dst, o.Key), o.Value)
	}
	return EndFrame(dst, mark)
}

// AppendAuthResponse appends an AUTH_RESPONSE request; nil is a null token.
func AppendAuthResponse(dst []byte, v Version, stream int16, token []byte) []byte {
	dst, mark := BeginFrame(dst, v, OpAuthResponse, stream, 0)
	return EndFrame(AppendBytes(dst, token), mark)
}

// AppendPlainToken appends the token of the password authenticator: "\0user\0password".
func AppendPlainToken(dst []byte, user, password string) []byte {
	dst = append(append(dst, 0), user...)
	return append(append(dst, 0), password...)
}

// AppendRegister appends a REGISTER request for the types in set.
func AppendRegister(dst []byte, v Version, stream int16, set EventSet) []byte {
	dst, mark := BeginFrame(dst, v, OpRegister, stream, 0)
	var names []string
	for t := TopologyChange; t <= SchemaChange; t++ {
		if set.Has(t) {
			names = append(names, t.String())
		}
	}
	return EndFrame(AppendStringList(dst, names), mark)
}

// AppendQuery appends a QUERY request. flags are header flags (FlagTracing). p.Flags says which
// options are sent; the bits for values and names follow from p.Values and p.Names.
func AppendQuery(dst []byte, v Version, stream int16, flags byte, query string, p *QueryParams) []byte {
	dst, mark := BeginFrame(dst, v, OpQuery, stream, flags)
	dst = AppendLongString(dst, query)
	return EndFrame(appendParams(dst, v, p), mark)
}

// AppendPrepare appends a PREPARE request. keyspace is sent on v5 when it is not empty.
func AppendPrepare(dst []byte, v Version, stream int16, flags byte, query, keyspace string) []byte {
	dst, mark := BeginFrame(dst, v, OpPrepare, stream, flags)
	dst = AppendLongString(dst, query)
	switch {
	case v < V5:
	case keyspace == "":
		dst = appendI32(dst, 0)
	default:
		dst = AppendString(appendI32(dst, int(PrepareKeyspace)), keyspace)
	}
	return EndFrame(dst, mark)
}

// AppendExecute appends an EXECUTE request; e.ResultMetadataID is sent on v5. For p.Flags see
// AppendQuery. It allocates nothing but room in dst.
func AppendExecute(dst []byte, v Version, stream int16, flags byte, e *Execute) []byte {
	dst, mark := BeginFrame(dst, v, OpExecute, stream, flags)
	dst = AppendShortBytes(dst, e.ID)
	if v >= V5 {
		dst = AppendShortBytes(dst, e.ResultMetadataID)
	}
	return EndFrame(appendParams(dst, v, &e.QueryParams), mark)
}

// AppendBatch appends a BATCH request. For b.Flags see AppendQuery; b.Values and b.Names are not
// sent.
func AppendBatch(dst []byte, v Version, stream int16, flags byte, b *Batch) []byte {
	dst, mark := BeginFrame(dst, v, OpBatch, stream, flags)
	dst = append(dst, byte(b.Type))
	dst = appendU16(dst, len(b.Statements))
	for i := range b.Statements {
		s := &b.Statements[i]
		if s.Prepared {
			dst = AppendShortBytes(append(dst, 1), s.ID)
		} else {
			dst = AppendLongString(append(dst, 0), string(s.Query))
		}
		dst = appendValues(dst, s.Values, nil)
	}
	p := b.QueryParams
	p.Values, p.Names = nil, nil
	return EndFrame(appendParams(dst, v, &p), mark)
}

func appendValues(dst []byte, values []Value, names [][]byte) []byte {
	dst = appendU16(dst, len(values))
	for i := range values {
		if len(names) > 0 {
			dst = AppendShortBytes(dst, names[i])
		}
		switch values[i].State {
		case Set:
			dst = AppendValue(dst, values[i].Bytes)
		case Null:
			dst = AppendNull(dst)
		case Unset:
			dst = AppendUnset(dst)
		}
	}
	return dst
}

func appendParams(dst []byte, v Version, p *QueryParams) []byte {
	flags := p.Flags &^ (QueryValues | QueryNames)
	if len(p.Values) > 0 {
		flags |= QueryValues
	}
	if len(p.Names) > 0 {
		flags |= QueryNames
	}
	dst = appendU16(dst, int(p.Consistency))
	if v >= V5 {
		dst = appendI32(dst, int(flags))
	} else {
		flags &= 0xff &^ QueryKeyspace
		dst = append(dst, byte(flags))
	}
	if flags&QueryValues != 0 {
		dst = appendValues(dst, p.Values, p.Names)
	}
	return appendOptionValues(dst, flags, p)
}

func appendOptionValues(dst []byte, flags uint32, p *QueryParams) []byte {
	if flags&QueryPageSize != 0 {
		dst = appendI32(dst, int(p.PageSize))
	}
	if flags&QueryPagingState != 0 {
		dst = AppendBytes(dst, p.PagingState)
	}
	if flags&QuerySerialConsistency != 0 {
		dst = appendU16(dst, int(p.SerialConsistency))
	}
	if flags&QueryTimestamp != 0 {
		dst = appendI64(dst, p.Timestamp)
	}
	if flags&QueryKeyspace != 0 {
		dst = AppendShortBytes(dst, p.Keyspace)
	}
	if flags&QueryNowInSeconds != 0 {
		dst = appendI32(dst, int(p.NowInSeconds))
	}
	return dst
}
