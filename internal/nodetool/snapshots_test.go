package nodetool

import (
	"bytes"
	"testing"
	"time"

	"github.com/helenusdb/helenus/node"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse(snapshotTime, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSnapshots(t *testing.T) {
	const kib = 1024
	size := func(f float64) uint64 { return uint64(f * kib) }
	row := func(tag, ks, table string, own, all float64, created string) node.SnapshotRow {
		return node.SnapshotRow{Tag: tag, Keyspace: ks, Table: table, TrueBytes: int64(size(own)), Bytes: size(all), Created: at(t, created)}
	}
	var b bytes.Buffer
	Snapshots(&b, &node.SnapshotList{Rows: []node.SnapshotRow{row("one", "shop", "stock", 1.08, 26.62, "2026-11-29T06:36:44.422Z"), row("one", "shop", "orders", 1.15, 11.65, "2026-11-29T06:36:44.422Z"),
		row("1795934209058", "net", "t", 1.02, 1.02, "2026-11-29T06:36:49.500Z"), row("two", "shop", "orders", 1.15, 11.65, "2026-11-29T06:36:46.322Z"), row("two", "net", "t", 1.02, 1.02, "2026-11-29T06:36:46.322Z")}})
	same(t, "listsnapshots", b.String())
	b.Reset()
	Snapshots(&b, &node.SnapshotList{})
	same(t, "listsnapshots_empty", b.String())
	b.Reset()
	expires := at(t, "2026-11-29T07:37:08.159Z")
	first, second := row("ttl", "shop", "orders", 1.17, 11.67, "2026-11-29T06:37:08.159Z"), row("ttl", "shop", "stock", 1.1, 26.64, "2026-11-29T06:37:08.159Z")
	first.Expires, second.Expires = &expires, &expires
	Snapshots(&b, &node.SnapshotList{Rows: []node.SnapshotRow{first, second}})
	same(t, "listsnapshots_ttl", b.String())
}

func TestRequested(t *testing.T) {
	var b bytes.Buffer
	SnapshotRequested(&b, []string{"shop"}, "one", 0)
	b.WriteString("Snapshot directory: one\n")
	same(t, "snapshot", b.String())
	for name, c := range map[string]struct {
		keyspaces []string
		tag       string
	}{"clearsnapshot": {nil, "one"}, "clearsnapshot_ks": {[]string{"shop"}, "two"}, "clearsnapshot_all": {nil, ""}} {
		b.Reset()
		ClearRequested(&b, c.keyspaces, c.tag)
		same(t, name, b.String())
	}
	b.Reset()
	SnapshotRequested(&b, nil, "x", 36*time.Hour)
	if want := "Requested creating snapshot(s) for [all keyspaces] with snapshot name [x] and options {skipFlush=false, ttl=36h}\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
