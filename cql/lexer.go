package cql

import "unicode/utf8"

// token is a piece of the statement text, text[start:end], quotes included. line and col are where it starts.
type token struct {
	kind       kind
	escaped    bool // a string or quoted name with doubled quotes inside
	start, end int32
	line, col  int32
}

// lexer cuts a text into tokens, as far as it is asked to. After an error it yields tEOF only.
type lexer struct {
	text      string
	off       int
	line      int32
	lineStart int // offset of the first byte of the line
	narrow    int // bytes less UTF-16 units between lineStart and off: what columns differ from byte offsets
	err       *SyntaxError
}

func newLexer(text string) lexer { return lexer{text: text, line: 1} }

// next returns the next token that is not hidden.
func (l *lexer) next() token {
	for {
		if t := l.scan(); t.kind != tHidden {
			return t
		}
	}
}

// scan returns the next token, tHidden for white space and comments, tEOF at the end and after an error. The end has no
// place, as in Cassandra: 0:-1.
func (l *lexer) scan() token {
	if l.off >= len(l.text) || l.err != nil {
		return token{kind: tEOF, start: int32(len(l.text)), end: int32(len(l.text)), line: 0, col: -1}
	}
	t := token{start: int32(l.off), line: l.line, col: l.col()}
	switch c := l.text[l.off]; {
	case isSpace(c):
		t.kind = l.space()
	case isLetter(c):
		t.kind = l.word()
	case isDigit(c):
		t.kind = l.number(false)
	case c == '\'':
		t.kind, t.escaped = l.quoted('\'', tString)
	case c == '"':
		t.kind, t.escaped = l.quoted('"', tQuoted)
	default:
		t.kind = l.symbol(c)
	}
	if l.err != nil {
		return l.scan()
	}
	t.end = int32(l.off)
	return t
}

func (l *lexer) col() int32 { return int32(l.off - l.lineStart - l.narrow) }

// peek returns the byte n after the current one, 0 beyond the end.
func (l *lexer) peek(n int) byte {
	if l.off+n < len(l.text) {
		return l.text[l.off+n]
	}
	return 0
}

// advance steps over the character at off, whatever it is.
func (l *lexer) advance() {
	c := l.text[l.off]
	if c < utf8.RuneSelf {
		l.off++
		if c == '\n' {
			l.line++
			l.lineStart, l.narrow = l.off, 0
		}
		return
	}
	r, n := utf8.DecodeRuneInString(l.text[l.off:])
	l.off += n
	if r > 0xFFFF {
		l.narrow += n - 2
	} else {
		l.narrow += n - 1
	}
}

// space steps over a run of white space.
func (l *lexer) space() kind {
	for l.off < len(l.text) && isSpace(l.text[l.off]) {
		l.advance()
	}
	return tHidden
}

// word reads an identifier, a keyword, a UUID, an ISO 8601 duration or "expr(".
func (l *lexer) word() kind {
	text := l.text
	start := l.off
	if hexRun(text[start:], 8) == 8 && l.peek(8) == '-' {
		return l.ambiguousNumber(altUUID)
	}
	var lower [keywordLenMax]byte
	end := start
	for end < len(text) && isWord(text[end]) {
		if i := end - start; i < keywordLenMax {
			lower[i] = toLower(text[end])
		}
		end++
	}
	if text[start] == 'P' {
		if n := isoDurationLen(text[start:]); n >= end-start {
			return l.take(n, tDuration)
		}
		if end-start == 5 && digitsLen(text[start+1:end]) == 4 && end < len(text) && text[end] == '-' {
			return l.isoAlternative()
		}
	}
	l.off = end
	if end-start > keywordLenMax {
		return tIdent
	}
	if end < len(text) && text[end] == '(' && text[start:end] == "expr" {
		l.off++
		return tExpr
	}
	return keyword(lower[:end-start])
}

// number reads what starts with a digit at off. signed says that a minus sign went before it.
func (l *lexer) number(signed bool) kind {
	text := l.text[l.off:]
	if !signed && text[0] == '0' && (l.peek(1) == 'x' || l.peek(1) == 'X') {
		return l.take(2+hexRun(text[2:], len(text)), tHex)
	}
	n := digitsLen(text)
	if n == len(text) || !isWord(text[n]) && text[n] != '.' && text[n] != '-' && text[n] < utf8.RuneSelf {
		return l.take(n, tInteger)
	}
	alts := altNumber | altDuration
	if !signed {
		alts |= altUUID
	}
	return l.ambiguousNumber(alts)
}

// quoted reads a string or a quoted name; a doubled quote stands for one.
func (l *lexer) quoted(quote byte, k kind) (kind, bool) {
	escaped := false
	l.off++
	from := l.off
	for l.off < len(l.text) {
		if l.text[l.off] != quote {
			l.advance()
			continue
		}
		l.off++
		if l.peek(0) != quote || l.off >= len(l.text) {
			if k == tQuoted && l.off == from+1 {
				return tEmptyQuoted, false
			}
			return k, escaped
		}
		l.off++
		escaped = true
	}
	if k == tQuoted && l.off == from {
		l.badCharacter()
	} else {
		l.mismatch("'" + string(quote) + "'")
	}
	return tEOF, false
}

// dollarString reads $$...$$.
func (l *lexer) dollarString() kind {
	if l.peek(1) != '$' {
		l.off++
		l.mismatch("'$'")
		return tEOF
	}
	l.off += 2
	for len(l.text)-l.off > 1 {
		if l.text[l.off] == '$' && l.peek(1) == '$' {
			return l.take(2, tString)
		}
		l.advance()
	}
	if l.peek(0) == '$' {
		l.off++
	}
	l.mismatch("'$'")
	return tEOF
}

// symbol reads everything that starts with neither a letter, a digit, a quote nor white space.
func (l *lexer) symbol(c byte) kind {
	switch c {
	case '-':
		return l.minus()
	case '/':
		switch l.peek(1) {
		case '/':
			return l.lineComment()
		case '*':
			return l.blockComment()
		}
		return l.take(1, tSlash)
	case '$':
		return l.dollarString()
	case '.':
		if l.peek(1) == '.' {
			return l.take(2, tRange)
		}
		return l.take(1, tDot)
	case '<', '>', '+', '!':
		return l.operator(c)
	}
	if k := punctuation(c); k != tEOF {
		return l.take(1, k)
	}
	return l.badCharacter()
}

func (l *lexer) take(n int, k kind) kind {
	l.off += n
	return k
}

// operator reads the operators that may end in an equals sign.
func (l *lexer) operator(c byte) kind {
	eq := l.peek(1) == '='
	switch {
	case c == '<' && eq:
		return l.take(2, tLte)
	case c == '<':
		return l.take(1, tLt)
	case c == '>' && eq:
		return l.take(2, tGte)
	case c == '>':
		return l.take(1, tGt)
	case c == '+' && eq:
		return l.take(2, tPlusEq)
	case c == '+':
		return l.take(1, tPlus)
	case eq:
		return l.take(2, tNeq)
	}
	l.off++
	l.mismatch("'='")
	return tEOF
}

// minus reads what starts with a minus sign: a number, a duration, a comment, -NaN, -Infinity, -= or the operator. One
// character decides, so that "-name" is a bad -NaN, as in Cassandra.
func (l *lexer) minus() kind {
	switch c := l.peek(1); {
	case c == '-':
		return l.lineComment()
	case c == '=':
		return l.take(2, tMinusEq)
	case isDigit(c):
		l.off++
		return l.number(true)
	case c == 'P':
		l.off++
		return l.isoDuration()
	case c == 'n' || c == 'N':
		l.off++
		return l.exactly("nan", kNegativeNan)
	case c == 'i' || c == 'I':
		l.off++
		return l.exactly("infinity", kNegativeInfinity)
	}
	return l.take(1, tMinus)
}

// exactly reads word, given in lower case, in any case.
func (l *lexer) exactly(word string, k kind) kind {
	for i := range len(word) {
		if toLower(l.peek(0)) != word[i] {
			l.mismatch("set null")
			return tEOF
		}
		l.off++
	}
	return k
}

// isoDuration reads a duration at its P, nothing else being possible.
func (l *lexer) isoDuration() kind {
	if n := isoDurationLen(l.text[l.off:]); n > 0 {
		return l.take(n, tDuration)
	}
	if digitsLen(l.text[l.off+1:]) == 4 && l.peek(5) == '-' {
		return l.isoAlternative()
	}
	l.off++
	for l.off < len(l.text) && (isDigit(l.peek(0)) || l.peek(0) == 'T') {
		l.off++
	}
	return l.badCharacter()
}

// isoAlternative reads PYYYY-MM-DDThh:mm:ss, nothing else being possible.
func (l *lexer) isoAlternative() kind {
	for i := range len(isoShape) {
		switch {
		case isoShape[i] != '0' && l.peek(0) != isoShape[i]:
			l.mismatch("'" + isoShape[i:i+1] + "'")
			return tEOF
		case isoShape[i] == '0' && !isDigit(l.peek(0)):
			l.mismatch("set null")
			return tEOF
		}
		l.off++
	}
	return tDuration
}

// lineComment steps over -- or // and the rest of the line. Cassandra wants the line to end.
func (l *lexer) lineComment() kind {
	for l.off < len(l.text) {
		c := l.text[l.off]
		l.advance()
		if c == '\n' || c == '\r' {
			return tHidden
		}
	}
	l.fail("mismatched character '<EOF>' expecting set null")
	return tEOF
}

// blockComment steps over /* ... */.
func (l *lexer) blockComment() kind {
	l.off += 2
	for l.off < len(l.text) {
		if l.text[l.off] == '*' && l.peek(1) == '/' {
			return l.take(2, tHidden)
		}
		l.advance()
	}
	l.fail("mismatched character '<EOF>' expecting '*'")
	return tEOF
}

// badCharacter refuses the character at off.
func (l *lexer) badCharacter() kind {
	l.fail("no viable alternative at character " + l.charDisplay())
	return tEOF
}

// mismatch refuses the character at off where another one was wanted.
func (l *lexer) mismatch(expecting string) {
	l.fail("mismatched character " + l.charDisplay() + " expecting " + expecting)
}

// charDisplay shows the character at off.
func (l *lexer) charDisplay() string {
	if l.off >= len(l.text) {
		return "'<EOF>'"
	}
	r, _ := utf8.DecodeRuneInString(l.text[l.off:])
	switch r {
	case '\n':
		return `'\n'`
	case '\r':
		return `'\r'`
	case '\t':
		return `'\t'`
	}
	if r > 0xFFFF {
		return "'?'" // Cassandra sees half of a pair
	}
	return "'" + string(r) + "'"
}

// fail records the first error, at off.
func (l *lexer) fail(msg string) {
	if l.err == nil {
		l.err = &SyntaxError{Line: int(l.line), Col: int(l.col()), Msg: msg}
	}
}

// punctuation returns the kind of a one-byte symbol, tEOF when c is none.
func punctuation(c byte) kind {
	switch c {
	case ';':
		return tSemicolon
	case '(':
		return tLParen
	case ')':
		return tRParen
	case ',':
		return tComma
	case '[':
		return tLBracket
	case ']':
		return tRBracket
	case '{':
		return tLBrace
	case '}':
		return tRBrace
	case ':':
		return tColon
	case '=':
		return tEq
	case '*':
		return tStar
	case '%':
		return tPercent
	case '?':
		return tQmark
	}
	return tEOF
}
