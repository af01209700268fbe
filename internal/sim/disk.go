package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/helenusdb/helenus/storage"
)

// rowsDir is where the store of the rows is.
var rowsDir = path.Join("/", dataDir, storage.StoreDir)

// errIO is what a failing disk says.
var errIO error = syscall.EIO

// lifeDisk is the disk as one life of a node sees it: every call that changes something may be the one in which the node
// dies or the disk fails.
type lifeDisk struct {
	vfs.FS // errorfs over mem
	mem    *vfs.MemFS
	marks  *marks       // of the machine
	full   atomic.Bool  // no space is left as far as the node can see
	noRoom atomic.Bool  // and writes fail
	open   atomic.Int64 // files and folders that are open
	gone   atomic.Bool  // the life is over: what its goroutines still write lasts nowhere

	mu   sync.Mutex
	trap *trap
}

// marks remember how far the log of the rows had come when its watermark was written the last two times. A beat lies between the
// two, so whatever is older than the first must not go missing unnoticed. Of what is newer the store promises nothing: it can be a
// second's worth of writes, and only a sync more per write could tell.
type marks struct {
	mu      sync.Mutex
	newest  [2]logEnd
	written map[string]int64 // bytes of each log of the rows by its name: their files are longer (storage, logspace.go)
}

// logEnd is an end of a log.
type logEnd struct {
	name string // of the newest log; names of logs sort by age
	size int64
}

// marked notes the end of the newest log.
func (m *marks) marked(fs vfs.FS) {
	names, err := list(fs, rowsDir)
	if err != nil {
		return
	}
	var end logEnd
	for _, name := range names {
		if isLog(name) && name > end.name {
			end.name = name
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	end.size = m.written[end.name]
	m.newest = [2]logEnd{m.newest[1], end}
}

// set makes m what from is.
func (m *marks) set(from *marks) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newest, m.written = from.newest, maps.Clone(from.written)
}

// wrote counts what was written to a file.
func (m *marks) wrote(name string, bytes int) {
	if path.Dir(name) != rowsDir || !isLog(name) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.written == nil {
		m.written = map[string]int64{}
	}
	m.written[path.Base(name)] += int64(bytes)
}

// log returns the name of the newest log of which something is covered.
func (m *marks) log() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest[0].name
}

// covered returns how many of the first size bytes of a file must not change unnoticed, or may.
func (m *marks) covered(name string, size int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch base, end := path.Base(name), m.newest[0]; {
	case path.Dir(name) != rowsDir || !isLog(name):
		if base == storage.SpareLog { // nothing is in it, and no start reads it
			return 0
		}
		return size
	case base < end.name:
		return min(size, m.written[base])
	case base == end.name:
		return min(size, end.size)
	}
	return 0
}

// trap is what happens at the next call of a class.
type trap struct {
	class  string // "any": every call that changes something
	skip   int    // calls of the class that come before
	spring func() error
}

func newLifeDisk(mem *vfs.MemFS, m *marks) *lifeDisk {
	d := &lifeDisk{mem: mem, marks: m}
	d.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(d.op))
	return d
}

// arm sets the trap, or takes it away; disarm tells whether it was still there.
func (d *lifeDisk) arm(t *trap) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trap = t
}

func (d *lifeDisk) disarm() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.trap != nil
	d.trap = nil
	return was
}

// op is called before every call of the file system.
func (d *lifeDisk) op(o errorfs.Op) error {
	if o.Kind.ReadOrWrite() == errorfs.OpIsRead || o.Kind == errorfs.OpFileClose {
		return nil
	}
	if d.noRoom.Load() && grows(o.Kind) {
		return syscall.ENOSPC
	}
	class := classOf(o)
	if class == "store watermark" && o.Kind == errorfs.OpFileWriteAt && !d.gone.Load() {
		d.marks.marked(d.mem)
	}
	d.mu.Lock()
	t := d.trap
	if t == nil || t.class != class && (t.class != "any" || class == "") {
		d.mu.Unlock()
		return nil
	}
	if t.skip > 0 {
		t.skip--
		d.mu.Unlock()
		return nil
	}
	d.trap = nil
	d.mu.Unlock()
	return t.spring()
}

func grows(k errorfs.OpKind) bool {
	switch k {
	case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate, errorfs.OpReuseForWrite:
		return true
	default:
		return false
	}
}

// GetDiskUsage says that nothing is left while the disk is full.
func (d *lifeDisk) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	const total = 1 << 40
	u := vfs.DiskUsage{AvailBytes: total / 2, TotalBytes: total, UsedBytes: total / 2}
	if d.full.Load() {
		u.AvailBytes, u.UsedBytes = 0, total
	}
	return u, nil
}

// counted is an open file.
type counted struct {
	vfs.File
	name   string // from the root on, which is where nodes begin
	disk   *lifeDisk
	closed atomic.Bool
}

// Write implements vfs.File.
func (f *counted) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if !f.disk.gone.Load() {
		f.disk.marks.wrote(f.name, n)
	}
	return n, err
}

// Close implements vfs.File.
func (f *counted) Close() error {
	if !f.closed.Swap(true) {
		f.disk.open.Add(-1)
	}
	return f.File.Close()
}

func (d *lifeDisk) opened(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	d.open.Add(1)
	return &counted{File: f, name: path.Join("/", name), disk: d}, nil
}

// Create implements vfs.FS.
func (d *lifeDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.opened(name, f, err)
}

// Open implements vfs.FS.
func (d *lifeDisk) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.Open(name, o...)
	return d.opened(name, f, err)
}

// OpenReadWrite implements vfs.FS.
func (d *lifeDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	return d.opened(name, f, err)
}

// OpenDir implements vfs.FS.
func (d *lifeDisk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return d.opened(name, f, err)
}

// ReuseForWrite implements vfs.FS. errorfs would hand out a file in which nothing fails.
func (d *lifeDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.Rename(from, to); err != nil {
		return nil, err
	}
	return d.OpenReadWrite(to, c)
}

// Unwrap hides what is below from Pebble, which would ask it for the disk usage.
func (d *lifeDisk) Unwrap() vfs.FS { return nil }

// crashClasses are the points at which a schedule may name a crash, in the log's own store ("meta") and the rows' ("store").
// The first ones follow from what clients and peers do; the others also from Pebble's background work, whose moment differs
// between runs of one seed.
var (
	crashClasses      = []string{"store log write", "store log sync", "meta log write", "meta log sync", "store watermark"}
	crashClassesFloat = []string{"store table write", "store table sync", "store manifest", "store create", "store remove", "any"}
)

// classOf names a call that changes something; "" for those that no schedule names.
func classOf(o errorfs.Op) string {
	part := "store"
	if strings.Contains(o.Path, "/meta") {
		part = "meta"
	}
	sync := o.Kind == errorfs.OpFileSync || o.Kind == errorfs.OpFileSyncData
	base := path.Base(o.Path)
	switch {
	case o.Kind == errorfs.OpRemove:
		return part + " remove"
	case o.Kind == errorfs.OpCreate || o.Kind == errorfs.OpRename || o.Kind == errorfs.OpLink || o.Kind == errorfs.OpReuseForWrite:
		return part + " create"
	case base == "WATERMARK":
		return part + " watermark"
	case strings.HasPrefix(base, "MANIFEST"):
		return part + " manifest"
	case strings.HasSuffix(base, ".log") && sync:
		return part + " log sync"
	case strings.HasSuffix(base, ".log") && o.Kind == errorfs.OpFileWrite:
		return part + " log write"
	case strings.HasSuffix(base, ".sst") && sync:
		return part + " table sync"
	case strings.HasSuffix(base, ".sst") && o.Kind == errorfs.OpFileWrite:
		return part + " table write"
	}
	return ""
}

// sectorBytes is the unit in which unsynced data survives a loss of power.
const sectorBytes = 512

// afterCrash returns what a loss of power leaves of a disk: all that was synced, and of everything else each sector and each
// directory entry with a chance of keep in 100. It depends on the contents and d only.
func afterCrash(mem *vfs.MemFS, keep int, d draw) (*vfs.MemFS, error) {
	synced := mem.CrashClone(vfs.CrashCloneCfg{})
	if keep == 0 {
		return synced, nil
	}
	whole := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	if keep >= 100 {
		return whole, nil
	}
	out := vfs.NewCrashableMem()
	m := mixer{synced: synced, whole: whole, out: out, keep: keep, d: d}
	return out, m.folder("/")
}

// mixer builds a disk out of what was synced and what was written.
type mixer struct {
	synced, whole, out *vfs.MemFS
	keep               int
	d                  draw
}

func (m *mixer) folder(dir string) error {
	was, err := list(m.synced, dir)
	if err != nil {
		return err
	}
	is, err := list(m.whole, dir)
	if err != nil {
		return err
	}
	names := append(slices.Clone(was), is...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		at := path.Join(dir, name)
		before, after := slices.Contains(was, name), slices.Contains(is, name)
		if before != after && m.d.of("entry "+at).percent(m.keep) != after {
			continue // a new entry that was lost, or a removal that was not
		}
		if err := m.entry(at, before, after); err != nil {
			return err
		}
	}
	return syncDir(m.out, dir)
}

func (m *mixer) entry(at string, before, after bool) error {
	from := m.whole
	if !after {
		from = m.synced
	}
	if info, err := from.Stat(at); err != nil {
		return err
	} else if info.IsDir() {
		if err := m.out.MkdirAll(at, 0o755); err != nil {
			return err
		}
		return m.folder(at)
	}
	var was, is []byte
	var err error
	if before {
		if was, err = contents(m.synced, at); err != nil {
			return err
		}
	}
	if after {
		if is, err = contents(m.whole, at); err != nil {
			return err
		}
	}
	return put(m.out, at, m.mix(at, was, is, before, after))
}

// mix returns the surviving contents of a file.
func (m *mixer) mix(at string, was, is []byte, before, after bool) []byte {
	d := m.d.of("file " + at)
	inPlace := strings.HasSuffix(at, ".log") || path.Base(at) == "WATERMARK"
	switch {
	case !after:
		return was
	case before && !inPlace && !bytes.HasPrefix(is, was): // renamed over: one file or the other
		if d.percent(m.keep) {
			return is
		}
		return was
	}
	out := slices.Clone(was)
	for i := 0; i < len(is); i += sectorBytes {
		sector := is[i:min(i+sectorBytes, len(is))]
		if i+len(sector) <= len(was) && bytes.Equal(sector, was[i:i+len(sector)]) || !d.of("sector", uint64(i)).percent(m.keep) {
			continue
		}
		if grow := i + len(sector) - len(out); grow > 0 {
			out = append(out, make([]byte, grow)...)
		}
		copy(out[i:], sector)
	}
	return out
}

func list(fs vfs.FS, dir string) ([]string, error) {
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	slices.Sort(names)
	return names, err
}

func contents(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// put makes a file durable with these contents.
func put(fs vfs.FS, name string, b []byte) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if len(b) > 0 {
		_, err = f.Write(b)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(fs vfs.FS, dir string) error {
	f, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// flip is one changed bit of a file.
type flip struct {
	name string
	at   int64
	bit  uint
}

func (f flip) String() string { return fmt.Sprintf("%s byte %d bit %d", f.name, f.at, f.bit) }

// span is a file and how many of its first bytes may change.
type span struct {
	name  string
	bytes int64
}

// flippable returns the files under dir, sorted, that hold a node's data.
func flippable(fs vfs.FS, dir string, m *marks) ([]span, error) {
	names, err := list(fs, dir)
	if err != nil {
		return nil, err
	}
	var out []span
	for _, name := range names {
		at := path.Join(dir, name)
		info, err := fs.Stat(at)
		switch {
		case err != nil:
			return nil, err
		case info.IsDir():
			below, err := flippable(fs, at, m)
			if err != nil {
				return nil, err
			}
			out = append(out, below...)
		case m.covered(at, info.Size()) > 0:
			out = append(out, span{at, m.covered(at, info.Size())})
		}
	}
	return out, nil
}

// pickFlip chooses a bit of a file of a disk, or of the log of the rows; ok is false when there is none.
func pickFlip(fs vfs.FS, m *marks, logOnly bool, d draw) (f flip, ok bool, err error) {
	files, err := flippable(fs, "/", m)
	if logOnly {
		log := path.Join(rowsDir, m.log())
		files = slices.DeleteFunc(files, func(s span) bool { return s.name != log })
	}
	if err != nil || len(files) == 0 {
		return f, false, err
	}
	at := files[d.of("file").below(int64(len(files)))]
	return flip{name: at.name, at: d.of("byte").below(at.bytes), bit: uint(d.of("bit").below(8))}, true, nil
}

// apply changes the bit, or changes it back. A file that is gone or too short is left alone.
func (f flip) apply(fs vfs.FS) error {
	b, err := contents(fs, f.name)
	if errors.Is(err, os.ErrNotExist) || err == nil && f.at >= int64(len(b)) {
		return nil
	}
	if err != nil {
		return err
	}
	b[f.at] ^= 1 << f.bit
	return errors.Join(put(fs, f.name, b), syncDir(fs, path.Dir(f.name)))
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

func isTable(name string) bool { return strings.HasSuffix(name, ".sst") }
