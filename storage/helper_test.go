package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// Generations of the tests' tables.
const (
	genPlain  schema.Generation = 1 // partition key only
	genWide   schema.Generation = 2 // clustering and static columns
	genRepair schema.Generation = 3 // like genWide, tombstones wait for repair
	genOther  schema.Generation = 4
)

const graceSeconds = 1000

// catalog is a Tables.
type catalog map[schema.Generation]*schema.Table

func (c catalog) Table(gen schema.Generation) (*schema.Table, bool) {
	t, ok := c[gen]
	return t, ok
}

func newCatalog() catalog {
	c := catalog{}
	for _, gen := range []schema.Generation{genPlain, genWide, genRepair, genOther} {
		t := &schema.Table{Keyspace: "ks", Name: fmt.Sprintf("t%d", gen), Generation: gen}
		t.PartitionKey = []*schema.Column{{ID: 1, Name: "pk"}}
		if gen != genPlain {
			t.Clustering = []*schema.Column{{ID: 2, Name: "ck", Kind: schema.KindClustering}}
		}
		t.Options.GCGraceSeconds = graceSeconds
		if gen != genRepair {
			t.Options.Extensions = append(t.Options.Extensions, schema.Extension{Name: schema.ExtensionTombstoneGC, Value: []byte("timeout")})
		}
		c[gen] = t
	}
	return c
}

func testOptions(fs vfs.FS) Options {
	return Options{Dir: "data", FS: fs, Tables: newCatalog(), ReserveBytes: -1, PurgeInterval: -1, MemtableBytes: 4 * mib, BlockCacheBytes: 8 * mib, RowCacheBytes: 8 * mib}
}

func openTest(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// openMem opens an engine in memory that is closed with the test.
func openMem(t testing.TB) *Engine {
	t.Helper()
	e := openTest(t, testOptions(vfs.NewMem()))
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func pkey(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

func token(key []byte) ring.Token { return ring.Murmur3{}.Token(key) }

func rowOf(ts int64, value string) []byte {
	var b row.Builder
	b.Reset(nil)
	b.SetLiveness(row.Liveness{Timestamp: ts})
	b.Cell(row.Cell{Column: 10, Timestamp: ts, Value: []byte(value)})
	return b.Finish()
}

// mutation builds one from what fill adds.
func mutation(gen schema.Generation, key []byte, fill func(f *row.FragmentBuilder)) row.Mutation {
	var f row.FragmentBuilder
	f.Reset(nil, false)
	fill(&f)
	return row.Mutation{Generation: gen, Token: token(key), Key: key, Fragment: f.Finish()}
}

func put(gen schema.Generation, key []byte, ck string, ts int64, value string) row.Mutation {
	return mutation(gen, key, func(f *row.FragmentBuilder) { f.Row([]byte(ck), rowOf(ts, value)) })
}

func write(t testing.TB, e *Engine, ms ...row.Mutation) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.Write(ctx, ms); err != nil {
		t.Fatal(err)
	}
}

// read returns the live values of a page as "key/ck=value ".
func read(t testing.TB, e *Engine, cmd row.Command) (string, row.Page) {
	t.Helper()
	var page row.Page
	if _, err := e.Read(&cmd, &page); err != nil {
		t.Fatal(err)
	}
	return pageText(t, &page, cmd.Now), page
}

func pageText(t testing.TB, page *row.Page, now int64) (out string) {
	t.Helper()
	var pr row.PageReader
	for pr.Init(page.Data); pr.Next(); {
		var f row.FragmentReader
		if err := f.Init(pr.Fragment); err != nil {
			t.Fatal(err)
		}
		if len(f.Static()) > 0 && row.HasLive(f.Static(), now) {
			out += fmt.Sprintf("%x/static=%s ", pr.Key, values(t, f.Static(), now))
		}
		for f.NextRow() {
			if row.HasLive(f.Row, now) {
				out += fmt.Sprintf("%x/%s=%s ", pr.Key, f.Ckey, values(t, f.Row, now))
			}
		}
		if f.Err() != nil {
			t.Fatal(f.Err())
		}
	}
	if pr.Err() != nil {
		t.Fatal(pr.Err())
	}
	return out
}

func values(t testing.TB, r []byte, now int64) (out string) {
	t.Helper()
	var rd row.Reader
	if err := rd.Init(r); err != nil {
		t.Fatal(err)
	}
	for rd.Next() {
		if !rd.Complex && rd.Cell.LiveAt(now) {
			out += string(rd.Cell.Value)
		}
	}
	return out
}

func single(gen schema.Generation, key []byte) row.Command {
	return row.Command{Generation: gen, Now: 1, Token: token(key), Key: key, GCBefore: row.NoTimestamp}
}

func point(gen schema.Generation, key []byte, ck string) row.Command {
	c := single(gen, key)
	c.Slices = []row.Slice{{Start: []byte(ck), End: []byte(ck + "\xff"), Point: true}}
	return c
}

// readOr is read for reads that may fail.
func readOr(t testing.TB, e *Engine, cmd row.Command) (string, error) {
	t.Helper()
	var page row.Page
	if _, err := e.Read(&cmd, &page); err != nil {
		return "", err
	}
	return pageText(t, &page, cmd.Now), nil
}

// unixTime is a clock that the test sets, in seconds since the epoch.
func unixTime(now *int64) func() time.Time { return func() time.Time { return time.Unix(*now, 0) } }
