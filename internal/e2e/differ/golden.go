package differ

import (
	"fmt"
	"os"
	"strings"
)

// Golden holds the answers of a server to the steps of a file, in their order.
type Golden []Recorded

// Recorded is the answer to one step.
type Recorded struct {
	Source string // the step's
	Answer string
}

// ReadGolden reads a golden file. A file that is not there is empty.
func ReadGolden(name string) (Golden, error) {
	b, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("differ: golden: %w", err)
	}
	var g Golden
	for _, part := range strings.Split("\n"+string(b), "\n> ")[1:] {
		source, answer, _ := strings.Cut(part, "\n= ")
		g = append(g, Recorded{Source: unindent(source), Answer: unindent(answer)})
	}
	return g, nil
}

// Write writes g to a file.
func (g Golden) Write(name string) error {
	var b strings.Builder
	for _, r := range g {
		b.WriteString("> " + indent(r.Source) + "\n= " + indent(r.Answer) + "\n")
	}
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("differ: golden: %w", err)
	}
	return nil
}

// Lines after the first are indented, so that the marks at the start of a line are the file's own.
func indent(s string) string { return strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ") }
func unindent(s string) string {
	s = strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n  ", "\n")
	if s != "" {
		s += "\n"
	}
	return s
}

// Find returns the answers to the steps of f: by position where the sources agree, else the next one with that source.
// The second value is false for a step without an answer.
func (g Golden) Find(f *File) func(i int) (string, bool) {
	at := 0
	found := make([]int, len(f.Steps))
	for i := range f.Steps {
		found[i] = -1
		for j := at; j < len(g); j++ {
			if g[j].Source == f.Steps[i].Source+"\n" {
				found[i], at = j, j+1
				break
			}
		}
	}
	return func(i int) (string, bool) {
		if found[i] < 0 {
			return "", false
		}
		return g[found[i]].Answer, true
	}
}

// Diff shows the lines in which two answers differ, want with -, got with +.
func Diff(want, got string) string {
	w, g := strings.Split(strings.TrimSuffix(want, "\n"), "\n"), strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	for len(w) > 0 && len(g) > 0 && w[0] == g[0] {
		w, g = w[1:], g[1:]
	}
	for len(w) > 0 && len(g) > 0 && w[len(w)-1] == g[len(g)-1] {
		w, g = w[:len(w)-1], g[:len(g)-1]
	}
	var b strings.Builder
	for _, l := range w {
		b.WriteString("  - " + l + "\n")
	}
	for _, l := range g {
		b.WriteString("  + " + l + "\n")
	}
	return b.String()
}
