package schema_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/schema"
)

const sampleDDL = `CREATE KEYSPACE ks WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 3} AND durable_writes = false
CREATE TYPE ks.inner (a int, b list<frozen<tuple<int, text>>>)
CREATE TYPE ks.outer (i frozen<inner>, v vector<float, 3>)
CREATE TABLE ks.t (a int, b text, c timeuuid, d decimal, s set<int> STATIC, o outer, m map<text, frozen<inner>>, "Q" blob, PRIMARY KEY ((a, b), c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC) AND speculative_retry = 'MIN(99p,50ms)' AND extensions = {'x': 0x00ff} AND tombstone_gc = 'timeout'
ALTER TABLE ks.t DROP "Q" USING TIMESTAMP 1234567
ALTER TABLE ks.t DROP s
ALTER TABLE ks.t ADD "Q" blob
CREATE TABLE ks.n (k int PRIMARY KEY, n counter)
TRUNCATE ks.t
ALTER TYPE ks.inner ADD c duration
CREATE KEYSPACE gone WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}
CREATE TABLE gone.t (k int PRIMARY KEY)
CREATE TYPE gone.u (k int)
DROP TYPE gone.u
DROP TABLE gone.t
DROP KEYSPACE gone
ALTER KEYSPACE system_traces WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`

// sample returns a machine after sampleDDL and every change on the way.
func sample(t testing.TB) (*machine, []schema.Change) {
	t.Helper()
	m := newMachine(t)
	var changes []schema.Change
	for line := range strings.SplitSeq(sampleDDL, "\n") {
		changes = append(changes, m.changes(line)...)
		if out := m.run(line); strings.HasPrefix(out[0], "error") {
			t.Fatal(line, out)
		}
	}
	return m, changes
}

// changes plans a statement and returns its changes; the catalog stays as it is.
func (m *machine) changes(statement string) []schema.Change {
	ids := m.ids
	defer func() { m.ids = ids }()
	plan, err := m.plan(mustParse(m.t, statement))
	if err != nil {
		m.t.Fatal(statement, err)
	}
	return plan.Changes
}

// TestGoldenBytes pins the encodings: what was written once must be read for ever.
func TestGoldenBytes(t *testing.T) {
	m, changes := sample(t)
	var b strings.Builder
	for _, ch := range changes {
		fmt.Fprintf(&b, "%s %s.%s\n%s\n", ch.Kind, ch.Keyspace, ch.Name, wrapHex(ch.Append(nil)))
	}
	fmt.Fprintf(&b, "catalog, version %x\n%s\n", m.catalog.Version, wrapHex(m.catalog.Encode()))
	path := filepath.Join("testdata", "encoding.golden")
	if *rewrite {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the encoding has changed: a new version is needed\n%s", b.String())
	}
}

func wrapHex(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		n := min(len(b), 48)
		out.WriteString("  " + hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return strings.TrimRight(out.String(), "\n")
}

func TestDecodeRefusesTruncation(t *testing.T) {
	m, changes := sample(t)
	for _, ch := range changes {
		b := ch.Append(nil)
		for n := range b {
			if _, _, err := schema.DecodeChange(b[:n]); !errors.Is(err, schema.ErrCorrupt) {
				t.Fatalf("%s cut at %d of %d: %v", ch.Kind, n, len(b), err)
			}
		}
	}
	b := m.catalog.Encode()
	for n := range b {
		if _, err := schema.DecodeCatalog(b[:n]); !errors.Is(err, schema.ErrCorrupt) {
			t.Fatalf("catalog cut at %d of %d: %v", n, len(b), err)
		}
	}
	if _, err := schema.DecodeCatalog(append(b, 0)); !errors.Is(err, schema.ErrCorrupt) {
		t.Fatal("a byte too many is accepted")
	}
}

// TestDecodedChangeDoesNotAliasSource: the log reuses its buffers.
func TestDecodedChangeDoesNotAliasSource(t *testing.T) {
	_, changes := sample(t)
	for _, ch := range changes {
		want := ch.Append(nil)
		src := bytes.Clone(want)
		got, _, err := schema.DecodeChange(src)
		if err != nil {
			t.Fatal(err)
		}
		clear(src)
		if !bytes.Equal(got.Append(nil), want) {
			t.Fatalf("%s aliases its source", ch.Kind)
		}
	}
}

// FuzzDecodeChange: what decodes encodes to the same bytes, and applying it never panics.
func FuzzDecodeChange(f *testing.F) {
	m, changes := sample(f)
	for _, ch := range changes {
		f.Add(ch.Append(nil))
	}
	f.Add([]byte{1, 5, 1, 'k', 1, 'u', 1, 1, 'a', 0x30, 0, 1, 'u'}) // a type that contains itself
	f.Fuzz(func(t *testing.T, src []byte) {
		ch, rest, err := schema.DecodeChange(src)
		if err != nil {
			if !errors.Is(err, schema.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, left, err := schema.DecodeChange(ch.Append(nil))
		if err != nil || len(left) > 0 || !bytes.Equal(again.Append(nil), ch.Append(nil)) {
			t.Fatalf("%x does not survive a round trip: %v", src[:len(src)-len(rest)], err)
		}
		next, err := m.catalog.Apply([]schema.Change{ch})
		if err != nil {
			if !errors.Is(err, schema.ErrConflict) {
				t.Fatal(err)
			}
			return
		}
		exercise(t, next)
	})
}

// FuzzDecodeCatalog: the same for snapshots.
func FuzzDecodeCatalog(f *testing.F) {
	m, _ := sample(f)
	f.Add(m.catalog.Encode())
	f.Add(schema.Bootstrap().Encode())
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := schema.DecodeCatalog(src)
		if err != nil {
			if !errors.Is(err, schema.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := schema.DecodeCatalog(c.Encode())
		if err != nil || again.Version != c.Version {
			t.Fatalf("%x does not survive a round trip: %v", src, err)
		}
		exercise(t, c)
	})
}

// exercise reads everything a catalog shows.
func exercise(t *testing.T, c *schema.Catalog) {
	c.Describe(false, schema.DescribeOptions{Internals: true})
	for _, table := range []string{"keyspaces", "tables", "columns", "types", "dropped_columns"} {
		c.SchemaRows(table)
	}
	for _, k := range c.Keyspaces() {
		for _, table := range k.Tables() {
			for _, col := range table.AllColumns() {
				if table.Column(col.Name) != col || table.ColumnByID(col.ID) != col {
					t.Fatalf("%s.%s is not found", table.Name, col.Name)
				}
			}
		}
	}
}
