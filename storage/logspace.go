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
	size   int64       // of a log
	room   func() bool // whether the disk has some
	warn   func(error)
	wanted chan struct{}

	mu    sync.Mutex
	state spareState // guarded by mu
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

// newLogSpace serves dir, where logs are as long as Pebble makes them for memtables of so many bytes. What a stop has left of a spare file is
// removed: how much of it is durable is not known.
func newLogSpace(fs vfs.FS, dir string, memtable int64) (*logSpace, error) {
	s := &logSpace{FS: fs, dir: dir, size: memtable + memtable/10, room: func() bool { return true }, warn: func(error) {}, wanted: make(chan struct{}, 1)}
	if err := fs.Remove(s.spare()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("spare log: %w", err)
	}
	s.want()
	return s, nil
}

func (s *logSpace) spare() string { return s.PathJoin(s.dir, SpareLog) }

// Unwrap returns the file system below.
func (s *logSpace) Unwrap() vfs.FS { return s.FS }

// Create makes a log of the spare file, if there is one.
func (s *logSpace) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if category != logCreated || !strings.HasSuffix(name, ".log") || !s.take() {
		return s.FS.Create(name, category)
	}
	return s.become(name)
}

// ReuseForWrite takes the spare file in the place of a log that is too short.
func (s *logSpace) ReuseForWrite(old, name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	if info, err := s.Stat(old); err != nil || info.Size() >= s.size || !s.take() {
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

// take tells whether the spare file is the caller's, who has to call become; if there is none it asks for one.
func (s *logSpace) take() bool {
	s.mu.Lock()
	had := s.state == spareReady
	if had {
		s.state = spareTaken
	}
	s.mu.Unlock()
	if !had {
		s.want()
	}
	return had
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
	return s.OpenReadWrite(name, logCreated)
}

func (s *logSpace) set(state spareState) {
	s.mu.Lock()
	s.state = state
	s.mu.Unlock()
}

// lacking tells whether there is no spare file.
func (s *logSpace) lacking() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == noSpare
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
			if !s.lacking() || !s.room() {
				continue
			}
			if err := s.make(ctx); err != nil {
				s.warn(errors.Join(err, s.Remove(s.spare())))
			}
		}
	}
}

// make writes a spare file. One that was not finished stays for newLogSpace.
func (s *logSpace) make(ctx context.Context) error {
	f, err := s.FS.Create(s.spare(), logCreated)
	if err != nil {
		return fmt.Errorf("spare log: %w", err)
	}
	f = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: spareChunk})
	zeros := make([]byte, spareChunk)
	for left := s.size; left > 0; left -= spareChunk {
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
	s.set(spareReady)
	return nil
}
