package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// catalogTables is a catalog that does not change.
type catalogTables struct{ *schema.Catalog }

func (c catalogTables) Table(gen schema.Generation) (*schema.Table, bool) {
	return c.TableByGeneration(gen)
}

// openReadOnly opens a copy of a store to read it. Only abandon may end it.
func openReadOnly(fs vfs.FS, dir string, tables Tables) (*Engine, error) {
	o := Options{Dir: dir, FS: fs, Tables: tables, RowCacheBytes: -1, ReserveBytes: -1, PurgeInterval: -1, BlockCacheBytes: 8 * mib, Fatal: func(error) {}}.withDefaults()
	e := newEngine(o)
	po := e.pebbleOptions()
	po.ReadOnly = true
	var err error
	if e.db, err = pebble.Open(dir, po); err == nil {
		err = e.markers.load(e.db)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrSnapshotBroken, err), e.abandon())
	}
	return e, nil
}

// SnapshotReader reads a snapshot of any node, of any cluster.
type SnapshotReader struct {
	Manifest *Manifest
	Catalog  *schema.Catalog // as it was

	e *Engine
}

// OpenSnapshot opens the snapshot in a folder, after it has compared all files with the manifest. Close ends it. Errors:
// ErrNoSnapshot, ErrSnapshotBroken.
func OpenSnapshot(fs FS, dir string) (*SnapshotReader, error) {
	m, err := readManifest(fs, dir)
	if err != nil {
		return nil, err
	}
	for _, want := range m.Files {
		got, err := hashFile(fs, fs.PathJoin(dir, want.Name), want.Name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSnapshotBroken, err)
		}
		if got != want {
			return nil, fmt.Errorf("%w: %s has %d bytes and xxh64 %s, the manifest says %d and %s", ErrSnapshotBroken, want.Name, got.Size, got.Hash, want.Size, want.Hash)
		}
	}
	r := &SnapshotReader{Manifest: m}
	raw, err := readAll(fs, fs.PathJoin(dir, catalogName))
	if err == nil {
		r.Catalog, err = schema.DecodeCatalog(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSnapshotBroken, catalogName, err)
	}
	r.e, err = openReadOnly(fs, fs.PathJoin(dir, snapshotStoreDir), catalogTables{r.Catalog})
	return r, err
}

func readAll(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, manifestMax))
}

// Close ends the reading.
func (r *SnapshotReader) Close() error { return r.e.abandon() }

// Mutations calls fn with all there is of a table, in ring order, as mutations of its generation in the snapshot: rows, deletions, expiring
// cells, whatever their time. A large partition comes in several. fn may keep what it is given. It ends at the first error.
func (r *SnapshotReader) Mutations(ctx context.Context, gen schema.Generation, fn func(m row.Mutation) error) error {
	full := ring.FullRange()
	cmd := row.Command{Generation: gen, Range: &full, WithStatic: true, Now: 0, GCBefore: row.NoTimestamp, Limit: math.MaxInt32}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var page row.Page
		if _, err := r.e.Read(&cmd, &page); err != nil {
			return err
		}
		var pr row.PageReader
		for pr.Init(page.Data); pr.Next(); {
			if err := fn(row.Mutation{Generation: gen, Token: pr.Token, Key: pr.Key, Fragment: pr.Fragment}); err != nil {
				return err
			}
		}
		if err := pr.Err(); err != nil || !page.More {
			return err
		}
		cut := page.Cut
		cmd.From = &cut
	}
}
