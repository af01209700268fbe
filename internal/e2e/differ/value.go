package differ

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
)

// parseValue reads a bound value: null, unset, 0x and bytes as they are, or a type and a literal: int 5, text 'a',
// list<int> [1, 2], map<text, int> {'a': 1}, tuple<int, text> (1, null).
func parseValue(s string) (protocol.Value, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "null":
		return protocol.Value{State: protocol.Null}, nil
	case s == "unset":
		return protocol.Value{State: protocol.Unset}, nil
	case strings.HasPrefix(s, "0x"):
		b, err := hex.DecodeString(s[2:])
		return protocol.Value{Bytes: append([]byte{}, b...)}, err
	}
	at := typeEnd(s)
	if at < 0 {
		return protocol.Value{}, fmt.Errorf("differ: value %q has no type", s)
	}
	t, err := types.Parse(s[:at], nil, "")
	if err != nil {
		return protocol.Value{}, fmt.Errorf("differ: value %q: %w", s, err)
	}
	b, err := encode(t, strings.TrimSpace(s[at:]))
	if err != nil {
		return protocol.Value{}, fmt.Errorf("differ: value %q: %w", s, err)
	}
	return protocol.Value{Bytes: b}, nil
}

// typeEnd is the index of the first space outside angle brackets.
func typeEnd(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '<':
			depth++
		case '>':
			depth--
		case ' ':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

func encode(t *types.Type, s string) ([]byte, error) {
	switch t.Kind {
	case types.KindList, types.KindSet, types.KindVector:
		elems, err := encodeAll(func(int) *types.Type { return t.Elems[0] }, splitTop(s[1:len(s)-1], ','))
		if err != nil {
			return nil, err
		}
		if t.Kind == types.KindVector {
			return t.AppendVector(nil, elems), nil
		}
		return t.AppendCollection(nil, elems), nil
	case types.KindMap:
		var flat []string
		for _, pair := range splitTop(s[1:len(s)-1], ',') {
			flat = append(flat, splitTop(pair, ':')...)
		}
		elems, err := encodeAll(func(i int) *types.Type { return t.Elems[i%2] }, flat)
		return t.AppendCollection(nil, elems), err
	case types.KindTuple:
		elems, err := encodeAll(func(i int) *types.Type { return t.Elems[min(i, len(t.Elems)-1)] }, splitTop(s[1:len(s)-1], ','))
		return types.AppendTuple(nil, elems), err
	}
	if strings.HasPrefix(s, "0x") && t.Kind != types.KindBlob {
		return hex.DecodeString(s[2:])
	}
	return t.ParseLiteral(strings.Trim(s, "'"))
}

func encodeAll(t func(int) *types.Type, parts []string) ([][]byte, error) {
	var out [][]byte
	for i, p := range parts {
		if p == "null" {
			out = append(out, nil)
			continue
		}
		b, err := encode(t(i), p)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// splitTop splits at sep outside quotes and brackets; parts are trimmed, and an empty text has none.
func splitTop(s string, sep byte) []string {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	var out []string
	depth, start, quoted := 0, 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case strings.IndexByte("([{<", c) >= 0:
			depth++
		case strings.IndexByte(")]}>", c) >= 0:
			depth--
		case c == sep && depth == 0:
			out = append(out, strings.TrimSpace(s[start:i]))
			start = i + 1
		}
	}
	return append(out, strings.TrimSpace(s[start:]))
}
