package node

import (
	"fmt"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
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
			n.shard = shard
			return nil
		}
	}
	n.shard = row.ShardID(n.o.uuid())
	b := n.engine.NewBatch()
	if err := b.Set(storage.SpaceNode, shardKey, appendShard(nil, n.shard, n.home.HostID)); err != nil {
		b.Discard()
		return fmt.Errorf("node: counter shard: %w", err)
	}
	if err := n.engine.CommitWait(n.life, b); err != nil {
		return fmt.Errorf("node: counter shard: %w", err)
	}
	n.o.Logger.Info("counters are counted in a new shard", "shard", ring.HostID(n.shard).String())
	return nil
}
