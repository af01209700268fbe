package differ

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/cql/protocol"
)

// File is one file of the corpus.
type File struct {
	Name  string // without folder and extension; its keyspace is diff_<name>
	Steps []Step
}

// Keyspace is the keyspace of the file, made before its first step.
func (f *File) Keyspace() string { return "diff_" + f.Name }

// Step is one statement with the way to send it. Directives stand before the statement:
//
//	@v3 @v4        protocol version (v5 otherwise)
//	@cl=QUORUM     consistency level (ONE otherwise); @scl=SERIAL the serial one
//	@page=1,2,3    in pages of so many rows, once per size, all pages
//	@prep          PREPARE and EXECUTE
//	@[int 5; null] values; @name=a,b their names
//	@ts=5 @now=5   timestamp and now in seconds (v5) of the request
//	@ks=x          keyspace of the request (v5)
//	@skip          skip the metadata
//	@batch=logged  the statement is a list of statements parted by ;; each may have @prep and @[values]
//	@mask          the answer has values that no two servers share: how many rows, and the metadata, count
//	@mask=a,b      the same for these columns
//	@quiet         the answer does not count
//	@trace         ask for a trace
//	@differs=name  Helenus answers something else on purpose; docs/compat.md has the name
//
// %{a|b|c} makes one statement of each alternative, several of them every combination; %*50x is the byte x 50 times. A
// line that starts with a space continues the line before; # starts a comment line.
type Step struct {
	Line    int    // in the file
	Source  string // directives and statement
	Text    string // the statement
	Differs string

	version protocol.Version
	params  protocol.QueryParams
	pages   []int32
	prep    bool
	batch   string
	mask    bool
	masked  []string
	quiet   bool
	trace   bool
}

// ReadCorpus reads the files *.cql of a folder, sorted by name.
func ReadCorpus(dir string) ([]File, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.cql"))
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("differ: no corpus in %s: %w", dir, err)
	}
	slices.Sort(names)
	var out []File
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			return nil, fmt.Errorf("differ: corpus: %w", err)
		}
		f, err := ParseFile(strings.TrimSuffix(filepath.Base(n), ".cql"), string(b))
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// ParseFile parses the text of a corpus file.
func ParseFile(name, text string) (File, error) {
	f := File{Name: name}
	var lines []string
	var numbers []int
	for i, l := range strings.Split(text, "\n") {
		switch {
		case strings.TrimSpace(l) == "" || strings.HasPrefix(l, "#"):
		case l[0] == ' ' && len(lines) > 0:
			lines[len(lines)-1] += "\n" + strings.TrimSpace(l)
		default:
			lines, numbers = append(lines, l), append(numbers, i+1)
		}
	}
	for i, l := range lines {
		for _, source := range expand(l) {
			s, err := ParseStep(source)
			if err != nil {
				return f, fmt.Errorf("differ: %s.cql:%d: %w", name, numbers[i], err)
			}
			s.Line = numbers[i]
			f.Steps = append(f.Steps, s)
		}
	}
	return f, nil
}

// expand makes one line of each combination of alternatives; the last ones change fastest.
func expand(l string) []string {
	start := strings.Index(l, "%{")
	if start < 0 {
		return []string{l}
	}
	end, depth := start+2, 1
	for ; end < len(l) && depth > 0; end++ {
		switch l[end] {
		case '{':
			depth++
		case '}':
			depth--
		}
	}
	var out []string
	for _, alternative := range strings.Split(l[start+2:end-1], "|") {
		for _, rest := range expand(l[end:]) {
			out = append(out, l[:start]+alternative+rest)
		}
	}
	return out
}

// ParseStep parses one statement with its directives.
func ParseStep(source string) (s Step, err error) {
	s = Step{Source: source, version: protocol.V5, params: protocol.QueryParams{Consistency: protocol.One}}
	rest := source
	for strings.HasPrefix(rest, "@") {
		end := directiveEnd(rest)
		if err := s.directive(rest[1:end]); err != nil {
			return s, err
		}
		rest = strings.TrimLeft(rest[end:], " \n")
	}
	s.Text, err = repeat(rest)
	return s, err
}

// repeatMax bounds what one %*n makes.
const repeatMax = 1 << 20

// repeat writes out every %*n: the byte after it n times.
func repeat(s string) (string, error) {
	head, rest, found := strings.Cut(s, "%*")
	if !found {
		return s, nil
	}
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(rest[:digits])
	if err != nil || n > repeatMax || digits == len(rest) {
		return "", fmt.Errorf("%%*%s: want a number up to %d and a byte", rest[:digits], repeatMax)
	}
	tail, err := repeat(rest[digits+1:])
	return head + strings.Repeat(rest[digits:digits+1], n) + tail, err
}

// directiveEnd is the end of the directive that s starts with: a space outside brackets.
func directiveEnd(s string) int {
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ' ' && depth == 0:
			return i
		}
	}
	return len(s)
}

func (s *Step) directive(d string) (err error) {
	p := &s.params
	if strings.HasPrefix(d, "[") {
		p.Flags |= protocol.QueryValues
		p.Values, err = parseValues(d)
		return err
	}
	name, arg, _ := strings.Cut(d, "=")
	switch name {
	case "v3":
		s.version = protocol.V3
	case "v4":
		s.version = protocol.V4
	case "prep":
		s.prep = true
	case "batch":
		s.batch = arg
	case "mask":
		s.mask = arg == ""
		if arg != "" {
			s.masked = strings.Split(arg, ",")
		}
	case "quiet":
		s.quiet = true
	case "trace":
		s.trace = true
	case "differs":
		s.Differs = arg
	case "skip":
		p.Flags |= protocol.QuerySkipMetadata
	case "page":
		for _, n := range strings.Split(arg, ",") {
			size, err := strconv.Atoi(n)
			if err != nil {
				return err
			}
			s.pages = append(s.pages, int32(size))
		}
	default:
		return s.parameter(name, arg)
	}
	return nil
}

func (s *Step) parameter(name, arg string) (err error) {
	p := &s.params
	switch name {
	case "cl":
		p.Consistency, err = protocol.ParseConsistency(arg)
	case "scl":
		p.Flags |= protocol.QuerySerialConsistency
		p.SerialConsistency, err = protocol.ParseConsistency(arg)
	case "name":
		p.Flags |= protocol.QueryNames
		for _, n := range strings.Split(arg, ",") {
			p.Names = append(p.Names, []byte(n))
		}
	case "ts":
		p.Flags |= protocol.QueryTimestamp
		p.Timestamp, err = strconv.ParseInt(arg, 10, 64)
	case "now":
		p.Flags |= protocol.QueryNowInSeconds
		p.NowInSeconds, err = strconv.ParseInt(arg, 10, 64)
	case "ks":
		p.Flags |= protocol.QueryKeyspace
		p.Keyspace = []byte(arg)
	case "state":
		p.Flags |= protocol.QueryPagingState
		p.PagingState = []byte(arg)
	default:
		return fmt.Errorf("unknown directive @%s", name)
	}
	return err
}

// parseValues parses [value; value].
func parseValues(d string) (out []protocol.Value, err error) {
	for _, text := range splitTop(strings.TrimSuffix(d[1:], "]"), ';') {
		v, err := parseValue(text)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}
