package cql

// properties reads property {AND property}.
func (p *parser) properties() []Property {
	var ps propertyList
	for first := true; first || p.accept(kAnd); first = false {
		p.property(&ps)
	}
	return ps.list
}

// propertyList collects properties with unique names.
type propertyList struct {
	list  []Property
	names nameSet
}

// property reads name = constant, name = keyword or name = {map}.
func (p *parser) property(ps *propertyList) {
	switch {
	case !p.tok.kind.identLike():
		p.noViable(0)
	case p.la(1) != tEq:
		p.noViable(1)
	default:
		if k := p.la(2); k != tLBrace && !k.constant() && !k.unreserved() {
			p.noViable(2)
		}
	}
	prop := Property{Pos: p.pos0()}
	prop.Name = p.ident().Name
	p.expect(tEq)
	switch {
	case p.at(tLBrace):
		prop.IsMap = true
		prop.Map = p.propertyMap()
	case p.tok.kind.nativeType():
		prop.Value = nativeTypeName(p.tok.kind)
		p.advance()
	case p.tok.kind.unreserved():
		prop.Value = p.raw()
		p.advance()
	default:
		prop.Value = p.constant().Text
	}
	if p.err == nil && !ps.names.add(prop.Name) {
		p.refuse("Multiple definitions for property '%s'", prop.Name)
	}
	ps.list = append(ps.list, prop)
}

// propertyMap reads {key: value, ...}, constants all.
func (p *parser) propertyMap() []PropertyEntry {
	type pair struct{ key, value Term }
	var pairs []pair
	p.expect(tLBrace)
	for more := startsTerm(p.tok.kind); more; more = p.accept(tComma) {
		key := p.term()
		p.expect(tColon)
		pairs = append(pairs, pair{key, p.term()})
	}
	p.expect(tRBrace)
	if p.err != nil {
		return nil
	}
	var names nameSet
	entries := make([]PropertyEntry, 0, len(pairs))
	for _, e := range pairs {
		key, isConstant := e.key.(*Literal)
		if !isConstant {
			p.refuse("Invalid property name: %s%s", Format(e.key), ddlMarkerHint(e.key))
			return nil
		}
		value, isConstant := e.value.(*Literal)
		if !isConstant {
			p.refuse("Invalid property value: %s for property: %s%s", Format(e.value), Format(e.key), ddlMarkerHint(e.value))
			return nil
		}
		if !names.add(key.Text) {
			p.refuse("Multiple definition for property %s", key.Text)
			return nil
		}
		entries = append(entries, PropertyEntry{key.Text, value.Text})
	}
	return entries
}

func ddlMarkerHint(t Term) string {
	if _, ok := t.(*Marker); ok {
		return " (bind variables are not supported in DDL queries)"
	}
	return ""
}
