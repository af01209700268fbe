package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// This file takes, lists and removes snapshots (docs/design/0012-snapshots.md), here and, through other nodes, in the whole cluster.

// verbOperator carries an operator's command to another node: JSON of remoteCommand; answer: JSON of remoteAnswer.
const verbOperator rpc.Verb = rpc.VerbMetaLast

// How long another node is waited for.
const (
	remoteTimeout  = 10 * time.Minute
	restoreTimeout = 24 * time.Hour
)

// snapshots are those of this node, and what is known of tables that are gone.
type snapshots struct {
	*storage.Snapshots
	mu   sync.Mutex // guards last; held for a map access
	last map[schema.Generation]*schema.Catalog
	kept *schema.Catalog // newest that is stored under catalogKey; of the goroutine that removes tables
	busy chan struct{}   // a place for each command of another node
}

var catalogKey = []byte("catalog")

func (n *Node) openSnapshots() error {
	n.snapshots = &snapshots{Snapshots: storage.NewSnapshots(n.engine, filepath.Join(n.o.Config.DataDir, storage.SnapshotsDir)),
		last: map[schema.Generation]*schema.Catalog{}, busy: make(chan struct{}, 4)}
	if err := n.snapshots.Clean(); err != nil {
		return fmt.Errorf("node: snapshots: %w", err)
	}
	raw, found, err := n.engine.Space(storage.SpaceNode).Get(catalogKey)
	if err != nil || !found {
		return err
	}
	if n.snapshots.kept, err = schema.DecodeCatalog(raw); err != nil {
		return fmt.Errorf("node: the kept catalog: %w", err)
	}
	return nil
}

// remember keeps the definition of a table that is gone, for the snapshot before its rows are removed.
func (s *snapshots) remember(gen schema.Generation, c *schema.Catalog) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[gen] = c
}

// before returns a catalog that has the generation; nil: none is known.
func (s *snapshots) before(gen schema.Generation) *schema.Catalog {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.last[gen]; c != nil {
		return c
	}
	if s.kept != nil {
		if _, ok := s.kept.TableByGeneration(gen); ok {
			return s.kept
		}
	}
	return nil
}

func (s *snapshots) forget(gen schema.Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, gen)
}

// keepCatalog stores the newest catalog, so that a crash between a DROP and the snapshot before it loses no definition.
func (n *Node) keepCatalog() error {
	c := n.log.Current().Catalog
	if n.snapshots.kept != nil && n.snapshots.kept.Version == c.Version && n.snapshots.kept.NextGeneration == c.NextGeneration {
		return nil
	}
	b := n.engine.NewBatch()
	if err := b.Set(storage.SpaceNode, catalogKey, c.Encode()); err != nil {
		b.Discard()
		return err
	}
	if err := n.engine.CommitWait(n.life, b); err != nil {
		return err
	}
	n.snapshots.kept = c
	return nil
}

// snapshotBefore takes the snapshot of a dropped or truncated table, if it is a user's.
func (n *Node) snapshotBefore(gen schema.Generation) error {
	if !n.o.Config.AutoSnapshot || gen < schema.GenerationUserMin {
		return nil
	}
	catalog := n.snapshots.before(gen)
	if catalog == nil {
		n.o.Logger.Error("rows of a dropped table have no definition any more: no snapshot is taken before they are removed", "generation", uint32(gen))
		return nil
	}
	t, _ := catalog.TableByGeneration(gen)
	why := "dropped"
	if now, ok := n.log.Current().Catalog.TableByID(t.ID); ok && now.Name == t.Name {
		why = "truncated"
	}
	// The generation makes the name the same when this is done again after a crash.
	tag := fmt.Sprintf("%s-%d-%s", why, gen, t.Name)
	_, err := n.snapshots.Take(storage.SnapshotRequest{Tag: tag, Tables: []storage.SnapshotTable{tableOfSnapshot(t)}, Catalog: catalog, Schema: describe(catalog, []*schema.Table{t}),
		TTL: n.o.Config.AutoSnapshotTTL, Automatic: true, Cluster: n.log.Current().ClusterName, HostID: n.home.HostID.String()})
	if errors.Is(err, storage.ErrSnapshotExists) {
		return nil
	}
	if err == nil {
		n.o.Logger.Info("snapshot taken before rows are removed", "snapshot", tag, "keyspace", t.Keyspace, "table", t.Name)
	}
	return err
}

// expireSnapshots removes those whose time is over.
func (n *Node) expireSnapshots() {
	removed, err := n.snapshots.Expire(n.o.Config.AutoSnapshotMax)
	if len(removed) > 0 {
		n.o.Logger.Info("snapshots removed: their time was over, or there were too many automatic ones", "snapshots", removed)
	}
	if err != nil {
		n.o.Logger.Warn("snapshots could not be removed", "err", err)
	}
}

func tableOfSnapshot(t *schema.Table) storage.SnapshotTable {
	return storage.SnapshotTable{Keyspace: t.Keyspace, Name: t.Name, Generation: uint32(t.Generation)}
}

// describe returns the statements that make the tables with all they need, in order.
func describe(c *schema.Catalog, tables []*schema.Table) string {
	var b strings.Builder
	for _, k := range c.Keyspaces() {
		if !slices.ContainsFunc(tables, func(t *schema.Table) bool { return t.Keyspace == k.Name }) {
			continue
		}
		for _, e := range k.Elements(schema.DescribeOptions{Internals: true}) {
			if e.Type == "table" && !slices.ContainsFunc(tables, func(t *schema.Table) bool {
				return t.Element(schema.DescribeOptions{}).Name == e.Name && t.Keyspace == k.Name
			}) {
				continue
			}
			b.WriteString(e.CreateStatement + "\n\n")
		}
	}
	return b.String()
}

// remoteCommand is one command for one node; docs/format/snapshots.md.
type remoteCommand struct {
	Do   string     `json:"do"`
	Args url.Values `json:"args"`
}

type remoteAnswer struct {
	Error string          `json:"error,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// doProgress asks how far a node has come with the ranges that it gains; it is answered at once, whatever else is asked for.
const doProgress = "progress"

// local are the commands that a node does for another one.
func (n *Node) local(ctx context.Context, do string, args url.Values) (any, error) {
	switch do {
	case "snapshot":
		return n.takeSnapshot(args)
	case "listsnapshots":
		return n.listSnapshots()
	case "clearsnapshot":
		return n.clearSnapshots(args)
	case "restore":
		return n.restore(ctx, args)
	case doProgress:
		return n.fillStatus(), nil
	}
	return nil, bad("this node does not know the command %s", do)
}

// operatorSession answers other nodes.
type operatorSession struct{ n *Node }

// Handle implements rpc.Session.
func (s operatorSession) Handle(req *rpc.Request, rsp rpc.Responder) {
	var c remoteCommand
	if req.Verb != verbOperator || json.Unmarshal(req.Body, &c) != nil {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	if c.Do == doProgress {
		rsp.Reply(rpc.StatusOK, s.answer(&c))
		return
	}
	select {
	case s.n.snapshots.busy <- struct{}{}:
	default:
		rsp.Reply(rpc.StatusOverloaded, nil)
		return
	}
	s.n.goLife(func() {
		defer func() { <-s.n.snapshots.busy }()
		rsp.Reply(rpc.StatusOK, s.answer(&c))
	})
}

// answer does what is asked for and returns a remoteAnswer, encoded.
func (s operatorSession) answer(c *remoteCommand) []byte {
	var a remoteAnswer
	v, err := s.n.local(s.n.life, c.Do, c.Args)
	if err == nil {
		a.Value, err = json.Marshal(v)
	}
	if err != nil {
		a.Error = err.Error()
	}
	body, _ := json.Marshal(a) // strings and bytes always can
	return body
}

// Flush implements rpc.Session.
func (operatorSession) Flush() {}

// Close implements rpc.Session: what is under way ends with the node.
func (operatorSession) Close() {}

// NodeAnswer is what one node said to a command for the whole cluster.
type NodeAnswer struct {
	HostID  string          `json:"host_id"`
	Address string          `json:"address"`
	Error   string          `json:"error,omitempty"`
	Value   json.RawMessage `json:"value,omitempty"`
}

// anywhere is an endpoint that does something here or, with cluster=true, on all members, and answers for each.
func (n *Node) anywhere(method, do string) admin.Endpoint {
	return admin.Endpoint{Method: method, Path: do, Do: func(ctx context.Context, args url.Values) (any, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(n.life, cancel)()
		if args.Get("cluster") != "true" {
			v, err := n.local(ctx, do, args)
			if err != nil {
				return nil, err
			}
			raw, err := json.Marshal(v)
			return []NodeAnswer{{HostID: n.home.HostID.String(), Address: n.self.Internode.Addr().String(), Value: raw}}, err
		}
		if do == "snapshot" && args.Get("tag") == "" {
			args.Set("tag", n.defaultTag())
		}
		return n.everywhere(ctx, do, args), nil
	}}
}

// everywhere asks all members at once; answers are by address.
func (n *Node) everywhere(ctx context.Context, do string, args url.Values) []NodeAnswer {
	members := n.log.Current().Members()
	out := make([]NodeAnswer, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		out[i] = NodeAnswer{HostID: m.ID.String(), Address: m.Internode.Addr().String()}
		wg.Go(func() { out[i].Value, out[i].Error = n.onMember(ctx, m.ID, do, args) })
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b NodeAnswer) int { return strings.Compare(a.Address+a.HostID, b.Address+b.HostID) })
	return out
}

func (n *Node) onMember(ctx context.Context, id ring.HostID, do string, args url.Values) (json.RawMessage, string) {
	if id == n.home.HostID {
		v, err := n.local(ctx, do, args)
		if err != nil {
			return nil, err.Error()
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err.Error()
		}
		return raw, ""
	}
	body, err := json.Marshal(remoteCommand{do, args})
	if err != nil {
		return nil, err.Error()
	}
	timeout := remoteTimeout
	if do == "restore" {
		timeout = restoreTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, status, err := peers{n}.Call(ctx, id, rpc.Data, verbOperator, body)
	switch {
	case err != nil:
		return nil, "it does not answer: " + err.Error()
	case status == rpc.StatusUnknownVerb:
		return nil, "it runs a version that does not know the command"
	case status != rpc.StatusOK:
		return nil, fmt.Sprintf("it refuses (status %d)", status)
	}
	var a remoteAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err.Error()
	}
	return a.Value, a.Error
}

func (n *Node) defaultTag() string { return strconv.FormatInt(n.o.Now().UnixMilli(), 10) }

// takeSnapshot takes one of the tables named, of all user tables without.
func (n *Node) takeSnapshot(args url.Values) (*storage.Manifest, error) {
	var tables []*schema.Table
	for _, name := range args["table"] { // nodetool names what does not exist in its own words
		if ks, _, one := strings.Cut(name, "."); !one {
			if _, ok := n.log.Current().Catalog.Keyspace(ks); !ok {
				return nil, bad("Keyspace %s does not exist", ks)
			}
		}
	}
	tables, err := n.tablesNamed(args["table"])
	if err != nil {
		return nil, err
	}
	if len(tables) == 0 {
		return nil, bad("there are no tables")
	}
	r := storage.SnapshotRequest{Tag: args.Get("tag"), Catalog: n.log.Current().Catalog, Schema: describe(n.log.Current().Catalog, tables), Cluster: n.log.Current().ClusterName,
		HostID: n.home.HostID.String()}
	if r.Tag == "" {
		r.Tag = n.defaultTag()
	}
	if ttl := args.Get("ttl"); ttl != "" {
		if r.TTL, err = time.ParseDuration(ttl); err != nil || r.TTL < time.Minute {
			return nil, bad("ttl %q is no time of at least a minute, such as 36h", ttl)
		}
	}
	for _, t := range tables {
		r.Tables = append(r.Tables, tableOfSnapshot(t))
	}
	m, err := n.snapshots.Take(r)
	switch {
	case errors.Is(err, storage.ErrSnapshotExists):
		return nil, bad("Snapshot %s already exists.", r.Tag)
	case errors.Is(err, storage.ErrSnapshotName):
		return nil, bad("%s", err)
	case err != nil:
		return nil, err
	}
	m.Files = nil // many, and of no interest to who asked
	return m, nil
}

// SnapshotRow is one table of a snapshot, as listsnapshots shows it.
type SnapshotRow struct {
	Tag       string     `json:"tag"`
	Keyspace  string     `json:"keyspace"`
	Table     string     `json:"table"`
	TrueBytes int64      `json:"true_bytes"` // of files that only the snapshot holds; a file of several tables counts for each
	Bytes     uint64     `json:"bytes"`
	Created   time.Time  `json:"created"`
	Expires   *time.Time `json:"expires,omitempty"`
	Automatic bool       `json:"automatic"`
}

// SnapshotList is the answer of listsnapshots for one node.
type SnapshotList struct {
	Rows  []SnapshotRow `json:"snapshots"`
	Total int64         `json:"true_bytes_total"`
}

func (n *Node) listSnapshots() (SnapshotList, error) {
	list, err := n.snapshots.List()
	out := SnapshotList{Rows: []SnapshotRow{}}
	for _, s := range list {
		out.Total += s.TrueBytes
		for i, t := range s.Tables {
			out.Rows = append(out.Rows, SnapshotRow{Tag: s.Tag, Keyspace: t.Keyspace, Table: t.Name, TrueBytes: s.TableBytes[i], Bytes: t.Bytes, Created: s.Created, Expires: s.Expires, Automatic: s.Automatic})
		}
	}
	return out, err
}

// snapshotBytes is what listsnapshots shows of one table, in all.
func (n *Node) snapshotBytes(list []storage.SnapshotInfo, t *schema.Table) (sum int64) {
	for _, s := range list {
		for i, x := range s.Tables {
			if x.Keyspace == t.Keyspace && x.Name == t.Name {
				sum += s.TableBytes[i]
			}
		}
	}
	return sum
}

// Cleared is the answer of clearsnapshot for one node.
type Cleared struct {
	Snapshots int `json:"snapshots"`
}

func (n *Node) clearSnapshots(args url.Values) (Cleared, error) {
	if args.Get("tag") == "" && args.Get("all") != "true" {
		return Cleared{}, bad("Specify snapshot name or --all")
	}
	if args.Get("tag") != "" && args.Get("all") == "true" {
		return Cleared{}, bad("Specify only one of snapshot name or --all")
	}
	c, err := n.snapshots.Clear(args.Get("tag"), args["keyspace"])
	if errors.Is(err, storage.ErrSnapshotName) {
		err = bad("%s", err)
	}
	return Cleared{c}, err
}
