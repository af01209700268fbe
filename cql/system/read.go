package system

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// partition is one partition of a virtual table: its rows, encoded.
type partition struct {
	token ring.Token
	key   []byte
	rows  []encoded // ascending
}

// encoded is one row.
type encoded struct{ ckey, row []byte }

// record is a row by the names of its columns; what is missing is null. Values are serialized.
type record map[string][]byte

// encode returns the records as partitions in the order of a scan: of the ring, or of the keys in the virtual keyspaces,
// as Cassandra orders them. Records with equal keys do not occur.
func encode(t *schema.Table, records []record) []partition {
	byKey := map[string]int{}
	var out []partition
	for _, r := range records {
		key := keyOf(t, r)
		i, ok := byKey[string(key)]
		if !ok {
			i = len(out)
			byKey[string(key)] = i
			out = append(out, partition{token: ring.Murmur3{}.Token(key), key: key})
		}
		out[i].rows = append(out[i].rows, encodeRow(t, r))
	}
	for i := range out {
		slices.SortFunc(out[i].rows, func(a, b encoded) int { return bytes.Compare(a.ckey, b.ckey) })
	}
	slices.SortFunc(out, func(a, b partition) int { return compare(t, a.token, a.key, b.token, b.key) })
	return out
}

// compare orders partitions as a scan of the table reaches them.
func compare(t *schema.Table, at ring.Token, ak []byte, bt ring.Token, bk []byte) int {
	if t.VirtualSchema {
		return bytes.Compare(ak, bk)
	}
	return cmp.Or(cmp.Compare(at, bt), bytes.Compare(ak, bk))
}

func keyOf(t *schema.Table, r record) []byte {
	components := make([][]byte, len(t.PartitionKey))
	for i, c := range t.PartitionKey {
		components[i] = r[c.Name]
	}
	return t.PartitionKeyOf(nil, components)
}

func encodeRow(t *schema.Table, r record) encoded {
	var ck [][]byte
	for _, c := range t.Clustering {
		ck = append(ck, r[c.Name])
	}
	var b row.Builder
	b.Reset(nil)
	b.SetLiveness(row.Liveness{Timestamp: 0})
	for id := schema.ColumnID(1); id < t.NextColumn; id++ {
		c := t.ColumnByID(id)
		if c == nil || c.Kind.Key() || r[c.Name] == nil {
			continue
		}
		if c.Type.MultiCell() {
			elements(&b, c, r[c.Name])
			continue
		}
		b.Cell(row.Cell{Column: c.ID, Value: r[c.Name]})
	}
	return encoded{t.AppendClusteringKey(nil, ck), b.Finish()}
}

// elements adds the cells of a set or map that is not frozen.
func elements(b *row.Builder, c *schema.Column, v []byte) {
	type element struct{ path, value []byte }
	var list []element
	it := c.Type.Iter(v)
	for {
		k, ok := it.Next()
		if !ok {
			break
		}
		e := element{path: c.Type.Elems[0].AppendKey(nil, k, false)}
		if c.Type.Kind == types.KindMap {
			e.value, _ = it.Next()
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(x, y element) int { return bytes.Compare(x.path, y.path) })
	for _, e := range list {
		b.Cell(row.Cell{Column: c.ID, Path: e.path, Value: e.value})
	}
}

// Read answers a command on a virtual table, as a replica would. Errors are those of package row about malformed
// commands; a table that nothing fills is empty.
func (s *Tables) Read(t *schema.Table, cmd *row.Command, page *row.Page) error {
	parts := s.partitions(t)
	var b row.PageBuilder
	b.Init(cmd, page)
	for i := s.first(t, parts, cmd); i < len(parts); i++ {
		p := &parts[i]
		if cmd.Range == nil && !bytes.Equal(p.key, cmd.Key) {
			break
		}
		if cmd.Range != nil && !t.VirtualSchema && p.token > cmd.Range.End && cmd.Range.End > cmd.Range.Start {
			break
		}
		progress, err := readPartition(&b, cmd, p)
		if err != nil {
			return err
		}
		if progress == row.Full {
			break
		}
	}
	b.Finish()
	return nil
}

// first returns the index of the first partition that the command asks for.
func (s *Tables) first(t *schema.Table, parts []partition, cmd *row.Command) int {
	token, key, after := cmd.Token, cmd.Key, false
	if cmd.Range != nil {
		if cmd.From == nil {
			if t.VirtualSchema {
				return 0
			}
			return sortSearch(len(parts), func(i int) bool { return parts[i].token > cmd.Range.Start || cmd.Range.Start >= cmd.Range.End })
		}
		token, key, after = cmd.From.Token, cmd.From.Key, cmd.From.Kind == row.AfterPartition
	}
	return sortSearch(len(parts), func(i int) bool {
		c := compare(t, parts[i].token, parts[i].key, token, key)
		return c > 0 || c == 0 && !after
	})
}

func sortSearch(n int, f func(int) bool) int {
	for i := range n {
		if f(i) {
			return i
		}
	}
	return n
}

func readPartition(b *row.PageBuilder, cmd *row.Command, p *partition) (row.Progress, error) {
	var slicesBuf [8]row.Slice
	wanted := cmd.SlicesOf(slicesBuf[:0], p.token, p.key)
	b.BeginPartition(p.token, p.key)
	for i := range p.rows {
		r := &p.rows[i]
		if cmd.Reverse {
			r = &p.rows[len(p.rows)-1-i]
		}
		if cmd.StaticOnly || !within(wanted, r.ckey) {
			continue
		}
		progress, err := b.Row(r.ckey, r.row)
		if err != nil {
			return 0, err
		}
		if progress != row.Continue {
			break
		}
	}
	return b.EndPartition(), nil
}

func within(list []row.Slice, ckey []byte) bool {
	for _, s := range list {
		if bytes.Compare(ckey, s.Start) >= 0 && (s.End == nil || bytes.Compare(ckey, s.End) < 0) {
			return true
		}
	}
	return false
}
