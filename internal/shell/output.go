package shell

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"strings"

	"github.com/clipperhouse/displaywidth"

	"github.com/helenusdb/helenus/cql/protocol"
)

// Format is how rows are printed.
type Format string

// The formats.
const (
	Table Format = "table" // as cqlsh does
	CSV   Format = "csv"   // with a header per result; null is an empty field
	JSON  Format = "json"  // one object per row and line
)

// ParseFormat returns the format of that name.
func ParseFormat(s string) (Format, error) {
	switch f := Format(strings.ToLower(s)); f {
	case Table, CSV, JSON:
		return f, nil
	}
	return "", fmt.Errorf("output format %q is not table, csv or json", s)
}

// cell is a piece of a table: its text, the text with colours, and how many columns of a terminal it takes.
type cell struct {
	text, colored string
	width         int
}

func plainCell(s string) cell { return cell{s, s, displaywidth.String(s)} }

func coloredCell(s, color string, on bool) cell {
	c := plainCell(s)
	if on {
		c.colored = color + s + plain
	}
	return c
}

// table prints one result, page by page.
type table struct {
	w        io.Writer
	header   []cell
	expanded bool
	terminal bool // each page with its header, and a blank line after it
	widths   []int
	rows     int
}

// page prints rows. Columns never get narrower from page to page.
func (t *table) page(rows [][]cell) {
	if t.expanded && len(rows) > 0 {
		t.vertical(rows)
		t.rows += len(rows)
		return
	}
	first := t.widths == nil
	if first {
		t.widths = make([]int, len(t.header))
	}
	for i, h := range t.header {
		t.widths[i] = max(t.widths[i], h.width)
	}
	for _, row := range rows {
		for i, c := range row {
			t.widths[i] = max(t.widths[i], c.width)
		}
	}
	var b bytes.Buffer
	if first || t.terminal {
		t.head(&b)
	}
	for _, row := range rows {
		for i, c := range row {
			b.WriteString([]string{" ", " | "}[min(i, 1)])
			pad(&b, t.widths[i]-c.width)
			b.WriteString(c.colored)
		}
		b.WriteByte('\n')
	}
	if t.terminal || len(rows) == 0 {
		b.WriteByte('\n')
	}
	t.rows += len(rows)
	_, _ = b.WriteTo(t.w)
}

func (t *table) head(b *bytes.Buffer) {
	for i, h := range t.header {
		b.WriteString([]string{" ", " | "}[min(i, 1)])
		b.WriteString(h.colored)
		if i+1 < len(t.header) {
			pad(b, t.widths[i]-h.width)
		}
	}
	b.WriteByte('\n')
	for i, w := range t.widths {
		b.WriteString([]string{"-", "-+-"}[min(i, 1)])
		b.WriteString(strings.Repeat("-", w))
	}
	b.WriteString("-\n")
}

func (t *table) vertical(rows [][]cell) {
	names, values := 0, 0
	for _, h := range t.header {
		names = max(names, h.width)
	}
	for _, row := range rows {
		for _, c := range row {
			values = max(values, c.width)
		}
	}
	var b bytes.Buffer
	for n, row := range rows {
		fmt.Fprintf(&b, "@ Row %d\n-%s-+-%s-\n", t.rows+n+1, strings.Repeat("-", names), strings.Repeat("-", values))
		for i, c := range row {
			b.WriteString(" " + t.header[i].colored)
			pad(&b, names-t.header[i].width)
			b.WriteString(" | " + c.colored + "\n")
		}
		b.WriteByte('\n')
	}
	_, _ = b.WriteTo(t.w)
}

func pad(b *bytes.Buffer, n int) {
	for ; n > 0; n-- {
		b.WriteByte(' ')
	}
}

// cells formats the rows of a page.
func cells(f formatter, rows *protocol.Rows) ([][]cell, error) {
	var page [][]cell
	uncolored := formatter{exact: f.exact}
	for rows.Next() {
		row := make([]cell, len(rows.Metadata.Columns))
		for i, col := range rows.Metadata.Columns {
			row[i] = plainCell(string(uncolored.value(nil, col.Type, rows.Value(i), false)))
			if f.color {
				row[i].colored = string(f.value(nil, col.Type, rows.Value(i), false))
			}
		}
		page = append(page, row)
	}
	return page, rows.Err()
}

// writeCSV prints a page as CSV, with a header when it is the first.
func writeCSV(w io.Writer, rows *protocol.Rows, first bool) error {
	out := csv.NewWriter(w)
	record := make([]string, len(rows.Metadata.Columns))
	if first {
		for i, col := range rows.Metadata.Columns {
			record[i] = col.Name
		}
		if err := writeRecord(w, out, record); err != nil {
			return err
		}
	}
	f := formatter{exact: true}
	for rows.Next() {
		for i, col := range rows.Metadata.Columns {
			record[i] = ""
			if v := rows.Value(i); v != nil {
				record[i] = string(f.value(nil, col.Type, v, false))
			}
		}
		if err := writeRecord(w, out, record); err != nil {
			return err
		}
	}
	if out.Flush(); out.Error() != nil {
		return out.Error()
	}
	return rows.Err()
}

// writeRecord writes a record; one empty field alone would be an empty line, which readers skip, so it is quoted.
func writeRecord(w io.Writer, out *csv.Writer, record []string) error {
	if len(record) != 1 || record[0] != "" {
		return out.Write(record)
	}
	out.Flush()
	_, err := io.WriteString(w, "\"\"\n")
	return err
}

// writeJSON prints a page as JSON, one object per line.
func writeJSON(w io.Writer, rows *protocol.Rows) error {
	out := bufio.NewWriter(w)
	names := make([][]byte, len(rows.Metadata.Columns))
	for i, col := range rows.Metadata.Columns {
		names[i] = append(appendJSONString(nil, col.Name), ':')
	}
	var line []byte
	for rows.Next() {
		line = append(line[:0], '{')
		for i, col := range rows.Metadata.Columns {
			if i > 0 {
				line = append(line, ',')
			}
			line = appendJSON(append(line, names[i]...), col.Type, rows.Value(i))
		}
		if _, err := out.Write(append(line, "}\n"...)); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return rows.Err()
}

// columnize lays names out in columns of at most 80 characters, going down first.
func columnize(w io.Writer, names []string) {
	const width = 80
	for lines := 1; lines <= len(names); lines++ {
		var widths []int
		total := -2
		for at := 0; at < len(names); at += lines {
			column := 0
			for _, n := range names[at:min(at+lines, len(names))] {
				column = max(column, displaywidth.String(n))
			}
			widths = append(widths, column)
			total += column + 2
		}
		if total > width && lines < len(names) {
			continue
		}
		for line := range lines {
			var b bytes.Buffer
			for col := range widths {
				if i := col*lines + line; i < len(names) {
					if col > 0 {
						b.WriteString("  ")
					}
					b.WriteString(names[i])
					pad(&b, widths[col]-displaywidth.String(names[i]))
				}
			}
			fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
		}
		return
	}
}
