package cql

// nameSet is a set of names: a list while it is small, which it nearly always is.
type nameSet struct {
	list []string
	all  map[string]struct{}
}

// nameListMax is how many names are searched one by one.
const nameListMax = 32

func (s *nameSet) has(name string) bool {
	if s.all != nil {
		_, ok := s.all[name]
		return ok
	}
	for _, n := range s.list {
		if n == name {
			return true
		}
	}
	return false
}

// add reports whether name is new.
func (s *nameSet) add(name string) bool {
	if s.has(name) {
		return false
	}
	if s.all == nil && len(s.list) == nameListMax {
		s.all = make(map[string]struct{}, 2*nameListMax)
		for _, n := range s.list {
			s.all[n] = struct{}{}
		}
	}
	if s.all != nil {
		s.all[name] = struct{}{}
	} else {
		s.list = append(s.list, name)
	}
	return true
}
