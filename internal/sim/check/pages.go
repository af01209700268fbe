package check

import (
	"fmt"
	"strings"
)

// Scan is one paged scan that came to its end, or to its limit.
type Scan struct {
	Op      int
	Query   string
	Rows    []ScanRow
	Reverse bool // rows of a partition in descending order
	Limit   int  // LIMIT; 0: none
	PerPart int  // PER PARTITION LIMIT; 0: none
	Pages   int
	Level   string
	Call    Instant
	Return  Instant
	Start   Instant
}

// ScanRow is a row that a page brought.
type ScanRow struct {
	Page      int // from 0
	Partition string
	Token     int64
	Clust     int64 // the clustering value
	Register  string
	Value     string
	TS        int64
}

// Check reports rows that came twice or out of order: partitions in the order of their tokens and each in one piece, rows in
// clustering order; and more rows than the limits allow. That no live row is missing and no dead one there is for Registers to say:
// see Reads.
func (s *Scan) Check() []Violation {
	var r report
	done := map[string]bool{}
	inPartition := 0
	for i := range s.Rows {
		row := &s.Rows[i]
		inPartition++
		if i > 0 {
			last := &s.Rows[i-1]
			if last.Partition == row.Partition {
				s.inOrder(&r, last, row)
			} else {
				done[last.Partition] = true
				inPartition = 1
				s.nextPartition(&r, last, row, done)
			}
		}
		if s.PerPart > 0 && inPartition == s.PerPart+1 {
			r.add(CheckerPages, "%s brought more than %d rows of %s", s.show(), s.PerPart, row.Partition)
		}
	}
	if s.Limit > 0 && len(s.Rows) > s.Limit {
		r.add(CheckerPages, "%s brought %d rows, more than its limit", s.show(), len(s.Rows))
	}
	return r.done()
}

func (s *Scan) inOrder(r *report, last, row *ScanRow) {
	switch {
	case last.Clust == row.Clust:
		r.add(CheckerPages, "%s brought %s twice, on page %d and on page %d", s.show(), row.Register, last.Page, row.Page)
	case last.Clust < row.Clust == s.Reverse:
		r.add(CheckerPages, "%s brought %s (page %d) after %s (page %d)", s.show(), row.Register, row.Page, last.Register, last.Page)
	}
}

func (s *Scan) nextPartition(r *report, last, row *ScanRow, done map[string]bool) {
	switch {
	case done[row.Partition]:
		r.add(CheckerPages, "%s came back to %s with %s on page %d, after %s: %s", s.show(), row.Partition, row.Register, row.Page, last.Partition, s.walk())
	case row.Token < last.Token:
		r.add(CheckerPages, "%s brought %s (token %d, page %d) after %s (token %d, page %d)", s.show(), row.Register, row.Token, row.Page, last.Register, last.Token, last.Page)
	}
}

// walk shows which partitions came on which page.
func (s *Scan) walk() string {
	var b strings.Builder
	for i := range s.Rows {
		row := &s.Rows[i]
		switch {
		case i == 0 || s.Rows[i-1].Page != row.Page:
			fmt.Fprintf(&b, " | page %d: %s", row.Page, row.Register)
		case s.Rows[i-1].Partition != row.Partition:
			fmt.Fprintf(&b, " %s", row.Register)
		}
	}
	return strings.TrimPrefix(b.String(), " | ")
}

func (s *Scan) show() string {
	return fmt.Sprintf("scan %d (%s, %d pages, %s, in %s)", s.Op, s.Query, s.Pages, s.Level, span(s.Start, s.Call, s.Return))
}

// Reads returns what the scan says about registers, for Registers: a value for each row that it brought, and nothing for each register
// of known that it covered and did not bring. covered says which those are, for a scan that ended early.
func (s *Scan) Reads(read Read, known []string, covered func(register string) bool) []Read {
	out := make([]Read, 0, len(s.Rows))
	brought := make(map[string]bool, len(s.Rows))
	read.Op, read.Level, read.Call, read.Return = s.Op, s.Level, s.Call, s.Return
	for i := range s.Rows {
		row := &s.Rows[i]
		if brought[row.Register] {
			continue // Check says so
		}
		brought[row.Register] = true
		one := read
		one.Register, one.Value, one.TS = row.Register, row.Value, row.TS
		out = append(out, one)
	}
	for _, name := range known {
		if !brought[name] && covered(name) {
			one := read
			one.Register, one.Null = name, true
			out = append(out, one)
		}
	}
	return out
}

// AsPages makes what a scan's reads contradict a matter of pages.
func AsPages(found []Violation) []Violation {
	out := make([]Violation, len(found))
	for i, v := range found {
		out[i] = Violation{CheckerPages, fmt.Sprintf("(%s) %s", v.Checker, v.What)}
	}
	return out
}
