package schema

import (
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/internal/cqlident"
)

// typeResolver turns TypeSpecs into types, with Cassandra's checks of what may stand in what.
type typeResolver struct {
	keyspace string
	find     func(ks, name string) (*types.Type, bool)
}

func (r typeResolver) resolve(s TypeSpec) (*types.Type, error) {
	if err := s.checkFrozen(0); err != nil {
		return nil, err
	}
	t, err := r.prepare(s.normalize(false))
	if err != nil {
		return nil, err
	}
	return t, checkSize(t)
}

// checkFrozen finds frozen<> where it may not stand, and limits the depth.
func (s *TypeSpec) checkFrozen(depth int) error {
	if depth > typeDepthMax {
		return tooLargeType()
	}
	if s.Frozen && s.Kind == TypeNative {
		return syntax("frozen<> is only allowed on collections, tuples, and user-defined types (got %s)", s.Name)
	}
	for i := range s.Elems {
		if err := s.Elems[i].checkFrozen(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// freezable reports whether frozen<> changes s.
func (s *TypeSpec) freezable() bool {
	switch s.Kind {
	case TypeNative, TypeCustom, TypeVector:
		return false
	}
	return true
}

// normalize hands frozen<> down: what is inside a frozen type is frozen, and a tuple is always.
func (s TypeSpec) normalize(frozen bool) TypeSpec {
	if !s.freezable() {
		s.Frozen = false
	} else if frozen || s.Kind == TypeTuple {
		s.Frozen = true
	}
	elems := make([]TypeSpec, len(s.Elems))
	for i, e := range s.Elems {
		elems[i] = e.normalize(s.Frozen)
	}
	s.Elems = elems
	return s
}

// prepare resolves a normalized spec.
func (r typeResolver) prepare(s TypeSpec) (*types.Type, error) {
	switch s.Kind {
	case TypeNative:
		return nativeType(s.Name)
	case TypeCustom:
		return customType(s.Name)
	case TypeUser:
		return r.userType(s)
	case TypeList, TypeSet, TypeMap:
		if err := s.checkCollection(); err != nil {
			return nil, err
		}
	case TypeTuple:
		for i := range s.Elems {
			if s.Elems[i].native("counter") {
				return nil, invalid("Counters are not allowed inside tuples")
			}
		}
	case TypeVector:
		if s.Dim < 1 {
			return nil, invalid("vectors may only have positive dimensions; given %d", s.Dim)
		}
		if s.Dim > vectorDimMax {
			return nil, invalid("vectors may have at most %d dimensions; given %d", vectorDimMax, s.Dim)
		}
	}
	elems := make([]*types.Type, len(s.Elems))
	// Cassandra resolves the value of a map before its key, and the first error is the one reported.
	for i := len(elems) - 1; i >= 0; i-- {
		j := i
		if s.Kind == TypeTuple {
			j = len(elems) - 1 - i
		}
		t, err := r.prepare(s.Elems[j])
		if err != nil {
			return nil, err
		}
		elems[j] = t
	}
	switch s.Kind {
	case TypeList:
		return types.ListOf(elems[0], s.Frozen), nil
	case TypeSet:
		return types.SetOf(elems[0], s.Frozen), nil
	case TypeMap:
		return types.MapOf(elems[0], elems[1], s.Frozen), nil
	case TypeVector:
		return types.VectorOf(elems[0], s.Dim), nil
	}
	return types.TupleOf(elems...), nil
}

func (s *TypeSpec) native(name string) bool { return s.Kind == TypeNative && s.Name == name }

func (s *TypeSpec) checkCollection() error {
	value := &s.Elems[len(s.Elems)-1]
	if err := s.checkNested(value); err != nil {
		return err
	}
	if value.native("counter") {
		return invalid("Counters are not allowed inside collections: %s", s.text(""))
	}
	if s.Kind == TypeSet && value.native("duration") {
		return invalid("Durations are not allowed inside sets: %s", s.text(""))
	}
	if s.Kind != TypeMap {
		return nil
	}
	key := &s.Elems[0]
	if key.native("counter") {
		return invalid("Counters are not allowed inside collections: %s", s.text(""))
	}
	if key.native("duration") {
		return invalid("Durations are not allowed as map keys: %s", s.text(""))
	}
	return s.checkNested(key)
}

func (s *TypeSpec) checkNested(elem *TypeSpec) error {
	if s.Frozen || !elem.freezable() || elem.Frozen {
		return nil
	}
	if elem.Kind == TypeUser {
		return invalid("Non-frozen UDTs are not allowed inside collections: %s", s.text(""))
	}
	return invalid("Non-frozen collections are not allowed inside collections: %s", s.text(""))
}

func (r typeResolver) userType(s TypeSpec) (*types.Type, error) {
	if s.Keyspace != "" && s.Keyspace != r.keyspace {
		return nil, invalid("Statement on keyspace %s cannot refer to a user type in keyspace %s; "+
			"user types can only be used in the keyspace they are defined in", r.keyspace, s.Keyspace)
	}
	t, ok := r.find(r.keyspace, s.Name)
	if !ok {
		return nil, invalid("Unknown type %s.%s", r.keyspace, s.Name)
	}
	if s.Frozen {
		return t.Freeze(), nil
	}
	return t, nil
}

// text returns the spec as Cassandra prints it in errors. ks qualifies user types that name no keyspace; "" leaves
// them as they were written.
func (s *TypeSpec) text(ks string) string {
	var b strings.Builder
	switch s.Kind {
	case TypeNative:
		return s.Name
	case TypeCustom:
		return "'" + s.Name + "'"
	case TypeUser:
		b.WriteString(s.Name)
		if s.Keyspace != "" {
			ks = s.Keyspace
		}
		if ks != "" {
			b.Reset()
			b.WriteString(ks + "." + s.Name)
		}
	default:
		b.WriteString(map[TypeSpecKind]string{TypeList: "list", TypeSet: "set", TypeMap: "map", TypeTuple: "tuple", TypeVector: "vector"}[s.Kind])
		b.WriteByte('<')
		for i := range s.Elems {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(s.Elems[i].text(ks))
		}
		if s.Kind == TypeVector {
			b.WriteString(", " + strconv.Itoa(s.Dim))
		}
		b.WriteByte('>')
	}
	if s.Frozen && s.Kind != TypeTuple {
		return "frozen<" + b.String() + ">"
	}
	return b.String()
}

func nativeType(name string) (*types.Type, error) {
	for _, k := range nativeKinds {
		if t := types.Scalar(k); t.String() == name {
			return t, nil
		}
	}
	if name == "varchar" {
		return types.Text, nil
	}
	return nil, invalid("Unknown type %s", name)
}

var nativeKinds = [...]types.Kind{
	types.KindAscii, types.KindBigint, types.KindBlob, types.KindBoolean, types.KindCounter, types.KindDate,
	types.KindDecimal, types.KindDouble, types.KindDuration, types.KindFloat, types.KindInet, types.KindInt,
	types.KindSmallint, types.KindText, types.KindTime, types.KindTimestamp, types.KindTimeuuid, types.KindTinyint,
	types.KindUuid, types.KindVarint,
}

const marshalPackage = "org.apache.cassandra.db.marshal."

// customType reads a Java class name, written as a string literal where a type is expected: the native types,
// collections and tuples have names of this kind too. Other classes are not known.
func customType(class string) (*types.Type, error) {
	p := classParser{src: class}
	t := p.parse(0)
	if t == nil || p.src != "" {
		name, _, _ := strings.Cut(class, "(")
		if !strings.Contains(name, ".") {
			name = marshalPackage + name
		}
		return nil, syntax("Error setting type %s: Unable to find abstract-type class '%s'", class, name)
	}
	return t, nil
}

// classParser reads class names with arguments in parentheses.
type classParser struct{ src string }

func (p *classParser) parse(depth int) *types.Type {
	if depth > typeDepthMax {
		return nil
	}
	end := strings.IndexAny(p.src, "(,)")
	if end < 0 {
		end = len(p.src)
	}
	name := strings.TrimPrefix(strings.TrimSpace(p.src[:end]), marshalPackage)
	p.src = p.src[end:]
	var args []*types.Type
	if strings.HasPrefix(p.src, "(") {
		for sep := "("; strings.HasPrefix(p.src, sep); sep = "," {
			p.src = p.src[1:]
			t := p.parse(depth + 1)
			if t == nil {
				return nil
			}
			args = append(args, t)
		}
		if !strings.HasPrefix(p.src, ")") {
			return nil
		}
		p.src = p.src[1:]
	}
	return classType(name, args)
}

func classType(name string, args []*types.Type) *types.Type {
	switch {
	case name == "ListType" && len(args) == 1:
		return types.ListOf(args[0], false)
	case name == "SetType" && len(args) == 1:
		return types.SetOf(args[0], false)
	case name == "MapType" && len(args) == 2:
		return types.MapOf(args[0], args[1], false)
	case name == "FrozenType" && len(args) == 1:
		return args[0].Freeze()
	case name == "TupleType" && len(args) > 0:
		return types.TupleOf(args...)
	case name == "DateType" && len(args) == 0:
		return types.Timestamp
	case len(args) == 0:
		for _, k := range nativeKinds {
			if t := types.Scalar(k); t.JavaName() == marshalPackage+name {
				return t
			}
		}
	}
	return nil
}

// keyTypeText returns a type as CREATE TABLE's errors about key columns print it: Cassandra quotes the qualified name
// of a user type as if it were one identifier.
func keyTypeText(t *types.Type) string {
	if t.Kind == types.KindUDT {
		return cqlident.Quote(t.Keyspace + "." + t.Name)
	}
	return t.String()
}
