package differ

import (
	"fmt"
	"strings"
)

// Record runs a file against a server and returns its answers.
func Record(s *Server, f *File) (Golden, error) {
	defer s.Close()
	if err := s.Begin(f.Keyspace()); err != nil {
		return nil, err
	}
	var g Golden
	for i := range f.Steps {
		answer, err := s.Run(&f.Steps[i])
		if err != nil {
			answer = "no answer: " + err.Error() + "\n"
		}
		g = append(g, Recorded{Source: f.Steps[i].Source + "\n", Answer: answer})
	}
	return g, s.End()
}

// javaException marks an answer in which Cassandra says that it fell over. Helenus has a better one.
const javaException = "error 0x0000 java."

// OnPurpose returns the answers of g that differ on purpose from theirs: where the step is marked @differs, or Cassandra
// answers with an exception of its own.
func (g Golden) OnPurpose(f *File, theirs Golden) (out Golden) {
	find, other := g.Find(f), theirs.Find(f)
	for i := range f.Steps {
		answer, ok := find(i)
		their, _ := other(i)
		if ok && answer != their && (f.Steps[i].Differs != "" || strings.Contains(their, javaException) || their == notAsked) {
			out = append(out, Recorded{Source: f.Steps[i].Source + "\n", Answer: answer})
		}
	}
	return out
}

// Compare returns one text per step whose answer in ours is not that of theirs, or, where the difference is on purpose,
// not that of purpose.
func Compare(f *File, theirs, purpose, ours Golden) (out []string) {
	want, meant, got := theirs.Find(f), purpose.Find(f), ours.Find(f)
	for i := range f.Steps {
		st := &f.Steps[i]
		w, ok := want(i)
		g, _ := got(i)
		if !ok {
			out = append(out, fmt.Sprintf("%s.cql:%d: no golden answer: %s", f.Name, st.Line, st.Source))
			continue
		}
		if m, ok := meant(i); ok {
			w = m
		}
		if w != g {
			out = append(out, fmt.Sprintf("%s.cql:%d: %s\n%s", f.Name, st.Line, st.Source, Diff(w, g)))
		}
	}
	return out
}
