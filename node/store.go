package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/helenusdb/helenus/cql/system"
	"github.com/helenusdb/helenus/internal/hlc"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/storage"
)

// This file binds the store, and keeps it: its clock, its identity, what was dropped.

func (n *Node) openHome(context.Context) error {
	c := n.o.Config
	home, err := storage.OpenHome(n.o.FS, c.DataDir, n.o.uuid2host, n.o.Now().Unix())
	if err != nil {
		return err
	}
	n.home = home
	n.self = meta.Node{ID: home.HostID, Generation: home.Generation, Internode: c.Internode(), Gossip: n.gossipAddr(),
		Native: c.Native(), DC: c.DataCenter, Rack: c.Rack, Version: meta.Version, ReleaseVersion: system.ReleaseVersion}
	n.o.Logger.Info("data folder opened", "dir", c.DataDir, "host_id", home.HostID.String(), "generation", home.Generation, "new", home.Created)
	return nil
}

func (o *Options) uuid2host() ring.HostID { return ring.HostID(o.uuid()) }

func (n *Node) openStorage(ctx context.Context) error {
	c := n.o.Config
	n.engineMetrics = &storage.Metrics{}
	modes := map[string]storage.SyncMode{"group": storage.Group, "batch": storage.Batched, "periodic": storage.Periodic}
	e, err := storage.Open(ctx, storage.Options{Dir: filepath.Join(c.DataDir, storage.StoreDir), FS: n.o.FS, Sync: modes[c.CommitSync],
		PeriodicInterval: c.CommitSyncPeriod, BlockCacheBytes: int64(c.BlockCache), RowCacheBytes: orNone(int64(c.RowCache)),
		MemtableBytes: int64(c.Memtable), ReserveBytes: orNone(int64(c.DiskReserve)), Now: n.o.Now, Logger: n.o.Logger,
		Fatal: n.o.Fatal, Tables: tables{n.log}, GCBefore: n.gcBefore, PurgedBefore: n.purgedBefore, PurgeInterval: n.o.PurgeInterval,
		StripeWait: c.WriteTimeout / 2, Metrics: n.engineMetrics})
	if err != nil {
		return err
	}
	n.engine = e
	if err := n.openBook(); err != nil {
		return err
	}
	if err := n.openSnapshots(); err != nil {
		return err
	}
	if err := n.openShard(); err != nil {
		return err
	}
	if err := n.lookAtTail(); err != nil {
		return err
	}
	gens, err := e.Generations()
	if err != nil {
		return err
	}
	if len(gens) > 0 && !n.log.Current().Founded() {
		return fmt.Errorf("node: the data folder %s holds rows but no cluster metadata: restore its meta folder, or start with an empty data folder", c.DataDir)
	}
	return n.openClock()
}

// lookAtTail says what it means that the end of a log was found missing, at this start or an earlier one. A disk that lost the
// end of one log is not believed about the other: the node votes only after it has learned the metadata anew.
func (n *Node) lookAtTail() error {
	rows, metadata := n.engine.Suspect(), n.log.Suspect()
	if err := n.openVotes(rows); err != nil {
		return err
	}
	switch {
	case !rows && !metadata:
		return nil
	case n.o.ClearSuspect:
		n.o.Logger.Warn("a store whose log was too short counts as whole again, as the operator says", "rows", rows, "metadata", metadata)
		return errors.Join(n.engine.ClearSuspect(), n.log.ClearSuspect())
	}
	if rows {
		n.o.Logger.Error("the end of the write-ahead log is missing: writes acknowledged before a stop may be gone from this node, it purges no tombstones, and it does not vote on conditional writes. Repair its ranges (helenus repair), which brings back what the others have, then start it once with --clear-suspect")
		n.log.Distrust()
	}
	if metadata {
		n.o.Logger.Error("the end of the metadata log is missing: this node does not vote until the others have sent it what it lacks, which needs a majority of voters without it. Where there is none, start it once with --clear-suspect: then its copy counts as whole")
	}
	n.self.Health = meta.Suspect
	return nil
}

// orNone makes 0 mean none, where storage takes a negative number for that.
func orNone(v int64) int64 {
	if v == 0 {
		return -1
	}
	return v
}

var clockKey = []byte("clock")

func (n *Node) openClock() error {
	raw, found, err := n.engine.Space(storage.SpaceNode).Get(clockKey)
	if err != nil {
		return fmt.Errorf("node: clock: %w", err)
	}
	floor := int64(0)
	if found && len(raw) == 8 {
		floor = int64(binary.BigEndian.Uint64(raw))
	}
	n.clock = hlc.New(n.o.Now, floor, func(ceiling int64) error {
		b := n.engine.NewBatch()
		if err := b.Set(storage.SpaceNode, clockKey, binary.BigEndian.AppendUint64(nil, uint64(ceiling))); err != nil {
			b.Discard()
			return err
		}
		if err := n.engine.CommitWait(n.life, b); err != nil || n.o.Config.CommitSync != "periodic" {
			return err
		}
		return n.engine.Sync() // timestamps below the ceiling may become durable on other nodes at once
	})
	return nil
}

// startMaintenance runs what a node does for itself: the clock's ceiling, and the rows of tables that are gone.
func (n *Node) startMaintenance(context.Context) error {
	if err := n.clock.Extend(); err != nil {
		return fmt.Errorf("node: clock: %w", err)
	}
	n.services.start("clock", n.keepClock, nil)
	n.services.start("dropped tables", n.dropRetired, nil)
	return nil
}

func (n *Node) keepClock(ctx context.Context) error {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done(): // nobody asks for timestamps any more
			if err := n.clock.Rest(); err != nil {
				n.o.Logger.Warn("the clock's ceiling could not be stored", "err", err)
			}
			return nil
		case <-t.C:
			if err := n.clock.Extend(); err != nil && !errors.Is(err, storage.ErrDiskFull) && ctx.Err() == nil {
				n.o.Logger.Error("the clock's ceiling could not be stored", "err", err)
			}
		}
	}
}

func (n *Node) dropRetired(ctx context.Context) error {
	t := time.NewTicker(snapshotsInterval)
	defer t.Stop()
	for {
		err := n.dropUnknown()
		if err == nil {
			err = n.forgetTables(ctx)
		}
		if lost := n.voidUnsound(ctx); lost != nil && ctx.Err() == nil {
			n.o.Logger.Error("records of repairs with a node that may have lost something could not be removed", "err", lost)
		}
		if err == nil {
			err = n.keepCatalog()
		}
		if err != nil && ctx.Err() == nil {
			n.o.Logger.Error("rows of a dropped table could not be removed", "err", err)
		}
		n.expireSnapshots()
		select {
		case <-ctx.Done():
			return nil
		case <-n.retired:
		case <-t.C:
		}
	}
}

// snapshotsInterval is between two looks for snapshots whose time is over, and tries to remove what could not be removed.
const snapshotsInterval = time.Minute

// dropUnknown removes the rows of generations that the catalog has given out and does not have any more.
func (n *Node) dropUnknown() error {
	gens, err := n.engine.Generations()
	if err != nil {
		return err
	}
	c := n.log.Current().Catalog
	for _, g := range gens {
		if _, ok := c.TableByGeneration(g); ok || g >= c.NextGeneration {
			continue
		}
		if err := n.snapshotBefore(g); err != nil {
			return fmt.Errorf("node: snapshot before rows are removed: %w", err)
		}
		if err := n.engine.DropGeneration(g); err != nil {
			return err
		}
		n.snapshots.forget(g)
		n.o.Logger.Info("rows of a dropped or truncated table removed", "generation", uint32(g))
	}
	return nil
}
