package exec

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/system"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/schema"
)

func describeColumns(names ...string) []protocol.Column {
	out := make([]protocol.Column, len(names))
	for i, n := range names {
		out[i] = protocol.Column{Keyspace: schema.SystemKeyspace, Table: "describe", Name: n, Type: types.Text}
	}
	return out
}

// runDescribe answers DESCRIBE.
func runDescribe(_ context.Context, o *op) {
	o.beginTrace(o.requestName(), o.text())
	s := o.x.o.Schema.Current()
	d := describer{o: o, s: s, c: s.Catalog, a: o.compiled.AST.(*cql.Describe)}
	columns, rows, err := d.describe()
	if err != nil {
		o.fail(err)
		return
	}
	body, err := d.page(columns, rows)
	o.finish(err, body)
}

type describer struct {
	o *op
	s *meta.State
	c *schema.Catalog
	a *cql.Describe
}

// page cuts one page out of the rows.
func (d *describer) page(columns []protocol.Column, rows [][][]byte) ([]byte, error) {
	offset := 0
	if d.o.params.PagingState != nil {
		var err error
		if offset, err = d.openState(d.o.params.PagingState); err != nil {
			return nil, err
		}
	}
	rows = rows[min(offset, len(rows)):]
	var state []byte
	if n := d.o.pageSize(); n > 0 && len(rows) >= n {
		rows, state = rows[:n], d.sealState(offset+n)
	}
	return d.o.rowsOf(columns, rows, state), nil
}

// A paging state of DESCRIBE holds the release, the schema's version and how many rows came before.
func (d *describer) sealState(offset int) []byte {
	dst := []byte{stateVersion, stateDescribe}
	dst = protocol.AppendString(dst, system.ReleaseVersion)
	dst = append(dst, d.c.Version[:]...)
	return d.o.seal(binary.AppendUvarint(dst, uint64(offset)))
}

func (d *describer) openState(state []byte) (int, error) {
	content, err := d.o.open(state, stateDescribe)
	if err != nil {
		return 0, err
	}
	n := 0
	if len(content) >= 2 {
		n = int(binary.BigEndian.Uint16(content)) + 2
	}
	if len(content) < n+17 || n == 0 {
		return 0, errState
	}
	if release := string(content[2:n]); release != system.ReleaseVersion {
		return 0, invalid("The server version of the paging state %s is different from the one of the server %s", release, system.ReleaseVersion)
	}
	if [16]byte(content[n:n+16]) != d.c.Version {
		return 0, invalid("The schema has changed since the previous page of the DESCRIBE statement result. Please retry the DESCRIBE statement.")
	}
	offset, k := binary.Uvarint(content[n+16:])
	if k <= 0 || offset > 1<<40 {
		return 0, errState
	}
	return int(offset), nil
}

func (d *describer) describe() ([]protocol.Column, [][][]byte, error) {
	switch d.a.What {
	case cql.DescribeCluster:
		columns, row := d.cluster()
		return columns, [][][]byte{row}, nil
	case cql.DescribeKeyspaces, cql.DescribeTables, cql.DescribeTypes, cql.DescribeFunctions, cql.DescribeAggregates:
		list, err := d.list()
		return describeColumns("keyspace_name", "type", "name"), elementRows(list, false), err
	}
	list, err := d.elements()
	return describeColumns("keyspace_name", "type", "name", "create_statement"), elementRows(list, true), err
}

func elementRows(list []schema.Element, statements bool) [][][]byte {
	rows := make([][][]byte, len(list))
	for i, e := range list {
		rows[i] = [][]byte{[]byte(e.Keyspace), []byte(e.Type), []byte(e.Name)}
		if statements {
			rows[i] = append(rows[i], []byte(e.CreateStatement))
		}
	}
	return rows
}

func (d *describer) options() schema.DescribeOptions {
	return schema.DescribeOptions{Internals: d.a.Internals}
}

// list returns the elements of the forms that only list names.
func (d *describer) list() ([]schema.Element, error) {
	keyspaces := schema.ByName(d.c.Keyspaces(), func(k *schema.Keyspace) string { return k.Name })
	if d.a.What != cql.DescribeKeyspaces && d.o.keyspaceOf() != "" {
		k, err := d.keyspace(d.o.keyspaceOf())
		if err != nil {
			return nil, err
		}
		keyspaces = []*schema.Keyspace{k}
	}
	var out []schema.Element
	for _, k := range keyspaces {
		switch d.a.What {
		case cql.DescribeKeyspaces:
			out = append(out, k.Element())
		case cql.DescribeTables:
			for _, t := range schema.ByName(k.Tables(), func(t *schema.Table) string { return t.Name }) {
				out = append(out, t.Element(d.options()))
			}
		case cql.DescribeTypes:
			for _, t := range schema.ByName(k.Types(), func(t *types.Type) string { return t.Name }) {
				out = append(out, schema.TypeElement(t))
			}
		}
	}
	return out, nil
}

func (d *describer) keyspace(name string) (*schema.Keyspace, error) {
	k, ok := d.c.Keyspace(name)
	if !ok {
		return nil, invalid("'%s' not found in keyspaces", name)
	}
	return k, nil
}

// elements returns the elements of the forms that show statements.
func (d *describer) elements() ([]schema.Element, error) {
	switch d.a.What {
	case cql.DescribeSchema:
		return d.c.Describe(false, d.options()), nil
	case cql.DescribeFullSchema:
		return d.c.Describe(true, d.options()), nil
	case cql.DescribeAny:
		return d.any()
	}
	name := d.a.Name.Keyspace.Name
	if name == "" {
		name = d.o.keyspaceOf()
	}
	if name == "" {
		return nil, invalid("No keyspace specified and no current keyspace")
	}
	k, err := d.keyspace(name)
	if err != nil {
		return nil, err
	}
	return d.element(k, d.a.What, d.a.Name.Name.Name)
}

// element describes one element of a keyspace, or the keyspace.
func (d *describer) element(k *schema.Keyspace, what cql.DescribeKind, name string) ([]schema.Element, error) {
	switch what {
	case cql.DescribeKeyspace:
		return k.Elements(d.options()), nil
	case cql.DescribeOnlyKeyspace:
		return []schema.Element{k.Element()}, nil
	case cql.DescribeTable:
		if t, ok := k.Table(name); ok {
			return []schema.Element{t.Element(d.options())}, nil
		}
		return nil, invalid("Table '%s' not found in keyspace '%s'", name, k.Name)
	case cql.DescribeType:
		if t, ok := k.Type(name); ok {
			return []schema.Element{schema.TypeElement(t)}, nil
		}
		return nil, invalid("User defined type '%s' not found in '%s'", name, k.Name)
	case cql.DescribeIndex:
		return nil, invalid("Table for existing index '%s' not found in '%s'", name, k.Name)
	case cql.DescribeView:
		return nil, invalid("Materialized view '%s' not found in '%s'", name, k.Name)
	case cql.DescribeFunction:
		return nil, invalid("User defined function '%s' not found in '%s'", name, k.Name)
	}
	return nil, invalid("User defined aggregate '%s' not found in '%s'", name, k.Name)
}

// any describes what a bare name means: a keyspace, or a table of the keyspace in use.
func (d *describer) any() ([]schema.Element, error) {
	name, in := d.a.Name.Name.Name, d.a.Name.Keyspace.Name
	if in == "" {
		if k, ok := d.c.Keyspace(name); ok {
			return d.element(k, cql.DescribeKeyspace, "")
		}
		if in = d.o.keyspaceOf(); in == "" {
			in = name
		}
	}
	k, err := d.keyspace(in)
	if err != nil {
		return nil, err
	}
	if _, ok := k.Table(name); ok {
		return d.element(k, cql.DescribeTable, name)
	}
	return nil, invalid("'%s' not found in keyspace '%s'", name, in)
}

// cluster returns DESCRIBE CLUSTER's row; with a user's keyspace in use also who owns which range of it.
func (d *describer) cluster() ([]protocol.Column, [][]byte) {
	columns := describeColumns("cluster", "partitioner", "snitch")
	partitioner := d.s.Partitioner[strings.LastIndexByte(d.s.Partitioner, '.')+1:]
	row := [][]byte{[]byte(d.s.ClusterName), []byte(partitioner), []byte("DynamicEndpointSnitch")}
	k, ok := d.c.Keyspace(d.o.keyspaceOf())
	if !ok || k.System() {
		return columns, row
	}
	t := types.MapOf(types.Text, types.ListOf(types.Text, false), false)
	columns = append(columns, protocol.Column{Keyspace: schema.SystemKeyspace, Table: "describe", Name: "range_ownership", Type: t})
	return columns, append(row, d.ownership(k.Name, t))
}

// ownership returns a map from the end of each range to the nodes that replicate it.
func (d *describer) ownership(keyspace string, t *types.Type) []byte {
	place := d.s.Placement(keyspace)
	if place == nil {
		return t.AppendCollection(nil, nil)
	}
	var elems [][]byte
	nodes := place.Ring().Nodes()
	for _, tok := range place.Ring().Tokens() {
		var hosts [][]byte
		for _, i := range place.Replicas(tok) {
			if n := d.s.Node(nodes[i].ID); n != nil {
				hosts = append(hosts, hostText(n.Internode))
			}
		}
		elems = append(elems, strconv.AppendInt(nil, int64(tok), 10), t.Elems[1].AppendCollection(nil, hosts))
	}
	t.SortElems(elems)
	return t.AppendCollection(nil, elems)
}

func hostText(a netip.AddrPort) []byte { return slices.Concat([]byte("/"), []byte(a.String())) }
