package shell

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	schemaAge        = 10 * time.Second // after which other clients' changes are looked for
	schemaAsk        = 2 * time.Second  // the longest time a completion may take
	schemaColumnsMax = 100_000          // columns that are remembered
)

// schemaCache is what completion and headings know about the schema. It is read when it is needed and then not for a
// while, unless this shell changes the schema.
type schemaCache struct {
	read      time.Time // zero: never
	keyspaces []string
	tables    map[string][]string // by keyspace; views too
	types     map[string][]string
	columns   map[[2]string][]schemaColumn // by keyspace and table
}

type schemaColumn struct{ name, kind string }

func (c *schemaCache) forget() { c.read = time.Time{} }

// load reads the schema unless it is known. What cannot be read is not offered.
func (c *schemaCache) load(ctx context.Context, s *Shell) {
	if s.conn == nil || !c.read.IsZero() && time.Since(c.read) < schemaAge {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, schemaAsk)
	defer cancel()
	*c = schemaCache{tables: map[string][]string{}, types: map[string][]string{}, columns: map[[2]string][]schemaColumn{}}
	read := func(query string, use func(v []string)) {
		if rows(ctx, s, query, use) != nil {
			c.read = time.Now().Add(-schemaAge + schemaAsk) // try again soon
		}
	}
	c.read = time.Now()
	keyspace := func(v []string) { c.keyspaces = append(c.keyspaces, v[0]) }
	table := func(v []string) { c.tables[v[0]] = append(c.tables[v[0]], v[1]) }
	count := 0
	column := func(v []string) {
		if count++; count <= schemaColumnsMax {
			at := [2]string{v[0], v[1]}
			c.columns[at] = append(c.columns[at], schemaColumn{v[2], v[3]})
		}
	}
	read("SELECT keyspace_name FROM system_schema.keyspaces", keyspace)
	read("SELECT keyspace_name, table_name FROM system_schema.tables", table)
	read("SELECT keyspace_name, view_name FROM system_schema.views", table)
	read("SELECT keyspace_name, type_name FROM system_schema.types", func(v []string) { c.types[v[0]] = append(c.types[v[0]], v[1]) })
	read("SELECT keyspace_name, table_name, column_name, kind FROM system_schema.columns", column)
	read("SELECT keyspace_name FROM system_virtual_schema.keyspaces", keyspace)
	read("SELECT keyspace_name, table_name FROM system_virtual_schema.tables", table)
	read("SELECT keyspace_name, table_name, column_name, kind FROM system_virtual_schema.columns", column)
	slices.Sort(c.keyspaces)
	c.keyspaces = slices.Compact(c.keyspaces)
}

// rows calls use with the text columns of each row of a query, fetched in pages.
func rows(ctx context.Context, s *Shell, query string, use func([]string)) error {
	req := &Request{Text: query, Consistency: protocol.One, Serial: protocol.Serial, PageSize: 5000}
	for {
		r, err := s.conn.Query(ctx, req)
		if err != nil {
			return err
		}
		for r.Kind == protocol.ResultRows && r.Rows.Next() {
			var v []string
			for _, b := range r.Rows.Values() {
				v = append(v, string(b))
			}
			use(v)
		}
		if req.PagingState = r.Rows.Metadata.PagingState; req.PagingState == nil {
			return r.Rows.Err()
		}
	}
}

// columnColor returns the colour of a column's heading: red in the partition key, cyan in the clustering, white static.
func (c *schemaCache) columnColor(ctx context.Context, s *Shell, keyspace, table, column string) string {
	c.load(ctx, s)
	for _, col := range c.columns[[2]string{keyspace, table}] {
		if col.name != column {
			continue
		}
		switch strings.ToLower(col.kind) {
		case "partition_key":
			return red
		case "clustering":
			return cyan
		case "static":
			return white
		}
	}
	return magenta
}
