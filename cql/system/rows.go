package system

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// cached are a table's partitions as of one catalog.
type cached struct {
	catalog *schema.Catalog
	parts   []partition
}

type tableName struct{ keyspace, name string }

// partitions returns the table's content. What depends on the catalog alone is computed once for each.
func (s *Tables) partitions(t *schema.Table) []partition {
	state := s.o.Current()
	switch t.Keyspace {
	case schema.SchemaKeyspace:
		return s.fromCatalog(t, state.Catalog, state.Catalog.SchemaRows)
	case schema.VirtualSchemaKeyspace:
		return s.fromCatalog(t, state.Catalog, state.Catalog.VirtualSchemaRows)
	case schema.SystemKeyspace:
		return encode(t, s.systemRows(state, t.Name))
	case schema.ViewsKeyspace:
		return encode(t, s.viewRows(t.Name))
	}
	return nil
}

func (s *Tables) fromCatalog(t *schema.Table, catalog *schema.Catalog, rows func(string) []schema.SchemaRow) []partition {
	name := tableName{t.Keyspace, t.Name}
	s.mu.Lock()
	c := s.cache[name]
	s.mu.Unlock()
	if c.catalog == catalog {
		return c.parts
	}
	var records []record
	for _, r := range rows(t.Name) {
		rec := record{}
		for _, v := range r {
			rec[v.Column] = v.Value
		}
		records = append(records, rec)
	}
	c = cached{catalog, encode(t, records)}
	s.mu.Lock()
	s.cache[name] = c
	s.mu.Unlock()
	return c.parts
}

// systemRows returns the rows of a table of the keyspace system.
func (s *Tables) systemRows(state *meta.State, table string) []record {
	switch table {
	case "local":
		return []record{s.local(state)}
	case "peers", "peers_v2":
		var out []record
		for i := range state.Nodes {
			n := &state.Nodes[i]
			if n.ID != s.o.Self && state.Owns(n.ID) && n.Native.IsValid() && len(n.Tokens) > 0 {
				out = append(out, s.peer(state, n, table == "peers_v2"))
			}
		}
		return out
	case "prepared_statements":
		return s.prepared()
	case "size_estimates":
		return s.sizeEstimates()
	case "table_estimates":
		return s.tableEstimates()
	}
	return nil
}

// local is the row of system.local. Its schema version is the catalog's: what this node has applied.
func (s *Tables) local(state *meta.State) record {
	n := state.Node(s.o.Self)
	if n == nil {
		n = &meta.Node{ID: s.o.Self}
	}
	native, listen := s.o.Native, s.o.Listen
	if !native.IsValid() {
		native = n.Native
	}
	if !listen.IsValid() {
		listen = n.Internode
	}
	return record{
		"key":                     text("local"),
		"bootstrapped":            text("COMPLETED"),
		"broadcast_address":       inet(listen.Addr()),
		"broadcast_port":          integer(int32(listen.Port())),
		"cluster_name":            text(state.ClusterName),
		"cql_version":             text(protocol.CQLVersion),
		"data_center":             text(n.DC),
		"gossip_generation":       integer(int32(n.Generation)),
		"host_id":                 slices.Clone(s.o.Self[:]),
		"listen_address":          inet(listen.Addr()),
		"listen_port":             integer(int32(listen.Port())),
		"native_protocol_version": text(NativeProtocolVersion),
		"partitioner":             text(state.Partitioner),
		"rack":                    text(n.Rack),
		"release_version":         text(ReleaseVersion),
		"rpc_address":             inet(native.Addr()),
		"rpc_port":                integer(int32(native.Port())),
		"schema_version":          slices.Clone(state.Catalog.Version[:]),
		"tokens":                  tokens(state, n.ID),
	}
}

// peer is a row of system.peers or peers_v2. Every node is shown with the schema version of this one: a schema change is
// answered when the live nodes have applied it, and drivers leave those that are down out of the agreement.
func (s *Tables) peer(state *meta.State, n *meta.Node, v2 bool) record {
	r := record{
		"peer":            inet(n.Internode.Addr()),
		"data_center":     text(n.DC),
		"host_id":         slices.Clone(n.ID[:]),
		"rack":            text(n.Rack),
		"release_version": text(ReleaseVersion),
		"schema_version":  slices.Clone(state.Catalog.Version[:]),
		"tokens":          tokens(state, n.ID),
	}
	if !v2 {
		r["rpc_address"] = inet(n.Native.Addr())
		return r
	}
	r["peer_port"] = integer(int32(n.Internode.Port()))
	r["native_address"] = inet(n.Native.Addr())
	r["native_port"] = integer(int32(n.Native.Port()))
	return r
}

func (s *Tables) prepared() []record {
	var out []record
	if s.o.Prepared == nil {
		return nil
	}
	s.o.Prepared(func(id [16]byte, keyspace, query string) {
		r := record{"prepared_id": slices.Clone(id[:]), "query_string": text(query)}
		if keyspace != "" {
			r["logged_keyspace"] = text(keyspace)
		}
		out = append(out, r)
	})
	return out
}

// viewRows returns the rows of a table of system_views.
func (s *Tables) viewRows(table string) []record {
	switch table {
	case "caches":
		return s.caches()
	case "clients":
		return s.clients()
	case "disk_usage":
		return s.diskUsage()
	case "repairs":
		return s.repairs()
	case "settings":
		if s.o.Settings == nil {
			return nil
		}
		var out []record
		for _, v := range s.o.Settings() {
			out = append(out, record{"name": text(v.Name), "value": text(v.Value)})
		}
		return out
	case "thread_pools":
		return s.threadPools()
	}
	return nil
}

func (s *Tables) clients() []record {
	if s.o.Clients == nil {
		return nil
	}
	var out []record
	for _, c := range s.o.Clients() {
		i := c.Info
		r := record{
			"address":          inet(i.Remote.Addr().Unmap()),
			"port":             integer(int32(i.Remote.Port())),
			"connection_stage": text(stageName(c.Stage)),
			"hostname":         text(i.Remote.Addr().Unmap().String()),
			"protocol_version": integer(int32(i.Version)),
			"request_count":    bigint(c.Requests),
			"ssl_enabled":      boolean(i.TLS != nil),
			"username":         text(i.User),
		}
		if i.DriverName != "" {
			r["driver_name"], r["driver_version"] = text(i.DriverName), text(i.DriverVersion)
		}
		r["client_options"] = options(i.Options)
		out = append(out, r)
	}
	return out
}

func stageName(s protocol.Stage) string {
	switch s {
	case protocol.StageEstablished:
		return "established"
	case protocol.StageAuthentication:
		return "authentication"
	}
	return "ready"
}

func options(list []protocol.StringPair) []byte {
	t := types.MapOf(types.Text, types.Text, true)
	seen := map[string]string{}
	var names []string
	for _, p := range list {
		if _, ok := seen[p.Key]; !ok {
			names = append(names, p.Key)
		}
		seen[p.Key] = p.Value
	}
	slices.Sort(names)
	var elems [][]byte
	for _, n := range names {
		elems = append(elems, []byte(n), []byte(seen[n]))
	}
	return t.AppendCollection(nil, elems)
}

// tokens returns a set<text> of the tokens by which the node is read now, nil without any.
func tokens(state *meta.State, id ring.HostID) []byte {
	var list []string
	at, ok := state.Ring.Node(id)
	if !ok {
		return nil
	}
	for _, t := range state.Ring.Nodes()[at].Tokens {
		list = append(list, strconv.FormatInt(int64(t), 10))
	}
	if list == nil {
		return nil
	}
	slices.Sort(list)
	elems := make([][]byte, len(list))
	for i, t := range list {
		elems[i] = []byte(t)
	}
	return types.SetOf(types.Text, false).AppendCollection(nil, elems)
}

func text(s string) []byte     { return append([]byte{}, s...) }
func integer(n int32) []byte   { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
func bigint(n int64) []byte    { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
func inet(a netip.Addr) []byte { return a.Unmap().AsSlice() }

func boolean(b bool) []byte {
	if b {
		return []byte{1}
	}
	return []byte{0}
}
