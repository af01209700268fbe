package shell

import (
	"errors"
	"fmt"
	"strings"
)

// statementMax bounds what a Splitter holds, in bytes: a server would refuse a longer request.
const statementMax = 16 << 20

// ErrTooLong is returned for a statement of more than 16 MiB.
var ErrTooLong = errors.New("statement is longer than 16 MiB")

// Statement is one statement or command, without its terminator and without comments around it.
type Statement struct {
	Text string
	Line int // of its first word, counted from 1
}

// Splitter cuts lines of input into statements. A statement ends with a semicolon outside of strings, quoted names,
// $$ blocks, comments and BEGIN BATCH ... APPLY BATCH; the shell's own commands end with their line, too. The zero value is
// ready.
type Splitter struct {
	buf  []byte
	pos  int // next byte to look at
	line int // lines before pos
	mode mode

	start, end int // of the statement: first byte, and after its last one that is no comment; start < 0: none yet
	startLine  int
	begun      bool

	word   []byte    // the word that is being read, in upper case, cut
	words  int       // words before it
	first  string    // first word
	recent [2]string // the last two words
	batch  bool      // in BEGIN ... BATCH
}

type mode uint8

const (
	inText mode = iota
	inString
	inName
	inDollars
	inLineComment
	inBlockComment
)

// wordMax is more than the longest word that matters here, in bytes.
const wordMax = 16

// Add appends input, which should end at the end of a line. Error: ErrTooLong, when one statement grows out of bounds;
// the splitter is then empty.
func (s *Splitter) Add(text string) error {
	if len(s.buf)+len(text) > statementMax && s.compact()+len(text) > statementMax {
		s.Reset()
		return ErrTooLong
	}
	s.buf = append(s.buf, text...)
	return nil
}

// compact drops what has been returned and returns the length of the rest.
func (s *Splitter) compact() int {
	from := s.pos
	if s.begun {
		from = s.start
	}
	s.buf = s.buf[:copy(s.buf, s.buf[from:])]
	s.pos -= from
	s.start -= from
	s.end -= from
	return len(s.buf)
}

// Reset forgets an unfinished statement. The count of lines goes on.
func (s *Splitter) Reset() { *s = Splitter{line: s.line + strings.Count(string(s.buf[s.pos:]), "\n")} }

// Pending returns what has begun and not ended, "" when there is nothing but space and comments.
func (s *Splitter) Pending() string {
	if !s.begun {
		return ""
	}
	return string(s.buf[s.start:])
}

// Open reports whether the input so far ends inside a string, a quoted name, a $$ block or a comment of several lines.
func (s *Splitter) Open() bool { return s.mode != inText && s.mode != inLineComment }

// Rest ends the input. It returns the unfinished statement, if there is one; the error says that it is unfinished for
// sure: a quote or a batch is open.
func (s *Splitter) Rest() (st Statement, ok bool, err error) {
	what := ""
	switch s.mode {
	case inString:
		what = "string"
	case inName:
		what = "quoted name"
	case inDollars:
		what = "$$ block"
	case inBlockComment:
		what = "comment"
	}
	s.endWord()
	if what == "" && s.batch && !s.batchEnds() {
		what = "batch"
	}
	if what != "" && (s.begun || s.mode == inBlockComment) {
		line := s.startLine
		if !s.begun {
			line = s.line + 1
		}
		s.Reset()
		return Statement{Line: line}, false, fmt.Errorf("incomplete statement at end of input: a %s is not closed", what)
	}
	if !s.begun {
		return Statement{}, false, nil
	}
	st = Statement{Text: string(s.buf[s.start:s.end]), Line: s.startLine}
	s.Reset()
	return st, true, nil
}

// Next returns the next statement that is complete.
func (s *Splitter) Next() (Statement, bool) {
	for s.pos < len(s.buf) {
		if st, ok := s.step(); ok {
			return st, true
		}
	}
	if !s.begun {
		s.compact()
	}
	return Statement{}, false
}

// step consumes a byte, or two that belong together. Input comes in whole lines, so what belongs together is there.
func (s *Splitter) step() (Statement, bool) {
	c, next := s.buf[s.pos], byte(0)
	if s.pos+1 < len(s.buf) {
		next = s.buf[s.pos+1]
	}
	at := s.pos
	s.pos++
	if c == '\n' {
		s.line++
	}
	switch s.mode {
	case inString, inName:
		if c == '\'' && s.mode == inString || c == '"' && s.mode == inName {
			s.mode = inText // a doubled quote opens it again
		}
		s.end = s.pos
	case inDollars:
		if c == '$' && next == '$' {
			s.pos++
			s.mode = inText
		}
		s.end = s.pos
	case inLineComment:
		if c == '\n' || c == '\r' {
			s.mode = inText
			return s.endOfLine()
		}
	case inBlockComment:
		if c == '*' && next == '/' {
			s.pos++
			s.mode = inText
		}
	case inText:
		return s.text(at, c, next)
	}
	return Statement{}, false
}

func (s *Splitter) text(at int, c, next byte) (Statement, bool) {
	if wordByte(c) {
		s.begin(at)
		if s.end = s.pos; len(s.word) < wordMax {
			s.word = append(s.word, upper(c))
		}
		return Statement{}, false
	}
	s.endWord()
	switch {
	case c == '\n':
		return s.endOfLine()
	case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
		return Statement{}, false
	case c == '-' && next == '-' || c == '/' && next == '/':
		s.pos++
		s.mode = inLineComment
		return Statement{}, false
	case c == '/' && next == '*':
		s.pos++
		s.mode = inBlockComment
		return Statement{}, false
	case c == ';' && (!s.batch || s.batchEnds()):
		return s.finish()
	}
	s.begin(at)
	s.end = s.pos
	switch {
	case c == '\'':
		s.mode = inString
	case c == '"':
		s.mode = inName
	case c == '$' && next == '$':
		s.pos++
		s.end = s.pos
		s.mode = inDollars
	case c == '?' && s.words == 0:
		s.first, s.words = "?", 1
	}
	return Statement{}, false
}

func (s *Splitter) begin(at int) {
	if !s.begun {
		s.begun, s.start, s.startLine = true, at, s.line+1
	}
}

func (s *Splitter) endWord() {
	if len(s.word) == 0 {
		return
	}
	if s.words++; s.words == 1 {
		s.first = string(s.word)
	}
	s.recent[0], s.recent[1] = s.recent[1], string(s.word)
	s.word = s.word[:0]
	if s.first == "BEGIN" && s.recent[1] == "BATCH" && s.words <= 3 {
		s.batch = true
	}
}

func (s *Splitter) batchEnds() bool { return s.recent == [2]string{"APPLY", "BATCH"} && s.words > 3 }

// endOfLine ends a command of the shell, which needs no semicolon.
func (s *Splitter) endOfLine() (Statement, bool) {
	if s.begun && endsWithLine(s.first) {
		return s.finish()
	}
	return Statement{}, false
}

func (s *Splitter) finish() (st Statement, ok bool) {
	if s.begun {
		st, ok = Statement{Text: string(s.buf[s.start:s.end]), Line: s.startLine}, true
	}
	s.begun, s.words, s.first, s.recent, s.batch, s.word = false, 0, "", [2]string{}, false, s.word[:0]
	return st, ok
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
}

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

// token is a piece of a statement: a word, a string, a quoted name or one other character.
type token struct {
	text string // strings and quoted names: their content
	kind tokenKind
}

type tokenKind uint8

const (
	word tokenKind = iota
	quoted
	quotedName
	symbol
)

// is tells whether the token is that word, given in upper case.
func (t token) is(keyword string) bool { return t.kind == word && strings.EqualFold(t.text, keyword) }

// tokens returns the pieces of text without comments. open is the kind of quote that is not closed at its end: 0, ',
// ", $ or * for a comment.
func tokens(text string) (list []token, open byte) {
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			i++
		case strings.HasPrefix(text[i:], "--") || strings.HasPrefix(text[i:], "//"):
			n := strings.IndexByte(text[i:], '\n')
			if n < 0 {
				return list, '*'
			}
			i += n
		case strings.HasPrefix(text[i:], "/*"):
			n := strings.Index(text[i+2:], "*/")
			if n < 0 {
				return list, '*'
			}
			i += n + 4
		case strings.HasPrefix(text[i:], "$$"):
			n := strings.Index(text[i+2:], "$$")
			if n < 0 {
				return append(list, token{text[i+2:], quoted}), '$'
			}
			list = append(list, token{text[i+2 : i+2+n], quoted})
			i += n + 4
		case c == '\'' || c == '"':
			content, n, closed := unquote(text[i:])
			kind := quoted
			if c == '"' {
				kind = quotedName
			}
			list = append(list, token{content, kind})
			if !closed {
				return list, c
			}
			i += n
		case wordByte(c):
			n := i
			for n < len(text) && wordByte(text[n]) {
				n++
			}
			list = append(list, token{text[i:n], word})
			i = n
		default:
			list = append(list, token{text[i : i+1], symbol})
			i++
		}
	}
	return list, 0
}

// unquote returns the content of the string or quoted name that text begins with, and how many bytes it takes.
func unquote(text string) (content string, n int, closed bool) {
	var b strings.Builder
	q := text[0]
	for i := 1; i < len(text); i++ {
		if text[i] == q {
			if i+1 == len(text) || text[i+1] != q {
				return b.String(), i + 1, true
			}
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String(), len(text), false
}
