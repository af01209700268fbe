package differ

import "fmt"

// Record runs a file against the server at addr and returns its answers.
func Record(addr string, f *File) (Golden, error) {
	s := NewServer(addr)
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

// OnPurpose returns the answers of g to the steps of f that are marked @differs.
func (g Golden) OnPurpose(f *File) (out Golden) {
	find := g.Find(f)
	for i := range f.Steps {
		if answer, ok := find(i); ok && f.Steps[i].Differs != "" {
			out = append(out, Recorded{Source: f.Steps[i].Source + "\n", Answer: answer})
		}
	}
	return out
}

// Compare returns one text per step whose answer in ours is not that of theirs, or, where the difference is on purpose,
// not that of purpose. A step marked @differs that no longer differs is one too.
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
		if st.Differs != "" {
			if w == g {
				out = append(out, fmt.Sprintf("%s.cql:%d: no longer differs: %s", f.Name, st.Line, st.Source))
				continue
			}
			w, _ = meant(i)
		}
		if w != g {
			out = append(out, fmt.Sprintf("%s.cql:%d: %s\n%s", f.Name, st.Line, st.Source, Diff(w, g)))
		}
	}
	return out
}
