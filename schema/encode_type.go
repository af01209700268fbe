package schema

import "github.com/helenusdb/helenus/cql/types"

// typeDepthMax bounds how deep types may nest, in statements and in encodings.
const typeDepthMax = 32

const typeFrozen = 0x01

// appendType appends a type: its kind, its flags and what the kind needs. A user type is a reference by name.
func appendType(dst []byte, t *types.Type) []byte {
	var flags byte
	if t.Frozen {
		flags |= typeFrozen
	}
	dst = append(dst, byte(t.Kind), flags)
	switch t.Kind {
	case types.KindCustom:
		return appendString(dst, t.Class)
	case types.KindUDT:
		return appendString(dst, t.Name)
	case types.KindVector:
		dst = appendUint(dst, uint64(t.Dim))
	case types.KindTuple:
		dst = appendUint(dst, uint64(len(t.Elems)))
	}
	for _, e := range t.Elems {
		dst = appendType(dst, e)
	}
	return dst
}

// scalarType returns the native scalar of a kind, nil for other kinds.
func scalarType(k types.Kind) *types.Type {
	switch k {
	case types.KindAscii:
		return types.Ascii
	case types.KindBigint:
		return types.Bigint
	case types.KindBlob:
		return types.Blob
	case types.KindBoolean:
		return types.Boolean
	case types.KindCounter:
		return types.Counter
	case types.KindDecimal:
		return types.Decimal
	case types.KindDouble:
		return types.Double
	case types.KindFloat:
		return types.Float
	case types.KindInt:
		return types.Int
	case types.KindTimestamp:
		return types.Timestamp
	case types.KindUuid:
		return types.Uuid
	case types.KindText:
		return types.Text
	case types.KindVarint:
		return types.Varint
	case types.KindTimeuuid:
		return types.Timeuuid
	case types.KindInet:
		return types.Inet
	case types.KindDate:
		return types.Date
	case types.KindTime:
		return types.Time
	case types.KindSmallint:
		return types.Smallint
	case types.KindTinyint:
		return types.Tinyint
	case types.KindDuration:
		return types.Duration
	case types.KindEmpty:
		return types.Empty
	}
	return nil
}

// typ reads a type. User types in it are references: they have the keyspace ks and a name but no fields.
func (d *decoder) typ(ks string, depth int) *types.Type {
	if depth > typeDepthMax {
		d.fail("type nests too deep")
		return types.Empty
	}
	kind, flags := types.Kind(d.byte()), d.byte()
	frozen := flags&typeFrozen != 0
	if d.err == nil && flags&^typeFrozen != 0 {
		d.fail("type flags")
	}
	switch kind {
	case types.KindCustom:
		if class := d.string(); d.err == nil && !frozen {
			return types.CustomOf(class)
		}
	case types.KindUDT:
		return &types.Type{Kind: kind, Frozen: frozen, Keyspace: ks, Name: d.string()}
	case types.KindList:
		return types.ListOf(d.typ(ks, depth+1), frozen)
	case types.KindSet:
		return types.SetOf(d.typ(ks, depth+1), frozen)
	case types.KindMap:
		key := d.typ(ks, depth+1)
		return types.MapOf(key, d.typ(ks, depth+1), frozen)
	case types.KindVector:
		dim := d.uint()
		elem := d.typ(ks, depth+1)
		if dim >= 1 && dim <= vectorDimMax && frozen {
			return types.VectorOf(elem, int(dim))
		}
	case types.KindTuple:
		elems := make([]*types.Type, 0, 4)
		for n := d.count(); n > 0 && d.err == nil; n-- {
			elems = append(elems, d.typ(ks, depth+1))
		}
		if len(elems) > 0 && frozen {
			return types.TupleOf(elems...)
		}
	default:
		if t := scalarType(kind); t != nil && !frozen {
			return t
		}
	}
	d.fail("type")
	return types.Empty
}

// bind returns t with every user type in it replaced by its definition as find returns it, nil when find does not
// know one. A type without user types is returned as it is.
func bind(t *types.Type, find func(name string) *types.Type) *types.Type {
	if t.Kind == types.KindUDT {
		def := find(t.Name)
		if def == nil {
			return nil
		}
		if t.Frozen {
			def = def.Freeze()
		}
		if def.Equal(t) {
			return t
		}
		return def
	}
	var elems []*types.Type
	for i, e := range t.Elems {
		b := bind(e, find)
		if b == nil {
			return nil
		}
		if b != e && elems == nil {
			elems = append(make([]*types.Type, 0, len(t.Elems)), t.Elems...)
		}
		if elems != nil {
			elems[i] = b
		}
	}
	if elems == nil {
		return t
	}
	bound := *t
	bound.Elems = elems
	return &bound
}
