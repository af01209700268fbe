package cql

import (
	"strings"
	"unicode/utf8"
)

// An error message shows the text from snippetBefore tokens (hidden ones count) before the highlighted token to snippetAfter
// tokens after it, if the parser had come that far.
const (
	snippetBefore = 10
	snippetAfter  = 2
	messageMax    = 4096 // bytes of a message: strings of any length can be part of it
)

// cut shortens a message to messageMax.
func cut(msg string) string {
	if len(msg) <= messageMax {
		return msg
	}
	end := messageMax
	for end > 0 && !utf8.RuneStart(msg[end]) {
		end--
	}
	return msg[:end] + "..."
}

var escapeControls = strings.NewReplacer("\n", `\n`, "\r", `\r`, "\t", `\t`)

// shown displays a token in a message.
func (p *parser) shown(t token) string {
	if t.kind == tEOF {
		return "'<EOF>'"
	}
	return "'" + escapeControls.Replace(p.content(t)) + "'"
}

// snippet returns " (...SELECT a [b] FROM...)" around the current token, "" at the end of the text.
func (p *parser) snippet() string {
	from, to, ok := p.snippetRange()
	if !ok {
		return ""
	}
	text := p.lex.text
	first, last := int(from.line)-1, int(to.line)-1
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if first >= len(lines) || last >= len(lines) {
		return ""
	}
	toEnd := int(to.col) + p.width(to)
	whole := last == len(lines)-1 && toEnd == units(lines[last])
	var b strings.Builder
	b.WriteString(" (")
	if first > 0 || from.col > 0 {
		b.WriteString("...")
	}
	for i := first; i <= last; i++ {
		line := lines[i]
		if i == last {
			line = prefixUnits(line, toEnd)
		}
		if i == int(p.tok.line)-1 {
			line = highlight(line, int(p.tok.col), int(p.tok.col)+p.width(p.tok))
		}
		if i == first {
			line = line[len(prefixUnits(line, int(from.col))):]
		}
		b.WriteString(line)
	}
	if !whole {
		b.WriteString("...")
	}
	b.WriteString(")")
	return b.String()
}

// snippetRange returns the first and the last token to show. The last one is never beyond what was fetched.
func (p *parser) snippetRange() (from, to token, ok bool) {
	if p.tok.kind == tEOF {
		return from, to, false
	}
	fetched := p.toks[len(p.toks)-1]
	var ring [snippetBefore + 1]token
	l := newLexer(p.lex.text)
	n := 0
	for {
		t := l.scan()
		if t.kind == tEOF {
			return from, to, false
		}
		ring[n%len(ring)] = t
		if n++; t.start == p.tok.start {
			to = t
			break
		}
	}
	from = ring[max(0, n-1-snippetBefore)%len(ring)]
	for range snippetAfter {
		if to.start == fetched.start {
			break
		}
		if to = l.scan(); to.kind == tEOF {
			return from, to, false
		}
	}
	return from, to, true
}

// width returns the length of a token's content in UTF-16 units. Cassandra takes it for the width of the token, which is off
// by the quotes of strings.
func (p *parser) width(t token) int { return units(p.content(t)) }

// units returns the length of s in UTF-16 units.
func units(s string) int {
	n := 0
	for _, r := range s {
		if n++; r > 0xFFFF {
			n++
		}
	}
	return n
}

// prefixUnits returns the first n UTF-16 units of s, all of s if it is shorter.
func prefixUnits(s string, n int) string {
	for i, r := range s {
		if n <= 0 {
			return s[:i]
		}
		if n--; r > 0xFFFF {
			n--
		}
	}
	return s
}

// highlight puts square brackets around [from, to), in UTF-16 units.
func highlight(line string, from, to int) string {
	a, b := prefixUnits(line, from), prefixUnits(line, to)
	return a + "[" + b[len(a):] + "]" + line[len(b):]
}
