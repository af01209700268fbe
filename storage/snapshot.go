package storage

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/schema"
)

// SnapshotsDir is the part of a data folder that holds snapshots; docs/format/snapshots.md draws it.
const SnapshotsDir = "snapshots"

const (
	snapshotVersion  = 1
	manifestName     = "manifest.json"
	schemaTextName   = "schema.cql"
	catalogName      = "catalog"
	snapshotStoreDir = "store"
	partialSuffix    = ".partial"  // being taken
	clearingSuffix   = ".clearing" // being removed
	manifestMax      = 64 << 20
	tailBytes        = 64 << 10 // of a table file that its checksum is over: what is before has checksums of its own
)

// Errors of snapshots.
var (
	ErrSnapshotName   = errors.New("storage: the name of a snapshot has 1 to 128 letters, digits, '-', '_' and '.', and begins with none of '.' and '-'")
	ErrSnapshotExists = errors.New("storage: the snapshot exists already")
	ErrNoSnapshot     = errors.New("storage: there is no such snapshot")
	ErrSnapshotBroken = errors.New("storage: the snapshot is damaged")
)

// SnapshotTable is one table of a snapshot.
type SnapshotTable struct {
	Keyspace   string   `json:"keyspace"`
	Name       string   `json:"table"`
	Generation uint32   `json:"generation"`
	Bytes      uint64   `json:"bytes"` // estimated, of its rows in the files
	Files      []string `json:"files"` // that hold rows of it; other tables may be in them
}

// SnapshotFile is one file of a snapshot, by its path in the snapshot's folder.
type SnapshotFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	// Hash is xxHash64 in hex: of the whole file, or for *.sst of its last 64 KiB.
	Hash string `json:"xxh64"`
}

// Manifest says what a snapshot holds. It is written last.
type Manifest struct {
	Version   int             `json:"version"`
	Tag       string          `json:"tag"`
	Created   time.Time       `json:"created"`
	Expires   *time.Time      `json:"expires,omitempty"`
	Automatic bool            `json:"automatic"` // taken before DROP or TRUNCATE
	Cluster   string          `json:"cluster"`
	HostID    string          `json:"host_id"`
	Tables    []SnapshotTable `json:"tables"`
	Files     []SnapshotFile  `json:"files"`
}

// SnapshotRequest is what to take.
type SnapshotRequest struct {
	Tag             string
	Tables          []SnapshotTable // Keyspace, Name, Generation
	Catalog         *schema.Catalog // that has them
	Schema          string          // CQL that makes them
	TTL             time.Duration   // 0: until it is cleared
	Automatic       bool
	Cluster, HostID string
}

// Snapshots are those of one store. A snapshot is made under another name and renamed when it is whole, and renamed before it is
// removed: so a folder under its own name is always whole. It is safe for concurrent use.
type Snapshots struct {
	e     *Engine
	fs    vfs.FS
	dir   string
	now   func() time.Time
	token chan struct{} // one changes the folder at a time
}

// NewSnapshots returns the snapshots in dir of an engine whose store is on the same file system.
func NewSnapshots(e *Engine, dir string) *Snapshots {
	return &Snapshots{e: e, fs: e.opts.FS, dir: dir, now: e.opts.Now, token: make(chan struct{}, 1)}
}

// Dir returns the folder of a snapshot.
func (s *Snapshots) Dir(tag string) string { return s.fs.PathJoin(s.dir, tag) }

func (s *Snapshots) alone(f func() error) error {
	s.token <- struct{}{}
	defer func() { <-s.token }()
	return f()
}

// Clean removes what a crash left of snapshots that were being taken or removed.
func (s *Snapshots) Clean() error {
	return s.alone(func() error {
		names, err := s.names()
		for _, name := range names {
			if strings.HasSuffix(name, partialSuffix) || strings.HasSuffix(name, clearingSuffix) {
				err = errors.Join(err, s.fs.RemoveAll(s.Dir(name)))
			}
		}
		return err
	})
}

func (s *Snapshots) names() ([]string, error) {
	names, err := s.fs.List(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	slices.Sort(names)
	return names, err
}

var tagPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

func checkTag(tag string) error {
	if !tagPattern.MatchString(tag) || strings.HasSuffix(tag, partialSuffix) || strings.HasSuffix(tag, clearingSuffix) {
		return fmt.Errorf("%w: %q", ErrSnapshotName, tag)
	}
	return nil
}

// Take takes a snapshot of tables as of one moment: memtables are flushed, table files linked, the log copied. Errors:
// ErrSnapshotName, ErrSnapshotExists, and those of the file system; then nothing is left of it.
func (s *Snapshots) Take(r SnapshotRequest) (m *Manifest, err error) {
	if err := checkTag(r.Tag); err != nil {
		return nil, err
	}
	err = s.alone(func() error {
		if _, err := s.fs.Stat(s.Dir(r.Tag)); err == nil {
			return fmt.Errorf("%w: %s", ErrSnapshotExists, r.Tag)
		}
		partial := s.Dir(r.Tag + partialSuffix)
		if err := s.fs.RemoveAll(partial); err != nil {
			return err
		}
		if m, err = s.take(partial, r); err != nil {
			return errors.Join(fmt.Errorf("storage: snapshot %s: %w", r.Tag, err), s.fs.RemoveAll(partial))
		}
		if err := s.fs.Rename(partial, s.Dir(r.Tag)); err != nil {
			return err
		}
		return syncFolder(s.fs, s.dir)
	})
	return m, err
}

func (s *Snapshots) take(dir string, r SnapshotRequest) (*Manifest, error) {
	if err := makeFolder(s.fs, dir); err != nil {
		return nil, err
	}
	if err := s.e.Flush(); err != nil {
		return nil, err
	}
	var spans []pebble.CheckpointSpan
	for _, t := range r.Tables {
		for _, space := range []byte{spaceRows, spaceMarkers} {
			start := appendGeneration(nil, space, schema.Generation(t.Generation))
			spans = append(spans, pebble.CheckpointSpan{Start: start, End: prefixSuccessor(nil, start)})
		}
	}
	if len(spans) == 0 {
		return nil, errors.New("no tables")
	}
	store := s.fs.PathJoin(dir, snapshotStoreDir)
	if err := s.e.db.Checkpoint(store, pebble.WithFlushedWAL(), pebble.WithRestrictToSpans(spans)); err != nil {
		return nil, err
	}
	created := s.now().UTC().Truncate(time.Millisecond)
	m := &Manifest{Version: snapshotVersion, Tag: r.Tag, Created: created, Automatic: r.Automatic, Cluster: r.Cluster, HostID: r.HostID, Tables: slices.Clone(r.Tables)}
	if r.TTL > 0 {
		expires := created.Add(r.TTL)
		m.Expires = &expires
	}
	if err := writeDurable(s.fs, s.fs.PathJoin(dir, schemaTextName), []byte(r.Schema)); err != nil {
		return nil, err
	}
	if err := writeDurable(s.fs, s.fs.PathJoin(dir, catalogName), r.Catalog.Encode()); err != nil {
		return nil, err
	}
	if err := measureTables(s.fs, store, r.Catalog, m); err != nil {
		return nil, err
	}
	if err := hashFiles(s.fs, dir, m); err != nil {
		return nil, err
	}
	return m, s.writeManifest(dir, m)
}

func (s *Snapshots) writeManifest(dir string, m *Manifest) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	next := s.fs.PathJoin(dir, manifestName+".next")
	if err := writeDurable(s.fs, next, append(raw, '\n')); err != nil {
		return err
	}
	if err := s.fs.Rename(next, s.fs.PathJoin(dir, manifestName)); err != nil {
		return err
	}
	return syncFolder(s.fs, dir)
}

func writeDurable(fs vfs.FS, path string, b []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// measureTables opens the copy, which shows that it can be opened, and enters which files hold what.
func measureTables(fs vfs.FS, store string, c *schema.Catalog, m *Manifest) error {
	e, err := openReadOnly(fs, store, catalogTables{c})
	if err != nil {
		return err
	}
	for i := range m.Tables {
		t := &m.Tables[i]
		names := map[string]bool{}
		for _, space := range []byte{spaceRows, spaceMarkers} {
			start := appendGeneration(nil, space, schema.Generation(t.Generation))
			levels, err2 := e.db.SSTables(pebble.WithKeyRangeFilter(start, prefixSuccessor(nil, start)))
			err = errors.Join(err, err2)
			for _, l := range levels {
				for i := range l {
					names[fmt.Sprintf("%06d.sst", uint64(l[i].BackingSSTNum))] = true
				}
			}
		}
		t.Files = []string{}
		for name := range names {
			t.Files = append(t.Files, name)
		}
		slices.Sort(t.Files)
		bytes, err2 := e.DiskUsage(schema.Generation(t.Generation))
		t.Bytes = bytes
		err = errors.Join(err, err2)
	}
	return errors.Join(err, e.abandon())
}

// hashFiles enters all files but the manifest and the lock.
func hashFiles(fs vfs.FS, dir string, m *Manifest) error {
	m.Files = nil
	for _, sub := range []string{"", snapshotStoreDir} {
		names, err := fs.List(fs.PathJoin(dir, sub))
		if err != nil {
			return err
		}
		slices.Sort(names)
		for _, name := range names {
			rel := name
			if sub != "" {
				rel = sub + "/" + name
			}
			if sub == "" && name == snapshotStoreDir || strings.HasPrefix(name, manifestName) || name == "LOCK" {
				continue
			}
			f, err := hashFile(fs, fs.PathJoin(dir, sub, name), rel)
			if err != nil {
				return err
			}
			m.Files = append(m.Files, f)
		}
	}
	return nil
}

func hashFile(fs vfs.FS, path, rel string) (SnapshotFile, error) {
	f, err := fs.Open(path)
	if err != nil {
		return SnapshotFile{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return SnapshotFile{}, err
	}
	from := int64(0)
	if strings.HasSuffix(rel, ".sst") {
		from = max(0, info.Size()-tailBytes)
	}
	h := xxhash.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, from, info.Size()-from)); err != nil {
		return SnapshotFile{}, err
	}
	return SnapshotFile{Name: rel, Size: info.Size(), Hash: hex.EncodeToString(h.Sum(nil))}, nil
}

// readManifest reads the manifest of a snapshot's folder. Errors: ErrNoSnapshot, ErrSnapshotBroken.
func readManifest(fs vfs.FS, dir string) (*Manifest, error) {
	f, err := fs.Open(fs.PathJoin(dir, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoSnapshot, dir)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, manifestMax))
	if err != nil {
		return nil, err
	}
	m := &Manifest{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSnapshotBroken, manifestName, err)
	}
	if m.Version != snapshotVersion {
		return nil, fmt.Errorf("%w: its version is %d, this build knows %d", ErrSnapshotBroken, m.Version, snapshotVersion)
	}
	return m, nil
}

// SnapshotInfo is a snapshot with what it costs now.
type SnapshotInfo struct {
	*Manifest
	TrueBytes  int64   // that only the snapshot holds: removing it frees them
	TableBytes []int64 // likewise of the files of each table; a file of several tables counts for each
}

// List returns the snapshots by name. One whose manifest cannot be read is left out and told of in err; the others are returned.
func (s *Snapshots) List() (out []SnapshotInfo, err error) {
	err = s.alone(func() error {
		names, err := s.names()
		live := s.liveFiles()
		for _, name := range names {
			if checkTag(name) != nil {
				continue
			}
			m, err2 := readManifest(s.fs, s.Dir(name))
			if err2 != nil {
				err = errors.Join(err, err2)
				continue
			}
			out = append(out, infoOf(m, live))
		}
		return err
	})
	return out, err
}

// liveFiles are the names of the store's table files.
func (s *Snapshots) liveFiles() map[string]bool {
	names, err := s.fs.List(s.e.opts.Dir)
	if err != nil {
		s.e.opts.Logger.Warn("storage: list the store", "error", err)
	}
	live := map[string]bool{}
	for _, n := range names {
		live[n] = strings.HasSuffix(n, ".sst")
	}
	return live
}

func infoOf(m *Manifest, live map[string]bool) SnapshotInfo {
	own := map[string]int64{}
	info := SnapshotInfo{Manifest: m}
	for _, f := range m.Files {
		name := strings.TrimPrefix(f.Name, snapshotStoreDir+"/")
		if !live[name] {
			own[name] = f.Size
			info.TrueBytes += f.Size
		}
	}
	for _, t := range m.Tables {
		n := int64(0)
		for _, f := range t.Files {
			n += own[f]
		}
		info.TableBytes = append(info.TableBytes, n)
	}
	return info
}

// Clear removes the snapshot of that name, or all for "", and returns how many were touched. With keyspaces only their tables are
// taken out of it; the space is free when the last table is.
func (s *Snapshots) Clear(tag string, keyspaces []string) (n int, err error) {
	if tag != "" {
		if err := checkTag(tag); err != nil {
			return 0, err
		}
	}
	list, err := s.List()
	for _, m := range list {
		if tag != "" && m.Tag != tag {
			continue
		}
		touched, err2 := s.clear(m.Manifest, keyspaces)
		if touched {
			n++
		}
		err = errors.Join(err, err2)
	}
	return n, err
}

func (s *Snapshots) clear(m *Manifest, keyspaces []string) (touched bool, err error) {
	left := []SnapshotTable{}
	for _, t := range m.Tables {
		if len(keyspaces) > 0 && !slices.Contains(keyspaces, t.Keyspace) {
			left = append(left, t)
		}
	}
	if len(left) == len(m.Tables) {
		return false, nil
	}
	return true, s.alone(func() error {
		if len(left) > 0 {
			m.Tables = left
			return s.writeManifest(s.Dir(m.Tag), m)
		}
		clearing := s.Dir(m.Tag + clearingSuffix)
		if err := s.fs.RemoveAll(clearing); err != nil {
			return err
		}
		if err := s.fs.Rename(s.Dir(m.Tag), clearing); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		}
		return errors.Join(syncFolder(s.fs, s.dir), s.fs.RemoveAll(clearing), syncFolder(s.fs, s.dir))
	})
}

// Expire removes the snapshots whose time is over, and of the automatic ones all but the newest so many; 0: none of them.
func (s *Snapshots) Expire(automaticMax int) (removed []string, err error) {
	list, err := s.List()
	slices.SortStableFunc(list, func(a, b SnapshotInfo) int { return b.Created.Compare(a.Created) })
	automatic := 0
	for _, m := range list {
		over := m.Expires != nil && !s.now().Before(*m.Expires)
		if m.Automatic {
			automatic++
			over = over || automaticMax > 0 && automatic > automaticMax
		}
		if !over {
			continue
		}
		if _, err2 := s.clear(m.Manifest, nil); err2 != nil {
			err = errors.Join(err, err2)
			continue
		}
		removed = append(removed, m.Tag)
	}
	return removed, err
}
