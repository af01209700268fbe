package shell

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/helenusdb/helenus/internal/cqlident"
)

// completionsMax bounds what one Tab offers.
const completionsMax = 200

// Complete returns what may stand at the end of text, which is all of a statement that has been typed so far: for each
// candidate what is to be added, and how many bytes at the end of text it completes. Sorted; nil when there is nothing to offer.
func (s *Shell) Complete(ctx context.Context, text string) (add []string, typed int) {
	list, open := tokens(text)
	switch {
	case open == '\'' && len(list) == 2 && (list[0].is("SOURCE") || list[0].is("CAPTURE")):
		return completeFile(list[1].text)
	case open != 0 && open != '"':
		return nil, 0
	}
	prefix, quote := "", open == '"'
	if quote {
		prefix, list = list[len(list)-1].text, list[:len(list)-1]
	} else if n := len(list); n > 0 && list[n-1].kind == word && wordByte(text[len(text)-1]) {
		prefix, list = list[n-1].text, list[:n-1]
	}
	words, names := s.candidates(ctx, list)
	if quote {
		words = nil
	}
	for _, w := range words {
		if len(w) > len(prefix) && strings.EqualFold(w[:len(prefix)], prefix) {
			w = w[len(prefix):]
			if prefix != "" && prefix == strings.ToLower(prefix) {
				w = strings.ToLower(w)
			}
			add = append(add, w+" ")
		}
	}
	for _, n := range names {
		if rest, ok := completeName(n, prefix, quote); ok {
			add = append(add, rest)
		}
	}
	slices.Sort(add)
	add = slices.Compact(add)
	return add[:min(len(add), completionsMax)], len(prefix)
}

// completeName completes a name; one that ends in a dot is that of a keyspace.
func completeName(name, prefix string, quote bool) (string, bool) {
	name, dot := strings.CutSuffix(name, ".")
	written, after := cqlident.QuoteIdent(name), " "
	if dot {
		after = "."
	}
	switch {
	case quote:
		rest, ok := strings.CutPrefix(name, prefix)
		return strings.ReplaceAll(rest, `"`, `""`) + `"` + after, ok
	case prefix == "":
		return written + after, true
	case written != name || len(prefix) > len(name) || !strings.EqualFold(name[:len(prefix)], prefix):
		return "", false
	}
	return name[len(prefix):] + after, true
}

// completeFile completes a path after SOURCE or CAPTURE.
func completeFile(path string) (add []string, typed int) {
	matches, err := filepath.Glob(globQuote(expandHome(path)) + "*")
	if err != nil {
		return nil, 0
	}
	base := filepath.Base(path)
	if path == "" || strings.HasSuffix(path, "/") {
		base = ""
	}
	for _, m := range matches[:min(len(matches), completionsMax)] {
		rest := strings.TrimPrefix(filepath.Base(m), base)
		if info, err := os.Stat(m); err == nil && info.IsDir() {
			rest += "/"
		} else {
			rest += "'"
		}
		add = append(add, rest)
	}
	return add, len(base)
}

func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// candidates returns the keywords and the names that may follow the tokens.
func (s *Shell) candidates(ctx context.Context, list []token) (words, names []string) {
	if len(list) == 0 {
		return slices.Clone(statementWords), nil
	}
	last := list[len(list)-1]
	if last.text == "." && last.kind == symbol && len(list) >= 2 {
		s.schema.load(ctx, s)
		return nil, s.namesIn(fold(list[len(list)-2]), list[:len(list)-2])
	}
	if words := shellWords(list); words != nil {
		return words, nil
	}
	if last.kind == word {
		if names, ok := s.objects(ctx, list); ok {
			return optionWords(list), names
		}
		if next := followers(list); next != nil {
			return next, nil
		}
	}
	return clauseWords(list), s.columnsOf(ctx, list)
}

// fold returns the name that a token stands for.
func fold(t token) string {
	if t.kind == word {
		return strings.ToLower(t.text)
	}
	return t.text
}

// namesIn returns the tables of a keyspace, or its types where a type is wanted.
func (s *Shell) namesIn(keyspace string, before []token) []string {
	if len(before) > 0 && before[len(before)-1].is("TYPE") {
		return s.schema.types[keyspace]
	}
	return s.schema.tables[keyspace]
}

// objects returns the names of what the last word wants: keyspaces, tables, types. ok is false when it wants none.
func (s *Shell) objects(ctx context.Context, list []token) (names []string, ok bool) {
	last, creates := list[len(list)-1], list[0].is("CREATE")
	n := len(list)
	switch strings.ToUpper(last.text) {
	case "USE":
		s.schema.load(ctx, s)
		return s.schema.keyspaces, n == 1
	case "KEYSPACE":
		s.schema.load(ctx, s)
		return s.schema.keyspaces, !creates
	case "TABLE", "VIEW", "TYPE":
		if creates {
			return nil, false
		}
	case "FROM", "INTO", "TRUNCATE", "COPY":
	case "UPDATE":
		if n > 1 && !list[0].is("BEGIN") {
			return nil, false
		}
	case "ON":
		if !creates && !list[0].is("GRANT") && !list[0].is("REVOKE") {
			return nil, false
		}
	case "DESCRIBE", "DESC":
		if n != 1 {
			return nil, false
		}
	default:
		return nil, false
	}
	s.schema.load(ctx, s)
	if last.is("TYPE") {
		names = append(names, s.schema.types[s.keyspace]...)
	} else {
		names = append(names, s.schema.tables[s.keyspace]...)
	}
	for _, k := range s.schema.keyspaces {
		names = append(names, k+".")
	}
	return names, true
}

// columnsOf returns the columns of the tables that the statement names.
func (s *Shell) columnsOf(ctx context.Context, list []token) (names []string) {
	for i, t := range list {
		if !(t.is("FROM") || t.is("INTO") || t.is("UPDATE") || t.is("ON")) || i+1 >= len(list) {
			continue
		}
		keyspace, table := s.keyspace, fold(list[i+1])
		if i+3 < len(list) && list[i+2].text == "." {
			keyspace, table = table, fold(list[i+3])
		}
		s.schema.load(ctx, s)
		for _, c := range s.schema.columns[[2]string{keyspace, table}] {
			names = append(names, c.name)
		}
	}
	return names
}
