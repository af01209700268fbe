package cql

import "strings"

// Redact returns the text with every constant replaced by ?, so that it tells what was asked but no value; comments are left out and
// white space is one blank. What follows a lexical error is left out too. At most max bytes are returned; a text that was cut ends
// with "...".
func Redact(text string, max int) string {
	var b strings.Builder
	l := newLexer(text)
	for {
		t := l.scan()
		if t.kind == tEOF {
			return b.String()
		}
		piece := text[t.start:t.end]
		switch t.kind {
		case tHidden:
			piece = " "
			if b.Len() == 0 || strings.HasSuffix(b.String(), " ") {
				piece = ""
			}
		case tString, tInteger, tFloat, tBoolean, tDuration, tUUID, tHex:
			piece = "?"
		}
		if b.Len()+len(piece) > max {
			b.WriteString("...")
			return b.String()
		}
		b.WriteString(piece)
	}
}
