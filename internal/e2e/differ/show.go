package differ

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/helenusdb/helenus/cql/protocol"
)

// show writes an answer and returns the state of the next page, nil when there is none.
func (r *run) show(a Answer) ([]byte, error) {
	if r.st.trace {
		fmt.Fprintf(&r.out, "trace id %t\n", a.Extras.TracingID != [16]byte{})
	}
	for _, w := range a.Extras.Warnings {
		fmt.Fprintf(&r.out, "warning %s\n", shorter(w))
	}
	if a.Err != nil {
		showError(&r.out, a.Err)
		return nil, nil //nolint:nilerr // a server's error is what the script is to show
	}
	switch res := a.Result; res.Kind {
	case protocol.ResultVoid:
		r.out.WriteString("void\n")
	case protocol.ResultSetKeyspace:
		fmt.Fprintf(&r.out, "keyspace %s\n", res.Keyspace)
	case protocol.ResultSchemaChange:
		showChange(&r.out, "schema", res.Change)
		return nil, r.showEvents(res.Change)
	case protocol.ResultPrepared:
		showPrepared(&r.out, res.Prepared)
	case protocol.ResultRows:
		return r.showRows(&res.Rows), nil
	}
	return nil, nil
}

func showError(b *strings.Builder, e *protocol.Error) {
	fmt.Fprintf(b, "error 0x%04x %s\n", int(e.Code), sortedSignatures(e.Message))
	switch e.Code {
	case protocol.CodeUnavailable:
		fmt.Fprintf(b, "  %s required %d alive %d\n", e.Consistency, e.Required, e.Alive)
	case protocol.CodeAlreadyExists:
		fmt.Fprintf(b, "  keyspace %q table %q\n", e.Keyspace, e.Table)
	case protocol.CodeFunctionFailure:
		fmt.Fprintf(b, "  %s.%s(%s)\n", e.Keyspace, e.Function, strings.Join(e.ArgTypes, ", "))
	}
}

func showChange(b *strings.Builder, what string, e *protocol.Event) {
	fmt.Fprintf(b, "%s %s %s %s", what, e.Change, e.Target, e.Keyspace)
	if e.Name != "" {
		b.WriteString("." + e.Name)
	}
	if e.Args != nil {
		b.WriteString("(" + strings.Join(e.Args, ", ") + ")")
	}
	b.WriteByte('\n')
}

// showEvents shows the events that a schema change sends to those who registered.
func (r *run) showEvents(change *protocol.Event) error {
	if r.s.events == nil || change.Keyspace != r.s.keyspace {
		return nil
	}
	events, err := r.s.events.Events(r.s.keyspace, eventWait, r.s.Quiet)
	for i := range events {
		showChange(&r.out, "event", &events[i])
	}
	return err
}

func showPrepared(b *strings.Builder, p *protocol.Prepared) {
	fmt.Fprintf(b, "prepared %x metadata %x pk %v\n", p.ID, p.ResultMetadataID, p.PKIndexes)
	fmt.Fprintf(b, "  binds%s\n", columnsText(p.Variables))
	fmt.Fprintf(b, "  result flags %d columns %d%s\n", p.Result.Flags, p.Result.ColumnCount, columnsText(p.Result.Columns))
}

func columnsText(columns []protocol.Column) string {
	var b strings.Builder
	for i, c := range columns {
		if i == 0 || c.Keyspace != columns[i-1].Keyspace || c.Table != columns[i-1].Table {
			fmt.Fprintf(&b, " [%s.%s]", c.Keyspace, c.Table)
		}
		fmt.Fprintf(&b, " %s:%s", c.Name, c.Type)
	}
	return b.String()
}

// showRows shows metadata and rows. The number after # is a hash of the bytes of all values: two encodings of one text
// are a difference.
func (r *run) showRows(rows *protocol.Rows) []byte {
	m := &rows.Metadata
	hash := fnv.New32a()
	var body strings.Builder
	for rows.Next() {
		for i, v := range rows.Values() {
			body.WriteString(" | ")
			switch {
			case r.st.mask, i < len(m.Columns) && slices.Contains(r.st.masked, m.Columns[i].Name):
				body.WriteByte('*')
				continue
			case v == nil:
				body.WriteString("null")
			case i < len(m.Columns):
				body.Write(m.Columns[i].Type.AppendText(nil, v))
			default:
				fmt.Fprintf(&body, "%x", v)
			}
			fmt.Fprintf(hash, "%d %t ", len(v), v == nil)
			_, _ = hash.Write(v)
		}
		body.WriteByte('\n')
	}
	if err := rows.Err(); err != nil {
		fmt.Fprintf(&body, "broken rows: %v\n", err)
	}
	r.empty = rows.Count == 0
	columns := columnsText(m.Columns)
	if columns == r.columns && columns != "" {
		columns = " same"
	} else {
		r.columns = columns
	}
	fmt.Fprintf(&r.out, "rows %d flags %d columns %d #%08x%s\n%s", rows.Count, m.Flags, m.ColumnCount, hash.Sum32(), columns, body.String())
	if m.Flags&protocol.RowsHasMorePages == 0 {
		return nil
	}
	return append([]byte{}, m.PagingState...)
}

// shorter cuts the long middle of the warning that every PREPARE of an unqualified statement gets.
func shorter(warning string) string {
	head, _, found := strings.Cut(warning, " with prepared statements is considered")
	if _, tail, ok := strings.Cut(warning, "Keyspace used: "); found && ok {
		return head + " ... " + tail
	}
	return warning
}

// sortedSignatures sorts the list of signatures in an error: Cassandra shows them in the order of a hash table, which
// changes from start to start.
func sortedSignatures(message string) string {
	for _, mark := range []string{"known type signatures: ", "following signatures: "} {
		head, tail, ok := strings.Cut(message, mark)
		end := strings.LastIndexByte(tail, ')')
		if strings.HasSuffix(tail, ": use type casts to disambiguate") {
			end = len(tail) - len("): use type casts to disambiguate")
		}
		if !ok || end < 0 {
			continue
		}
		list := strings.Split(tail[:end], ", system.")
		for i := range list {
			list[i] = strings.TrimPrefix(list[i], "system.")
		}
		slices.Sort(list)
		return head + mark + strings.Join(list, ", ") + tail[end:]
	}
	return message
}
