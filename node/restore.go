package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// restoreWriters is how many mutations of a restore are under way; each is at most a page of 1 MiB.
const restoreWriters = 32

// A mutation that fails is tried again: writing it twice is writing it once.
const (
	restoreTries = 30
	restorePause = time.Second
)

// Restored is the answer of restore for one node: what was read from a snapshot and written through the cluster.
type Restored struct {
	Snapshot string          `json:"snapshot"`
	HostID   string          `json:"host_id"` // whose snapshot it is
	Tables   []RestoredTable `json:"tables"`
}

// RestoredTable is one table of it.
type RestoredTable struct {
	Keyspace  string `json:"keyspace"`
	Table     string `json:"table"`
	Mutations int64  `json:"mutations"` // a large partition is several
	Bytes     int64  `json:"bytes"`
}

var restoreLevels = map[string]coordinator.Level{"": coordinator.Quorum, "QUORUM": coordinator.Quorum, "ALL": coordinator.All, "ONE": coordinator.One,
	"LOCAL_QUORUM": coordinator.LocalQuorum, "EACH_QUORUM": coordinator.EachQuorum}

// restore writes what a snapshot holds through the cluster, with its own timestamps: rows, expiries and deletions come to whoever
// owns them now, and where there is something newer it wins. tag names a snapshot of this node, path a folder with one of any node.
func (n *Node) restore(ctx context.Context, args url.Values) (*Restored, error) {
	level, ok := restoreLevels[strings.ToUpper(args.Get("consistency"))]
	if !ok {
		return nil, bad("consistency %q is none of ONE, QUORUM, LOCAL_QUORUM, EACH_QUORUM, ALL", args.Get("consistency"))
	}
	dir := args.Get("path")
	switch {
	case dir == "" && args.Get("tag") == "", dir != "" && args.Get("tag") != "":
		return nil, bad("Specify either the name of a snapshot of this node or the path of one")
	case dir == "":
		dir = n.snapshots.Dir(args.Get("tag"))
	}
	r, err := storage.OpenSnapshot(n.o.FS, dir)
	if errors.Is(err, storage.ErrNoSnapshot) {
		return nil, bad("%s", err)
	}
	if err != nil {
		return nil, err
	}
	out, err := n.restoreFrom(ctx, r, args["table"], level)
	return out, errors.Join(err, r.Close())
}

func (n *Node) restoreFrom(ctx context.Context, r *storage.SnapshotReader, names []string, level coordinator.Level) (*Restored, error) {
	out := &Restored{Snapshot: r.Manifest.Tag, HostID: r.Manifest.HostID, Tables: []RestoredTable{}}
	var chosen []storage.SnapshotTable
	for _, t := range r.Manifest.Tables {
		if len(names) == 0 || slices.Contains(names, t.Keyspace) || slices.Contains(names, t.Keyspace+"."+t.Name) {
			chosen = append(chosen, t)
		}
	}
	if len(chosen) == 0 {
		return nil, bad("the snapshot %s holds no such table", r.Manifest.Tag)
	}
	for _, t := range chosen { // all of them fit, or nothing is written
		if _, err := n.log.Current().Catalog.Adopt(r.Catalog, t.Keyspace, t.Name); err != nil {
			return nil, bad("%s", err)
		}
	}
	for _, t := range chosen {
		done, err := n.restoreTable(ctx, r, t, level)
		out.Tables = append(out.Tables, done)
		if err != nil {
			return nil, fmt.Errorf("%s.%s, after %d mutations: %w; it may be run again", t.Keyspace, t.Name, done.Mutations, err)
		}
		n.o.Logger.Info("table restored", "snapshot", r.Manifest.Tag, "keyspace", t.Keyspace, "table", t.Name, "mutations", done.Mutations, "bytes", done.Bytes)
	}
	return out, nil
}

// adopt makes the table, if it is not there, and returns it. Several nodes may do so at the same time.
func (n *Node) adopt(ctx context.Context, from *schema.Catalog, t storage.SnapshotTable) (*schema.Table, error) {
	_, _, err := ddl{n}.Change(ctx, func(s *meta.State) (schema.Plan, error) { return s.Catalog.Adopt(from, t.Keyspace, t.Name) })
	if err != nil {
		return nil, err
	}
	now, ok := n.log.Current().Catalog.Table(t.Keyspace, t.Name)
	if !ok {
		return nil, errors.New("the table is gone again")
	}
	return now, nil
}

func (n *Node) restoreTable(ctx context.Context, r *storage.SnapshotReader, t storage.SnapshotTable, level coordinator.Level) (RestoredTable, error) {
	out := RestoredTable{Keyspace: t.Keyspace, Table: t.Name}
	now, err := n.adopt(ctx, r.Catalog, t)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var bytes atomic.Int64
	places := make(chan struct{}, restoreWriters)
	partitioner := n.log.Current().Ring.Partitioner()
	err = r.Mutations(ctx, schema.Generation(t.Generation), func(m row.Mutation) error {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		m.Generation, m.Token = now.Generation, partitioner.Token(m.Key)
		out.Mutations++
		wg.Go(func() {
			defer func() { <-places }()
			if err := n.restoreWrite(ctx, m, level); err != nil {
				cancel(err)
			}
			bytes.Add(int64(len(m.Key) + len(m.Fragment)))
		})
		return nil
	})
	wg.Wait()
	out.Bytes = bytes.Load()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return out, err
}

func (n *Node) restoreWrite(ctx context.Context, m row.Mutation, level coordinator.Level) (err error) {
	for range restoreTries {
		w := coordinator.Write{Mutations: []row.Mutation{m}, Level: level, Type: coordinator.Simple}
		if err = n.coord.WriteSync(ctx, &w); err == nil || ctx.Err() != nil {
			return err
		}
		var large *coordinator.TooLarge
		var unknown *coordinator.UnknownTable
		if errors.As(err, &large) || errors.As(err, &unknown) || isInvalid(err) {
			return err
		}
		sleep(ctx, restorePause)
	}
	return err
}
