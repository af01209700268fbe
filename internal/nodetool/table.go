package nodetool

import (
	"fmt"
	"io"
	"strings"
)

// table pads columns to their widest cell, with one or more blanks between them; the last column is padded too, as nodetool does.
func table(w io.Writer, gap int, rows [][]string) {
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len(c))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			if i > 0 {
				b.WriteString(strings.Repeat(" ", gap))
			}
			fmt.Fprintf(&b, "%-*s", widths[i], c)
		}
		fmt.Fprintln(w, b.String())
	}
}

// Size is a number of bytes as nodetool prints it: two digits at most after the point, and no zeros at the end.
func Size(b float64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for b >= 1024 && i < len(units)-1 {
		b, i = b/1024, i+1
	}
	s := fmt.Sprintf("%.2f", b)
	s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	return s + " " + units[i]
}
