package schema_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/schema"
)

func TestPartitionKeys(t *testing.T) {
	m := newMachine(t).ddl(ksDDL + "CREATE TABLE ks.one (k int PRIMARY KEY)\nCREATE TABLE ks.two (a int, b text, PRIMARY KEY ((a, b)))")
	one, two := m.table("ks", "one"), m.table("ks", "two")
	seven, hi := types.EncodeInt(7), []byte("hi")
	if got := one.PartitionKeyOf(nil, [][]byte{seven}); !bytes.Equal(got, seven) {
		t.Errorf("single: %x", got)
	}
	key := two.PartitionKeyOf([]byte("x"), [][]byte{seven, hi})
	if want := "x\x00\x04\x00\x00\x00\x07\x00\x00\x02hi\x00"; string(key) != want {
		t.Errorf("composite: %x", key)
	}
	parts, err := two.SplitPartitionKey(key[1:], nil)
	if err != nil || len(parts) != 2 || !bytes.Equal(parts[0], seven) || !bytes.Equal(parts[1], hi) {
		t.Errorf("split: %x, %v", parts, err)
	}
	for _, c := range []struct {
		table *schema.Table
		key   string
		ok    bool
	}{
		{one, "\x00\x00\x00\x07", true},
		{one, "", false},
		{one, "\x00\x00\x07", false},
		{one, string(make([]byte, schema.KeyLenMax+1)), false},
		{two, string(key[1:]), true},
		{two, string(key[1 : len(key)-1]), false},
		{two, string(key[1:]) + "\x00", false},
		{two, "\x00\x00\x00\x00\x00\x00", true}, // empty values are values
		{two, "\x00\x03abc\x00\x00\x00\x00", false},
		{two, "\x00\x00\x00\x00\x01\xff\x00", false}, // not UTF-8
	} {
		if err := c.table.ValidatePartitionKey([]byte(c.key)); (err == nil) != c.ok || err != nil && !errors.Is(err, schema.ErrKey) {
			t.Errorf("%s %x: %v", c.table.Name, c.key, err)
		}
	}
}

func TestClusteringKeys(t *testing.T) {
	m := newMachine(t).ddl(ksDDL + "CREATE TABLE ks.t (k int, a int, b text, PRIMARY KEY (k, a, b)) WITH CLUSTERING ORDER BY (a DESC, b ASC)")
	table := m.table("ks", "t")
	values := func(a int32, b string) [][]byte { return [][]byte{types.EncodeInt(a), []byte(b)} }
	var last []byte
	for i, v := range [][][]byte{values(5, ""), values(5, "a"), values(5, "ab"), values(5, "b"), values(-5, "a"), values(-6, "")} {
		key := table.AppendClusteringKey(nil, v)
		if i > 0 && bytes.Compare(last, key) >= 0 {
			t.Errorf("key %d does not sort after its predecessor", i)
		}
		if prefix := table.AppendClusteringKey(nil, v[:1]); !bytes.HasPrefix(key, prefix) {
			t.Errorf("key %d does not begin with its first component", i)
		}
		got, err := table.SplitClusteringKey(key, nil)
		if err != nil || len(got) != 2 || !bytes.Equal(got[0], v[0]) || !bytes.Equal(got[1], v[1]) {
			t.Errorf("split %x: %x, %v", key, got, err)
		}
		if got, err := table.SplitClusteringKey(key[:len(key)-1], nil); err == nil && len(got) == 2 {
			t.Errorf("a cut key is read as %x", got)
		}
		if _, err := table.SplitClusteringKey(append(bytes.Clone(key), key...), nil); !errors.Is(err, schema.ErrKey) {
			t.Errorf("a key too long: %v", err)
		}
		last = key
	}
}

func TestKeysDoNotAllocate(t *testing.T) {
	m := newMachine(t).ddl(ksDDL + "CREATE TABLE ks.t (p int, q text, a bigint, b text, PRIMARY KEY ((p, q), a, b))")
	table := m.table("ks", "t")
	pk := [][]byte{types.EncodeInt(1), []byte("partition")}
	ck := [][]byte{types.EncodeBigint(7), []byte("clustering")}
	key := table.PartitionKeyOf(nil, pk)
	buf := make([]byte, 0, 256)
	parts := make([][]byte, 0, 4)
	got := testing.AllocsPerRun(100, func() {
		buf = table.PartitionKeyOf(buf[:0], pk)
		buf = table.AppendClusteringKey(buf[:0], ck)
		parts, _ = table.SplitPartitionKey(key, parts[:0])
		if table.ValidatePartitionKey(key) != nil || table.Column("q") == nil || table.ColumnByID(2) == nil {
			t.Fatal("lost")
		}
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkAppendClusteringKey(b *testing.B) {
	m := newMachine(b).ddl(ksDDL + "CREATE TABLE ks.t (k int, a bigint, b text, PRIMARY KEY (k, a, b))")
	table := m.table("ks", "t")
	ck := [][]byte{types.EncodeBigint(7), []byte("clustering")}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = table.AppendClusteringKey(buf[:0], ck)
	}
}

func BenchmarkBootstrap(b *testing.B) {
	for b.Loop() {
		schema.Bootstrap()
	}
}

func BenchmarkApply(b *testing.B) {
	m := newMachine(b).ddl(ksDDL + "CREATE TABLE ks.t (k int PRIMARY KEY)")
	changes := m.changes("ALTER TABLE ks.t ADD v int")
	for b.Loop() {
		if _, err := m.catalog.Apply(changes); err != nil {
			b.Fatal(err)
		}
	}
}
