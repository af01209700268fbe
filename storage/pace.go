package storage

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What a paced store writes into tables, in bytes per second, while its logs are written too.
const (
	paceLeast  = 24 * mib // at least
	paceShare  = 4        // and so many times what goes into the logs
	paceBurst  = mib      // written at once after a pause
	paceCalm   = 250 * time.Millisecond
	paceWindow = time.Second
	paceShort  = time.Millisecond // a wait that is shorter is put off to the next write
)

// Pebble's categories of writes to tables.
const (
	flushed   vfs.DiskWriteCategory = "pebble-memtable-flush"
	compacted vfs.DiskWriteCategory = "pebble-compaction"
)

// pacer is the file system below logSpace on a real disk. It spreads out what flushes and compactions write: a sync of a log, for which clients wait, is behind
// everything that the disk was given before, and 512 KiB of a table are worth 20 syncs. Nobody is held back while no log is written, and nothing while
// the store is behind with its flushes and compactions.
type pacer struct {
	vfs.FS
	pace pace
}

// Create paces tables and watches logs.
func (p *pacer) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := p.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	if p.PathBase(name) == SpareLog {
		category = compacted // nobody waits for it
	}
	return p.watch(f, category), nil
}

// OpenReadWrite watches logs that existed before.
func (p *pacer) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := p.FS.OpenReadWrite(name, category, opts...)
	if err != nil {
		return nil, err
	}
	return p.watch(f, category), nil
}

func (p *pacer) watch(f vfs.File, category vfs.DiskWriteCategory) vfs.File {
	switch category {
	case flushed, compacted:
		return &pacedTable{f, p}
	case logCreated:
		return &watchedLog{f, p}
	}
	return f
}

// Unwrap returns the file system below.
func (p *pacer) Unwrap() vfs.FS { return p.FS }

type pacedTable struct {
	vfs.File
	p *pacer
}

// Write writes and then waits for as long as the bytes should have taken.
func (t *pacedTable) Write(b []byte) (int, error) {
	n, err := t.File.Write(b)
	if wait := t.p.pace.table(n, time.Now()); wait > 0 {
		time.Sleep(wait)
	}
	return n, err
}

type watchedLog struct {
	vfs.File
	p *pacer
}

// Write counts what it writes.
func (l *watchedLog) Write(b []byte) (int, error) {
	n, err := l.File.Write(b)
	l.p.pace.log(n, time.Now())
	return n, err
}

// pace decides how long writes of tables wait.
type pace struct {
	behind atomic.Bool // the store has flushes or compactions to catch up on

	mu     sync.Mutex
	logged time.Time // when a log was written last
	since  time.Time // when the window began
	bytes  int64     // into logs, in the window
	rate   int64     // into logs in the window before, bytes per second
	free   time.Time // when tables have had their time for what they wrote
}

// log takes note of n bytes that were written into a log.
func (p *pace) log(n int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if took := now.Sub(p.since); took >= paceWindow {
		p.rate, p.bytes, p.since = int64(float64(p.bytes)/took.Seconds()), 0, now
	}
	p.bytes += int64(n)
	p.logged = now
}

// table takes note of n bytes that were written into a table, and returns how long to wait before the next.
func (p *pace) table(n int, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.behind.Load() || now.Sub(p.logged) > paceCalm {
		p.free = now
		return 0
	}
	rate := max(paceLeast, paceShare*p.rate)
	took := func(bytes int64) time.Duration {
		return time.Duration(float64(bytes) / float64(rate) * float64(time.Second))
	}
	if earliest := now.Add(-took(paceBurst)); p.free.Before(earliest) {
		p.free = earliest
	}
	p.free = p.free.Add(took(int64(n)))
	if wait := p.free.Sub(now); wait >= paceShort {
		return wait
	}
	return 0
}
