package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logSpace is the file system that Pebble sees. A new log of the rows is a file that has been written full of zeros before: a sync of what
// lies inside a file is one write of the disk, while one that makes the file longer, or fills space that fallocate(2) has only set
// aside, waits for the file system's journal too (on ext4 2 to 5 ms in the place of 0.3 ms, and three times the CPU). Pebble
// reuses its logs for the same reason, but those of a young store are shorter than what follows them. One spare file lies ready; run
// makes the next when it has been taken. A log ends at the first record that is not its own, be that zeros or an older log's.
type logSpace struct {
	vfs.FS
	dir    string
	most   int64                  // size of the log of the largest memtable
	room   func(bytes int64) bool // whether the disk has some to spare
	warn   func(error)
	wanted chan struct{}

	mu    sync.Mutex
	state spareState // guarded by mu
	made  int64      // size of the spare file; guarded by mu
	size  int64      // of the next log; guarded by mu
}

// spareState is who has the spare file.
type spareState uint8

const (
	noSpare    spareState = iota // run may make one
	spareReady                   // it is there, whole and durable
	spareTaken                   // it is being given its new name
)

// SpareLog is the name of the spare file in the folder of a store.
const SpareLog = "SPARE"

const (
	spareChunk = 512 << 10    // written and handed to the disk at a time, so that no sync of a log waits for all of it
	logCreated = "pebble-wal" // Pebble's category of writes to logs
)

// firstMemtable is the size of Pebble's first memtable; each one after it is twice as large, up to the size that is configured.
const firstMemtable = 256 << 10

// newLogSpace serves dir, where logs are as long as Pebble makes them for memtables of up to so many bytes. What a stop has left of a spare file is
// removed: how much of it is durable is not known.
func newLogSpace(fs vfs.FS, dir string, memtable int64, room func(bytes int64) bool, warn func(error)) (*logSpace, error) {
	s := &logSpace{FS: fs, dir: dir, most: logOf(memtable), size: logOf(min(memtable, firstMemtable)), room: room, warn: warn, wanted: make(chan struct{}, 1)}
	if err := fs.Remove(s.spare()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("spare log: %w", err)
	}
	s.want()
	return s, nil
}

// logOf returns how long a log is made for a memtable.
func logOf(memtable int64) int64 { return memtable + memtable/10 }

func (s *logSpace) spare() string { return s.PathJoin(s.dir, SpareLog) }

// Unwrap returns the file system below.
func (s *logSpace) Unwrap() vfs.FS { return s.FS }

// Create makes a log of the spare file, if there is one.
func (s *logSpace) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if category != logCreated || !strings.HasSuffix(name, ".log") {
		return s.FS.Create(name, category)
	}
	if s.take(0) {
		return s.become(name)
	}
	f, err := s.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	return logFile{f}, nil
}

// logFile is a log for which no space is set aside. Pebble asks for as much as the largest memtable fills, which is slower to write (logSpace), and which
// the half dozen logs of a young store would take of the disk, 36 MiB each, until it has written that much.
type logFile struct{ vfs.File }

// Preallocate does nothing.
func (logFile) Preallocate(_, _ int64) error { return nil }

// ReuseForWrite takes the spare file in the place of a log that is too short.
func (s *logSpace) ReuseForWrite(old, name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	info, err := s.Stat(old)
	if err != nil {
		return nil, err
	}
	if !s.take(info.Size()) {
		return s.renamed(old, name)
	}
	f, err := s.become(name)
	if err != nil {
		return nil, err
	}
	if err := s.Remove(old); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// take tells whether the spare file is the caller's, who has to call become: it is ready, and longer than the log of so many bytes that the caller has. It asks for another
// one that is as long as the log after this will be.
func (s *logSpace) take(has int64) bool {
	s.mu.Lock()
	ok := s.state == spareReady && has < s.made
	if ok {
		s.state = spareTaken
	}
	s.size = min(2*s.size, s.most)
	s.mu.Unlock()
	if !ok {
		s.want()
	}
	return ok
}

// become gives the spare file its name, and asks for another.
func (s *logSpace) become(name string) (vfs.File, error) {
	f, err := s.renamed(s.spare(), name)
	s.set(noSpare)
	s.want()
	return f, err
}

// renamed opens a log under its new name. (ReuseForWrite does the same; the file systems that tests inject errors with inject none into its files.)
func (s *logSpace) renamed(old, name string) (vfs.File, error) {
	if err := s.Rename(old, name); err != nil {
		return nil, err
	}
	f, err := s.OpenReadWrite(name, logCreated)
	if err != nil {
		return nil, err
	}
	return logFile{f}, nil
}

func (s *logSpace) set(state spareState) {
	s.mu.Lock()
	s.state = state
	s.mu.Unlock()
}

// lacks returns how long a spare file is to be made; false: the one that is there will do. One that is too short is nobody's from then on.
func (s *logSpace) lacks() (size int64, lacks bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == spareReady && s.made < s.size {
		s.state = noSpare
	}
	return s.size, s.state == noSpare
}

func (s *logSpace) want() {
	select {
	case s.wanted <- struct{}{}:
	default:
	}
}

// run keeps a spare file until ctx ends.
func (s *logSpace) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wanted:
			size, lacks := s.lacks()
			if !lacks || !s.room(size) {
				continue
			}
			if err := s.make(ctx, size); err != nil {
				s.warn(errors.Join(err, s.Remove(s.spare())))
			}
		}
	}
}

// make writes a spare file of so many bytes. One that was not finished stays for newLogSpace.
func (s *logSpace) make(ctx context.Context, size int64) error {
	f, err := s.FS.Create(s.spare(), logCreated)
	if err != nil {
		return fmt.Errorf("spare log: %w", err)
	}
	f = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: spareChunk})
	zeros := make([]byte, spareChunk)
	for left := size; left > 0; left -= spareChunk {
		if ctx.Err() != nil {
			return f.Close()
		}
		if _, err := f.Write(zeros[:min(left, spareChunk)]); err != nil {
			return errors.Join(fmt.Errorf("spare log: %w", err), f.Close())
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("spare log: %w", err)
	}
	s.mu.Lock()
	s.state, s.made = spareReady, size
	s.mu.Unlock()
	return nil
}
