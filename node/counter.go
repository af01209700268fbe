package node

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

var shardKey = []byte("counter-shard")

// The record of the id that the store counts with: version, shard id, host id. docs/format/storage-keys.md draws it.
const (
	shardVersion   = 1
	shardRecordLen = 1 + len(row.ShardID{}) + len(ring.HostID{})
)

func appendShard(dst []byte, shard row.ShardID, host ring.HostID) []byte {
	return append(append(append(dst, shardVersion), shard[:]...), host[:]...)
}

// decodeShard is false for bytes that are no record of this version and host: then the store counts with a new id.
func decodeShard(src []byte, host ring.HostID) (shard row.ShardID, ok bool) {
	if len(src) != shardRecordLen || src[0] != shardVersion || ring.HostID(src[1+len(shard):]) != host {
		return shard, false
	}
	return row.ShardID(src[1:]), true
}

// openShard finds out what the store counts with. A store that may have forgotten what it has counted must not go on with
// the id that it had, for other replicas may know a later state: that is one whose log has lost its end, and any that is
// synced only now and then. It is decided before an operator's word may clear the suspicion.
func (n *Node) openShard() error {
	raw, found, err := n.engine.Space(storage.SpaceNode).Get(shardKey)
	if err != nil {
		return fmt.Errorf("node: counter shard: %w", err)
	}
	if found && !n.engine.Suspect() && n.o.Config.CommitSync != "periodic" {
		if shard, ok := decodeShard(raw, n.home.HostID); ok {
			return n.openShardUse(shard)
		}
	}
	n.use = shardUse{shard: row.ShardID(n.o.uuid())}
	if err := n.saveShardUse(n.life, &n.use); err != nil {
		return err
	}
	n.o.Logger.Info("counters are counted in a new shard", "shard", ring.HostID(n.use.shard).String())
	return nil
}

// shardUse says in which ranges a shard may have been counted: those that the node has owned, or begun to fill, since it counts with it. Of a range that it gives away and gets back it
// may not know the shard's last state: it was filled from a quorum, and an increment at ONE may be known only to a replica that was down. It must not give out the next clock then. Of the
// goroutine that fills, once the node has started.
type shardUse struct {
	shard  row.ShardID
	ranges map[string][]ring.Range // by keyspace, normalized, none empty
	all    bool                    // it is not known: the shard is of a build that did not note it
}

var shardUseKey = []byte("counter-owned")

// openShardUse goes on with a shard, and reads what is noted of it.
func (n *Node) openShardUse(shard row.ShardID) error {
	raw, found, err := n.engine.Space(storage.SpaceNode).Get(shardUseKey)
	if err != nil {
		return fmt.Errorf("node: counter shard: %w", err)
	}
	if n.use = (shardUse{shard: shard, all: true}); !found {
		return nil
	}
	if c, ok := decodeShardUse(raw); ok && c.shard == shard {
		n.use = c
	}
	return n.noteShardUse(n.life, n.log.Current()) // what it owned when it stopped; it may have lost that meanwhile
}

// append appends the record: docs/format/storage-keys.md.
func (c *shardUse) append(dst []byte) []byte {
	dst = append(append(dst, shardVersion), c.shard[:]...)
	return movement.Records{Filled: c.ranges}.Append(dst)
}

func decodeShardUse(src []byte) (c shardUse, ok bool) {
	if len(src) <= 1+len(c.shard) || src[0] != shardVersion {
		return c, false
	}
	r, err := movement.DecodeRecords(src[1+copy(c.shard[:], src[1:]):])
	c.ranges = r.Filled
	return c, err == nil
}

// saveShardUse makes it durable that the node counts with a shard, and where.
func (n *Node) saveShardUse(ctx context.Context, c *shardUse) error {
	b := n.engine.NewBatch()
	err := b.Set(storage.SpaceNode, shardKey, appendShard(nil, c.shard, n.home.HostID))
	if err == nil && !c.all {
		err = b.Set(storage.SpaceNode, shardUseKey, c.append(nil))
	}
	if err != nil {
		b.Discard()
		return fmt.Errorf("node: counter shard: %w", err)
	}
	if err := commitSynced(ctx, func(d committed) { b.CommitSynced(d) }); err != nil {
		return fmt.Errorf("node: counter shard: %w", err)
	}
	return nil
}

// with returns c with ranges of a keyspace, and whether that is more than before.
func (c *shardUse) with(keyspace string, rs []ring.Range) (more shardUse, grown bool) {
	if c.all || len(ring.Subtract(rs, c.ranges[keyspace])) == 0 {
		return *c, false
	}
	more = shardUse{shard: c.shard, ranges: maps.Clone(c.ranges)}
	if more.ranges == nil {
		more.ranges = map[string][]ring.Range{}
	}
	more.ranges[keyspace] = ring.Normalize(slices.Concat(c.ranges[keyspace], rs))
	return more, true
}

// owned returns c with what a node owns by the state, and whether that is more than before.
func (c shardUse) owned(s *meta.State, id ring.HostID) (more shardUse, grown bool) {
	more = c
	for _, ks := range s.Catalog.Keyspaces() {
		p := s.Before(ks.Name)
		if p == nil {
			continue
		}
		if self, member := p.Ring().Node(id); member {
			var g bool
			more, g = more.with(ks.Name, p.Ranges(self))
			grown = grown || g
		}
	}
	return more, grown
}

// noteShardUse is movement.Options.Owned: it notes which ranges this node owns.
func (n *Node) noteShardUse(ctx context.Context, s *meta.State) error {
	c, grown := n.use.owned(s, n.home.HostID)
	if !grown {
		return nil
	}
	if err := n.saveShardUse(ctx, &c); err != nil {
		return err
	}
	n.use = c
	return nil
}

// countAnew notes that this node gains ranges of a keyspace, and has it count with a new shard if it may have counted there with the present one. It comes before the node leads
// increments there.
func (n *Node) countAnew(ctx context.Context, s *meta.State, keyspace string, gains []ring.Range) error {
	c, grown := n.use.owned(s, n.home.HostID)
	again := c.all || len(ring.Intersect(gains, c.ranges[keyspace])) > 0
	fresh := again && hasCounters(s, keyspace)
	if fresh {
		c, _ = shardUse{shard: row.ShardID(n.o.uuid())}.owned(s, n.home.HostID)
	}
	c, more := c.with(keyspace, gains)
	if !fresh && !grown && !more {
		return nil
	}
	if err := n.saveShardUse(ctx, &c); err != nil {
		return err
	}
	n.use = c
	if fresh {
		n.coord.SetShard(c.shard)
		n.o.Logger.Info("counters are counted in a new shard, since this node gets ranges back", "shard", ring.HostID(c.shard).String(), "keyspace", keyspace)
	}
	return nil
}

func hasCounters(s *meta.State, keyspace string) bool {
	ks, ok := s.Catalog.Keyspace(keyspace)
	return ok && slices.ContainsFunc(ks.Tables(), (*schema.Table).Counter)
}
