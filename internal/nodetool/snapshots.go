package nodetool

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/helenusdb/helenus/node"
)

const snapshotTime = "2006-01-02T15:04:05.000Z"

// Snapshots prints nodetool listsnapshots.
func Snapshots(w io.Writer, s *node.SnapshotList) {
	fmt.Fprintln(w, "Snapshot Details: ")
	if len(s.Rows) == 0 {
		fmt.Fprintln(w, "There are no snapshots")
		return
	}
	rows := [][]string{{"Snapshot name", "Keyspace name", "Column family name", "True size", "Size on disk", "Creation time", "Expiration time"}}
	for _, r := range s.Rows {
		expires := ""
		if r.Expires != nil {
			expires = r.Expires.UTC().Format(snapshotTime)
		}
		rows = append(rows, []string{r.Tag, r.Keyspace, r.Table, Size(float64(r.TrueBytes)), Size(float64(r.Bytes)), r.Created.UTC().Format(snapshotTime), expires})
	}
	table(w, 1, rows)
	fmt.Fprintf(w, "\nTotal TrueDiskSpaceUsed: %s\n\n", Size(float64(s.Total)))
}

// SnapshotRequested prints what nodetool snapshot says before it takes one.
func SnapshotRequested(w io.Writer, tables []string, tag string, ttl time.Duration) {
	of := "all keyspaces"
	if len(tables) > 0 {
		of = strings.Join(tables, ",")
	}
	options := "skipFlush=false"
	if ttl > 0 {
		options += ", ttl=" + short(ttl)
	}
	fmt.Fprintf(w, "Requested creating snapshot(s) for [%s] with snapshot name [%s] and options {%s}\n", of, tag, options)
}

// short is a duration without parts that are zero.
func short(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ClearRequested prints what nodetool clearsnapshot says.
func ClearRequested(w io.Writer, keyspaces []string, tag string) {
	of, what := "all keyspaces", "[all snapshots]"
	if len(keyspaces) > 0 {
		of = strings.Join(keyspaces, ", ")
	}
	if tag != "" {
		what = "snapshot name [" + tag + "]"
	}
	fmt.Fprintf(w, "Requested clearing snapshot(s) for [%s] with %s\n", of, what)
}

// Restored prints what a restore did on one node.
func Restored(w io.Writer, r *node.Restored) {
	for _, t := range r.Tables {
		fmt.Fprintf(w, "restored %s.%s: %d mutations, %s, from snapshot %s of node %s\n", t.Keyspace, t.Table, t.Mutations, Size(float64(t.Bytes)), r.Snapshot, r.HostID)
	}
}
