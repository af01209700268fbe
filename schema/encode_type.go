package schema

import (
	"errors"

	"github.com/helenusdb/helenus/cql/types"
)

// typeDepthMax bounds how deep types may nest, in statements and in encodings.
const typeDepthMax = 64

// typePartsMax bounds how many types a type is made of, those inside the user types it uses included: types that use
// one another twice would otherwise double with each level.
const typePartsMax = 1 << 12

// errTypeSize is matched by errors about a type beyond these bounds.
var errTypeSize = errors.New("type too large")

// weight is the size of a type.
type weight struct{ parts, depth int }

func (w weight) tooLarge() bool { return w.parts > typePartsMax || w.depth > typeDepthMax }

// weigh returns the size of t; sizes of user types come from known. It stops soon after the bound is passed.
func weigh(t *types.Type, known func(t *types.Type) (weight, bool)) weight {
	if t.Kind == types.KindUDT {
		if w, ok := known(t); ok {
			return w
		}
	}
	w := weight{parts: 1, depth: 1}
	for _, e := range t.Elems {
		inner := weigh(e, known)
		w.parts += inner.parts
		w.depth = max(w.depth, inner.depth+1)
		if w.tooLarge() {
			return w
		}
	}
	return w
}

// checkSize returns an error when a resolved type is too large.
func checkSize(t *types.Type) error {
	if weigh(t, func(*types.Type) (weight, bool) { return weight{}, false }).tooLarge() {
		return tooLargeType()
	}
	return nil
}

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
		return types.ListOf(d.elem(ks, depth), frozen)
	case types.KindSet:
		return types.SetOf(d.elem(ks, depth), frozen)
	case types.KindMap:
		key := d.elem(ks, depth)
		return types.MapOf(key, d.elem(ks, depth), frozen)
	case types.KindVector:
		dim := d.uint()
		elem := d.elem(ks, depth)
		if dim >= 1 && dim <= vectorDimMax && frozen {
			return types.VectorOf(elem, int(dim))
		}
	case types.KindTuple:
		elems := make([]*types.Type, 0, 4)
		for n := d.count(); n > 0 && d.err == nil; n-- {
			elems = append(elems, d.elem(ks, depth))
		}
		if len(elems) > 0 && frozen {
			return types.TupleOf(elems...)
		}
	default:
		if t := types.Scalar(kind); t != nil && !frozen {
			return t
		}
	}
	d.fail("type")
	return types.Empty
}

// elem reads a type inside another one. Only what is outermost may have cells of its own.
func (d *decoder) elem(ks string, depth int) *types.Type {
	t := d.typ(ks, depth+1)
	if t.MultiCell() {
		d.fail("unfrozen type inside another one")
		return types.Empty
	}
	return t
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
