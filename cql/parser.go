package cql

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of what Parse accepts. Beyond them it answers with an *InvalidError.
const (
	statementBytesMax = 256 << 20 // the longest frame of the native protocol
	nestingMax        = 500       // brackets within brackets, operators in a row, selections of selections
	markersMax        = 65535     // the protocol counts bound values in 16 bits
)

// Parse returns the statement that text holds; it may end in semicolons. The tree aliases text. The error is a
// *SyntaxError or an *InvalidError. Linear in the length of text; safe for concurrent use.
func Parse(text string) (Statement, error) {
	if len(text) > statementBytesMax {
		return nil, &InvalidError{fmt.Sprintf("Statement of %d bytes exceeds the maximum of %d", len(text), statementBytesMax)}
	}
	p := parser{lex: newLexer(text)}
	return p.parse()
}

// parse reads the whole text.
func (p *parser) parse() (Statement, error) {
	p.toks = p.first[:0]
	p.seek(0)
	s := p.statement()
	for p.accept(tSemicolon) {
	}
	p.expect(tEOF)
	if p.err != nil {
		return nil, p.err
	}
	if len(p.markers) > markersMax {
		return nil, &InvalidError{fmt.Sprintf("Too many markers(?). %d markers exceed the allowed maximum of %d", len(p.markers), markersMax)}
	}
	s.setMarkers(p.markers)
	return s, nil
}

// parser is a recursive descent over the tokens of one statement.
//
// The first error is final: fail records it and turns the current token into the end of the text, which no loop and no
// expectation survives, so that the rules need not look at p.err.
//
// Error texts follow Cassandra's parser, which ANTLR 3 generated. Where one token decides, a wrong one is reported and
// highlighted itself. Where several decide, the first that fits no alternative is reported, but the token where the decision
// began is highlighted: noViable(n) does that. The few places where that parser tries an alternative and goes back use
// attempt.
type parser struct {
	lex      lexer
	toks     []token // fetched so far, hidden ones left out; the first ones may have been dropped
	pos      int     // of tok in toks
	tok      token   // current; tEOF after an error
	err      error
	attempts int // in how many attempts we are
	depth    int
	markers  []Marker
	steps    int // tokens gone to, again after an attempt: a measure of work for tests
	first    [32]token
}

// tokensKept is how many used tokens are kept before they are dropped in one go.
const tokensKept = 1024

// advance goes to the next token, fetching it.
func (p *parser) advance() {
	if p.attempts == 0 && p.pos > tokensKept && p.pos > len(p.toks)/2 {
		p.toks = append(p.toks[:0], p.toks[p.pos:]...)
		p.pos = 0
	}
	p.seek(p.pos + 1)
}

// seek makes the token at pos the current one.
func (p *parser) seek(pos int) {
	p.steps++
	p.fetch(pos)
	if p.err == nil {
		p.pos = min(pos, len(p.toks)-1)
		p.tok = p.toks[p.pos]
	}
}

// fetch has tokens up to pos, or up to the end of the text, in toks. An error of the lexer is final even in an attempt.
func (p *parser) fetch(pos int) {
	for len(p.toks) <= pos {
		if n := len(p.toks); n > 0 && p.toks[n-1].kind == tEOF {
			return
		}
		p.toks = append(p.toks, p.lex.next())
		if p.lex.err != nil {
			p.stop(p.lex.err)
		}
	}
}

// la returns the kind of the token n after the current one.
func (p *parser) la(n int) kind {
	if p.err != nil {
		return tEOF
	}
	p.fetch(p.pos + n)
	return p.toks[min(p.pos+n, len(p.toks)-1)].kind
}

// overlook fetches the token n after the current one, for no other reason than that Cassandra's parser does at this place:
// an error message shows no text behind what was fetched.
func (p *parser) overlook(n int) {
	if p.err == nil {
		p.fetch(p.pos + n)
	}
}

func (p *parser) at(k kind) bool { return p.tok.kind == k }

// accept steps over k if it is the current token.
func (p *parser) accept(k kind) bool {
	if p.tok.kind != k || p.err != nil {
		return false
	}
	p.advance()
	return true
}

// expect steps over k or fails.
func (p *parser) expect(k kind) bool {
	if p.tok.kind != k {
		p.mismatch(k)
		return false
	}
	if k != tEOF {
		p.advance()
	}
	return p.err == nil
}

// expect2 is expect of two tokens, such as IF EXISTS.
func (p *parser) expect2(a, b kind) bool { return p.expect(a) && p.expect(b) }

func (p *parser) pos0() Pos { return Pos{p.tok.line, p.tok.col} }

// raw returns the current token as written.
func (p *parser) raw() string { return p.lex.text[p.tok.start:p.tok.end] }

// content returns what Cassandra calls the text of a token: strings and quoted names are without their quotes, but the empty
// quoted name has them.
func (p *parser) content(t token) string {
	s := p.lex.text[t.start:t.end]
	switch t.kind {
	case tString:
		if s[0] == '$' {
			return s[2 : len(s)-2]
		}
		s = s[1 : len(s)-1]
		if t.escaped {
			s = strings.ReplaceAll(s, "''", "'")
		}
	case tQuoted:
		s = s[1 : len(s)-1]
		if t.escaped {
			s = strings.ReplaceAll(s, `""`, `"`)
		}
	}
	return s
}

// stop makes err the outcome, unless there is one.
func (p *parser) stop(err error) {
	if p.err == nil {
		p.err = err
	}
	p.tok.kind = tEOF
}

// errAttempt is the error inside attempts: nobody sees it.
var errAttempt = errors.New("cql: attempt failed")

// refuse fails with a message of Cassandra's that names no place. Attempts ignore it, as actions do not run in them.
func (p *parser) refuse(format string, args ...any) {
	if p.attempts == 0 && p.err == nil {
		p.stop(&SyntaxError{Line: noPlace, Msg: fmt.Sprintf(format, args...)})
	}
}

// invalid fails with a message of Cassandra's that is not about syntax.
func (p *parser) invalid(format string, args ...any) {
	if p.attempts == 0 && p.err == nil {
		p.stop(&InvalidError{fmt.Sprintf(format, args...)})
	}
}

// mismatch fails at the current token, where k should be.
func (p *parser) mismatch(k kind) {
	p.fail(0, func(shown string) string { return "mismatched input " + shown + " expecting " + k.name() })
}

// mismatchSet fails at the current token, where one of several should be.
func (p *parser) mismatchSet() {
	p.fail(0, func(shown string) string { return "mismatched input " + shown + " expecting set null" })
}

// noViable fails at the token n after the current one, which is highlighted as the place where the decision began.
func (p *parser) noViable(n int) {
	p.fail(n, func(shown string) string { return "no viable alternative at input " + shown })
}

func (p *parser) fail(n int, msg func(shown string) string) {
	if p.err != nil {
		return
	}
	if p.attempts > 0 {
		p.stop(errAttempt)
		return
	}
	p.fetch(p.pos + n)
	if p.err != nil {
		return
	}
	bad := p.toks[min(p.pos+n, len(p.toks)-1)]
	text := msg(p.shown(bad)) + p.snippet()
	p.stop(&SyntaxError{Line: int(bad.line), Col: int(bad.col), Msg: cut(text)})
}

// attempt runs rule. If that fails, it goes back to where it was and returns false.
func (p *parser) attempt(rule func()) bool {
	if p.err != nil {
		return false
	}
	pos, marked, depth := p.pos, len(p.markers), p.depth
	p.attempts++
	rule()
	p.attempts--
	if p.err == nil {
		return true
	}
	if errors.Is(p.err, errAttempt) {
		p.err = nil
		p.pos, p.markers, p.depth = pos, p.markers[:marked], depth
		p.tok = p.toks[pos]
	}
	return false
}

// enter counts a level of nesting; each call is paired with leave.
func (p *parser) enter() {
	if p.depth++; p.depth > nestingMax && p.err == nil {
		p.stop(&InvalidError{fmt.Sprintf("Statement is nested more than %d levels deep", nestingMax)})
	}
}

func (p *parser) leave() { p.depth-- }
