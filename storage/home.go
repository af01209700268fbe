package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
)

// FS is the file system that a node works on.
type FS = vfs.FS

// Disk returns the real file system.
func Disk() FS { return vfs.Default }

// Memory returns a file system in memory, for clusters that keep nothing.
func Memory() FS { return vfs.NewMem() }

// The parts of a data folder that package node gives to their owners.
const (
	StoreDir = "store" // rows and hints: Open
	MetaDir  = "meta"  // the metadata log
)

// identityName is the file in a data folder that says whose it is. Version 1 is a JSON object with the fields of identity.
const (
	identityName    = "node.json"
	identityVersion = 1
	identityMax     = 64 << 10
)

type identity struct {
	Version    int    `json:"version"`
	HostID     string `json:"host_id"`
	Generation int64  `json:"generation"`
}

// Home is a data folder: locked against a second process, with the identity of the node it belongs to. The identity is durable before
// OpenHome returns, and the generation is higher than that of every earlier OpenHome.
type Home struct {
	HostID     ring.HostID
	Generation int64 // seconds since the epoch of this start, or one more than the last
	Created    bool  // this is its first start

	lock io.Closer
}

// OpenHome locks dir, creating it when there is none, and loads its identity or makes one with newID. now is in seconds since the
// epoch. A folder that holds data without an identity is refused: under a new one the node would serve rows of another's.
// Errors: ErrLocked, and those of the file system. Close unlocks it.
func OpenHome(fs FS, dir string, newID func() ring.HostID, now int64) (*Home, error) {
	if err := makeFolder(fs, dir); err != nil {
		return nil, fmt.Errorf("storage: data folder %s: %w", dir, err)
	}
	lock, err := pebble.LockDirectory(dir, fs)
	if err != nil {
		return nil, fmt.Errorf("storage: data folder %s: %w: %w", dir, ErrLocked, err)
	}
	h := &Home{lock: lock}
	if err := h.load(fs, dir, newID, now); err != nil {
		return nil, errors.Join(fmt.Errorf("storage: data folder %s: %w", dir, err), lock.Close())
	}
	return h, nil
}

// Close unlocks the folder.
func (h *Home) Close() error { return h.lock.Close() }

func (h *Home) load(fs FS, dir string, newID func() ring.HostID, now int64) error {
	path := fs.PathJoin(dir, identityName)
	id, err := readIdentity(fs, path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := withoutData(fs, dir); err != nil {
			return err
		}
		h.Created = true
		id = &identity{HostID: newID().String()}
	case err != nil:
		return err
	}
	if h.HostID, err = ring.ParseHostID(id.HostID); err != nil {
		return fmt.Errorf("%s: %w", identityName, err)
	}
	h.Generation = max(now, id.Generation+1)
	id.Version, id.Generation = identityVersion, h.Generation
	return writeIdentity(fs, dir, path, id)
}

// withoutData returns an error when a folder without an identity holds the data of a node.
func withoutData(fs FS, dir string) error {
	for _, part := range []string{StoreDir, MetaDir} {
		_, err := fs.Stat(fs.PathJoin(dir, part))
		if err == nil {
			return fmt.Errorf("%s is missing, but there is %s: restore it, or start with an empty folder", identityName, part)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// makeFolder makes dir and what is missing above it, durably: an entry is on disk when the folder above has been synced.
func makeFolder(fs FS, dir string) error {
	var above []string // to be synced, the nearest first
	for at := dir; ; {
		_, err := fs.Stat(at)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		up := fs.PathDir(at)
		above = append(above, up)
		if up == at {
			break
		}
		at = up
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, folder := range above {
		if err := syncFolder(fs, folder); err != nil {
			return err
		}
	}
	if len(above) == 0 { // an earlier start may have made it and been cut off; one made by others may be above our rights
		_ = syncFolder(fs, fs.PathDir(dir))
	}
	return nil
}

func syncFolder(fs FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readIdentity(fs FS, path string) (*identity, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, identityMax))
	if err != nil {
		return nil, err
	}
	id := &identity{}
	if err := json.Unmarshal(raw, id); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", identityName, err)
	}
	if id.Version != identityVersion {
		return nil, fmt.Errorf("%s has version %d, this build knows %d", identityName, id.Version, identityVersion)
	}
	return id, nil
}

// writeIdentity replaces the file: new bytes are synced under another name, renamed, and the folder is synced.
func writeIdentity(fs FS, dir, path string, id *identity) error {
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	next := path + ".next"
	f, err := fs.Create(next, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(next, path); err != nil {
		return err
	}
	return syncFolder(fs, dir)
}
