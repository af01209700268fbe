package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/helenusdb/helenus/internal/watermark"
	"github.com/helenusdb/helenus/meta"
)

// Keys of the store; docs/format/meta.md draws the values.
const (
	keyHardState = "H" // raftpb.HardState
	keySnapshot  = "S" // raftpb.Snapshot: state at the index where the log begins
	keyPulled    = "P" // meta.State pulled from a peer, when it is ahead of the log
	keyIdentity  = "I" // raft id of this node, so that a store is never opened under another identity
	keyPledge    = "J" // id of the cluster that this node has asked to join
	keyBeat      = "B" // number of the newest commit, which the watermark beside the store knows too
	keyEntry     = 'L' // 'L' + index (8 bytes, big endian): raftpb.Entry
)

// formatMajor is the newest format of the pinned Pebble. It ratchets, so it is raised only with the cluster version.
const formatMajor pebble.FormatMajorVersion = 24

const memtableBytes = 1 << 20

// store is the durable part of the log. The log itself stays in memory too (it is compacted to a few thousand
// entries), which is what the Raft library reads.
//
// Its log could lose its tail without a trace, and with it votes and entries that this node has promised to others. So each
// commit counts one up, in the store and then in a watermark beside it, before anything that depends on it leaves the node.
type store struct {
	db      *pebble.DB
	water   *watermark.Watermark
	beat    uint64 // of the newest commit
	suspect bool   // what was committed is gone, at this or an earlier start
	mem     *raft.MemoryStorage
	conf    *pb.ConfState
}

// loaded is what a store held when it was opened.
type loaded struct {
	state   *meta.State // of the snapshot; meta.Empty in a new store
	applied uint64      // index of the snapshot
	pulled  *meta.State // nil: none was
	hard    *pb.HardState
	pledged [16]byte
}

type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "msg", fmt.Sprintf(format, args...))
}
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "msg", fmt.Sprintf(format, args...))
}

// openStore opens or creates the store. fatal ends the process: Pebble calls it when a commit or a sync failed, after
// which nothing that this node says about the log could be trusted.
func openStore(dir string, fs vfs.FS, id uint64, log *slog.Logger, fatal func(error)) (*store, *loaded, error) {
	opts := &pebble.Options{FS: fs, FormatMajorVersion: formatMajor, MemTableSize: memtableBytes,
		Logger: fatalLogger{pebbleLogger{log}, fatal}, Cache: nil, CacheSize: 1 << 20, MaxOpenFiles: 64}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, nil, fmt.Errorf("raftlog: open %s: %w", dir, err)
	}
	s := &store{db: db, mem: raft.NewMemoryStorage()}
	if err = s.openWatermark(fs, dir, log); err == nil {
		var l *loaded
		if l, err = s.load(id); err == nil {
			return s, l, nil
		}
	}
	return nil, nil, errors.Join(fmt.Errorf("raftlog: open %s: %w", dir, err), s.close())
}

// openWatermark opens or creates the watermark and compares the store with it.
func (s *store) openWatermark(fs vfs.FS, dir string, log *slog.Logger) error {
	f, err := fs.OpenReadWrite(fs.PathJoin(dir, watermark.Name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("watermark: %w", err)
	}
	d, err := fs.OpenDir(dir)
	if err != nil {
		return errors.Join(fmt.Errorf("watermark: %w", err), f.Close())
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return errors.Join(fmt.Errorf("watermark: %w", err), f.Close())
	}
	if s.water, err = watermark.Open(f); err != nil {
		return err
	}
	raw, _, err := s.get(keyBeat)
	if err != nil {
		return err
	}
	if len(raw) == 8 {
		s.beat = binary.BigEndian.Uint64(raw)
	}
	mark := s.water.Mark()
	lost := s.water.Lost(s.beat)
	if lost {
		log.Error("raftlog: the metadata log is shorter than what was committed to it", "beat", s.beat, "watermark", mark.Beat)
	}
	s.beat, s.suspect = max(s.beat, mark.Beat), mark.Suspect || lost
	if mark.Turn == 0 || lost { // before the first commit: a power loss after it must not look like a lost watermark
		return s.water.Write(watermark.Mark{Beat: mark.Beat, Suspect: s.suspect})
	}
	return nil
}

// trust makes it durable that the store counts as whole.
func (s *store) trust() error {
	s.suspect = false
	return s.water.Write(watermark.Mark{Beat: s.water.Mark().Beat})
}

// commit makes b durable, and then that it was.
func (s *store) commit(b *pebble.Batch) error {
	if err := b.Set([]byte(keyBeat), binary.BigEndian.AppendUint64(nil, s.beat+1), nil); err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	s.beat++
	return s.water.Write(watermark.Mark{Beat: s.beat, Suspect: s.suspect})
}

type fatalLogger struct {
	pebbleLogger
	fatal func(error)
}

func (l fatalLogger) Fatalf(format string, args ...any) { l.fatal(fmt.Errorf(format, args...)) }

func (s *store) load(id uint64) (*loaded, error) {
	if err := s.checkIdentity(id); err != nil {
		return nil, err
	}
	l := &loaded{state: meta.Empty(), hard: &pb.HardState{}}
	s.conf = &pb.ConfState{}
	snap := &pb.Snapshot{}
	if found, err := s.message(keySnapshot, snap); err != nil {
		return nil, err
	} else if found {
		if l.state, err = meta.DecodeState(snap.GetData()); err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		if err := s.mem.ApplySnapshot(snap); err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		l.applied, s.conf = snap.GetMetadata().GetIndex(), snap.GetMetadata().GetConfState()
	}
	if _, err := s.message(keyHardState, l.hard); err != nil {
		return nil, err
	}
	if err := s.loadEntries(l.applied); err != nil {
		return nil, err
	}
	if last, _ := s.mem.LastIndex(); l.hard.GetCommit() > last {
		return nil, fmt.Errorf("the log ends at %d but %d entries were committed: the store is damaged, this node cannot go on with it", last, l.hard.GetCommit())
	}
	if err := s.mem.SetHardState(l.hard); err != nil {
		return nil, err
	}
	raw, _, err := s.get(keyPledge)
	if err != nil {
		return nil, err
	}
	copy(l.pledged[:], raw)
	raw, found, err := s.get(keyPulled)
	if err != nil || !found {
		return l, err
	}
	if l.pulled, err = meta.DecodeState(raw); err != nil {
		return nil, fmt.Errorf("pulled state: %w", err)
	}
	return l, nil
}

func (s *store) checkIdentity(id uint64) error {
	raw, found, err := s.get(keyIdentity)
	if err != nil {
		return err
	}
	mine := binary.BigEndian.AppendUint64(nil, id)
	if !found {
		return s.keep(keyIdentity, mine)
	}
	if string(raw) != string(mine) {
		return fmt.Errorf("the log belongs to another host id")
	}
	return nil
}

func (s *store) loadEntries(after uint64) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(after + 1), UpperBound: []byte{keyEntry + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	var entries []*pb.Entry
	for ok := it.First(); ok; ok = it.Next() {
		e := &pb.Entry{}
		if err := proto.Unmarshal(it.Value(), e); err != nil {
			return fmt.Errorf("entry %x: %w", it.Key(), err)
		}
		if want := after + uint64(len(entries)) + 1; e.GetIndex() != want {
			return fmt.Errorf("entry %d is missing: the store is damaged, this node cannot go on with it", want)
		}
		entries = append(entries, e)
	}
	if err := it.Error(); err != nil {
		return err
	}
	return s.mem.Append(entries)
}

func (s *store) get(key string) ([]byte, bool, error) {
	raw, closer, err := s.db.Get([]byte(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", key, err)
	}
	out := append([]byte(nil), raw...)
	return out, true, closer.Close()
}

func (s *store) message(key string, m proto.Message) (bool, error) {
	raw, found, err := s.get(key)
	if err != nil || !found {
		return found, err
	}
	if err := proto.Unmarshal(raw, m); err != nil {
		return false, fmt.Errorf("decode %s: %w", key, err)
	}
	return true, nil
}

func entryKey(index uint64) []byte { return binary.BigEndian.AppendUint64([]byte{keyEntry}, index) }

// save makes what a Ready asks for durable, in one synced batch, before any of its messages leaves.
func (s *store) save(hard *pb.HardState, entries []*pb.Entry, snap *pb.Snapshot) error {
	b := s.db.NewBatch()
	defer b.Close()
	if !raft.IsEmptySnap(snap) {
		if err := s.putSnapshot(b, snap); err != nil {
			return err
		}
		if err := s.mem.ApplySnapshot(snap); err != nil && !errors.Is(err, raft.ErrSnapOutOfDate) {
			return err
		}
		s.conf = snap.GetMetadata().GetConfState()
	}
	if len(entries) > 0 {
		if err := s.putEntries(b, entries); err != nil {
			return err
		}
	}
	if !raft.IsEmptyHardState(hard) {
		if err := setMessage(b, keyHardState, hard); err != nil {
			return err
		}
		if err := s.mem.SetHardState(hard); err != nil {
			return err
		}
	}
	if b.Empty() {
		return nil
	}
	return s.commit(b)
}

// putSnapshot replaces the log up to the snapshot: everything before it is gone, and so is a tail that does not fit.
func (s *store) putSnapshot(b *pebble.Batch, snap *pb.Snapshot) error {
	if err := setMessage(b, keySnapshot, snap); err != nil {
		return err
	}
	return b.DeleteRange([]byte{keyEntry}, []byte{keyEntry + 1}, nil)
}

func (s *store) putEntries(b *pebble.Batch, entries []*pb.Entry) error {
	last, err := s.mem.LastIndex()
	if err != nil {
		return err
	}
	if first := entries[0].GetIndex(); first <= last { // a new leader replaces a tail that was never committed
		if err := b.DeleteRange(entryKey(first), []byte{keyEntry + 1}, nil); err != nil {
			return err
		}
	}
	for _, e := range entries {
		raw, err := proto.Marshal(e)
		if err != nil {
			return err
		}
		if err := b.Set(entryKey(e.GetIndex()), raw, nil); err != nil {
			return err
		}
	}
	return s.mem.Append(entries)
}

func setMessage(b *pebble.Batch, key string, m proto.Message) error {
	raw, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return b.Set([]byte(key), raw, nil)
}

// liveLog is the log as the Raft library reads it. A follower that needs a snapshot gets the state of this moment, with
// the membership of this moment: one that names no newcomer would be refused by that newcomer for ever.
type liveLog struct {
	*raft.MemoryStorage
	s *Service
}

// Snapshot implements raft.Storage. It runs on the service's goroutine, as everything that the library calls.
func (l liveLog) Snapshot() (*pb.Snapshot, error) {
	if l.s.changing {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	index := l.s.applied
	term, err := l.Term(index)
	if err != nil {
		return nil, err
	}
	conf := proto.Clone(l.s.store.conf).(*pb.ConfState)
	return &pb.Snapshot{Data: l.s.log.Encode(), Metadata: &pb.SnapshotMetadata{Index: &index, Term: &term, ConfState: conf}}, nil
}

// compact makes state, which is at index applied, the beginning of the log on disk; in memory a few entries stay before it.
func (s *store) compact(applied uint64, state *meta.State) error {
	snap, err := s.mem.CreateSnapshot(applied, s.conf, state.Encode())
	if errors.Is(err, raft.ErrSnapOutOfDate) {
		return nil
	}
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	if err := setMessage(b, keySnapshot, snap); err != nil {
		return err
	}
	if err := b.DeleteRange(entryKey(0), entryKey(applied+1), nil); err != nil {
		return err
	}
	if err := s.commit(b); err != nil {
		return err
	}
	if applied <= trailingEntries {
		return nil
	}
	if err := s.mem.Compact(applied - trailingEntries); err != nil && !errors.Is(err, raft.ErrCompacted) {
		return err
	}
	return nil
}

// keep makes one value durable.
func (s *store) keep(key string, value []byte) error {
	b := s.db.NewBatch()
	defer b.Close()
	if err := b.Set([]byte(key), value, nil); err != nil {
		return err
	}
	return s.commit(b)
}

// found begins the log of a new cluster: a snapshot at index 1 whose only voter is this node.
func (s *store) found(id uint64, state *meta.State) error {
	index, term := uint64(1), uint64(1)
	snap := &pb.Snapshot{Data: state.Encode(), Metadata: &pb.SnapshotMetadata{Index: &index, Term: &term, ConfState: &pb.ConfState{Voters: []uint64{id}}}}
	hard := &pb.HardState{Term: &term, Commit: &index}
	return s.save(hard, nil, snap)
}

func (s *store) close() error {
	err := s.db.Close()
	if s.water != nil {
		err = errors.Join(err, s.water.Close())
	}
	return err
}
