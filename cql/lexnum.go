package cql

import "strings"

func isSpace(c byte) bool  { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isWord(c byte) bool   { return isLetter(c) || isDigit(c) || c == '_' }
func isHex(c byte) bool    { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

func toLower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// digitsLen returns the length of the run of digits that s starts with.
func digitsLen(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

// hexRun returns the length of the run of hex digits that s starts with, at most limit.
func hexRun(s string, limit int) int {
	n := 0
	for n < len(s) && n < limit && isHex(s[n]) {
		n++
	}
	return n
}

// alternatives are the tokens that a number at hand can still turn out to be.
type alternatives uint8

const (
	altNumber alternatives = 1 << iota
	altDuration
	altUUID
)

// ambiguousNumber reads a token of one of the given alternatives. Like Cassandra's lexer it follows all of them at once and
// forgets those that cannot take the next character, even when they could have ended before it: 1h30 and 1abc are errors
// and not two tokens.
func (l *lexer) ambiguousNumber(alts alternatives) kind {
	m := numberMatcher{alts: alts, number: inInteger, duration: inDigits}
	for l.off < len(l.text) {
		n := m.step(l.text[l.off:])
		if n == 0 {
			break
		}
		l.off += n
		l.narrow += n - 1
	}
	switch {
	case m.alts&altNumber != 0 && m.number == inInteger:
		return tInteger
	case m.alts&altNumber != 0 && (m.number == inFraction || m.number == inExponent):
		return tFloat
	case m.alts&altDuration != 0 && (m.duration == afterUnit || m.duration == afterM):
		return tDuration
	case m.alts == altUUID && m.uuid == uuidLen:
		return tUUID
	case m.alts == altUUID && uuidDash(m.uuid):
		l.mismatch("'-'")
	case m.alts == altUUID, m.alts == altDuration && m.duration == wantSecond:
		l.mismatch("set null")
	case m.alts == altNumber:
		l.fail("required (...)+ loop did not match anything at character " + l.charDisplay())
	default:
		l.badCharacter()
	}
	return tEOF
}

type numberState uint8

const (
	inInteger  numberState = iota // may end
	inFraction                    // may end
	afterE
	afterSign
	inExponent // may end
)

type durationState uint8

const (
	inDigits durationState = iota
	afterUnit
	afterM     // may end, or go on to mo or ms
	wantSecond // after u, n or the micro sign
)

// numberMatcher follows the alternatives through a number.
type numberMatcher struct {
	alts     alternatives
	number   numberState
	duration durationState
	uuid     int // characters taken
}

const uuidLen = 36

func uuidDash(i int) bool { return i == 8 || i == 13 || i == 18 || i == 23 }

// step takes the character that s starts with and returns its length in bytes, 0 when no alternative takes it.
func (m *numberMatcher) step(s string) int {
	var left alternatives
	length := 1
	if m.alts&altNumber != 0 && m.stepNumber(s) {
		left |= altNumber
	}
	if m.alts&altDuration != 0 {
		if n := m.stepDuration(s); n > 0 {
			left |= altDuration
			length = n
		}
	}
	if m.alts&altUUID != 0 && m.uuid < uuidLen && (uuidDash(m.uuid) && s[0] == '-' || !uuidDash(m.uuid) && isHex(s[0])) {
		left |= altUUID
		m.uuid++
	}
	if left == 0 {
		return 0
	}
	m.alts = left
	return length
}

// stepNumber: digits, a fraction, an exponent. "1..2" is the integer 1 and a range, "1...2" the float "1." and a range.
func (m *numberMatcher) stepNumber(s string) bool {
	c := s[0]
	switch m.number {
	case inInteger, inFraction:
		switch {
		case isDigit(c):
		case c == '.' && m.number == inInteger && (!strings.HasPrefix(s, "..") || strings.HasPrefix(s, "...")):
			m.number = inFraction
		case c|0x20 == 'e':
			m.number = afterE
		default:
			return false
		}
		return true
	case afterE:
		if c == '+' || c == '-' {
			m.number = afterSign
			return true
		}
	}
	if !isDigit(c) {
		return false
	}
	m.number = inExponent
	return true
}

// stepDuration: 1y2mo3w4d5h6m7s8ms9us10ns. It returns the length of the character, 0 if it does not fit.
func (m *numberMatcher) stepDuration(s string) int {
	c := s[0] | 0x20
	switch {
	case m.duration == wantSecond:
		if c != 's' {
			return 0
		}
		m.duration = afterUnit
	case isDigit(s[0]):
		m.duration = inDigits
	case m.duration == afterM && (c == 'o' || c == 's'):
		m.duration = afterUnit
	case m.duration != inDigits:
		return 0
	case c == 'y' || c == 'w' || c == 'd' || c == 'h' || c == 's':
		m.duration = afterUnit
	case c == 'm':
		m.duration = afterM
	case c == 'u' || c == 'n':
		m.duration = wantSecond
	case strings.HasPrefix(s, "\u00b5"):
		m.duration = wantSecond
		return len("\u00b5")
	default:
		return 0
	}
	return 1
}

// isoDurationLen returns the length of the unsigned ISO 8601 duration that s starts with, 0 if it does not: P1Y2M3DT4H5M6S,
// P2W or P0001-02-03T04:05:06.
func isoDurationLen(s string) int {
	if len(s) < 2 || s[0] != 'P' {
		return 0
	}
	if n := isoAlternativeLen(s); n > 0 {
		return n
	}
	if n := digitsLen(s[1:]); n > 0 && 1+n < len(s) && s[1+n] == 'W' {
		return n + 2
	}
	n := designatorsLen(s[1:], "YMD")
	if 1+n < len(s) && s[1+n] == 'T' {
		if t := designatorsLen(s[n+2:], "HMS"); t > 0 {
			return n + 2 + t
		}
	}
	if n == 0 {
		return 0
	}
	return n + 1
}

// designatorsLen returns the length of the run of <digits><designator> that s starts with; designators come in the order
// of the list, each at most once.
func designatorsLen(s, designators string) int {
	length := 0
	for {
		digits := digitsLen(s[length:])
		if digits == 0 || length+digits >= len(s) {
			return length
		}
		at := strings.IndexByte(designators, s[length+digits])
		if at < 0 {
			return length
		}
		designators = designators[at+1:]
		length += digits + 1
	}
}

const isoShape = "P0000-00-00T00:00:00" // 0 stands for a digit

// isoAlternativeLen returns the length of PYYYY-MM-DDThh:mm:ss when s starts with it, else 0.
func isoAlternativeLen(s string) int {
	if len(s) < len(isoShape) {
		return 0
	}
	for i := range len(isoShape) {
		if isoShape[i] == '0' && !isDigit(s[i]) || isoShape[i] != '0' && s[i] != isoShape[i] {
			return 0
		}
	}
	return len(isoShape)
}
