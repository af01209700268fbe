package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	smallDisk   = 256 << 20
	diskReserve = 64 << 20 // as the harness sets it
)

// tmpfs mounts a small file system in memory and returns its folder.
func tmpfs(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOTICE: only root can mount a tmpfs; a full disk is not tested here")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", smallDisk), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("NOTICE: no tmpfs here (%v: %s); a full disk is not tested", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	return dir
}

func freeBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// fill leaves so many bytes free and returns the file that takes the room.
func fill(t *testing.T, dir string, leave int64) string {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for freeBytes(t, dir) > leave {
		if _, err := f.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// refusedForSpace tells whether the error says that the disk is full.
func refusedForSpace(err error) bool {
	var said *protocol.Error
	return errors.As(err, &said) && strings.Contains(said.Message, "disk space")
}

// TestFullDisk: below the reserve a node refuses writes and says why; it reads, stays a member, and writes again as soon
// as there is room, without a restart.
func TestFullDisk(t *testing.T) {
	c := newCluster(t, 3)
	full := c.nodes[0]
	disk := tmpfs(t)
	full.dir = filepath.Join(disk, "node")
	full.setFlag("--data-dir", full.dir)
	c.up().settled()
	w := mustDial(t, full.addr)
	for rf, ks := range map[int]string{1: "one", 3: "three"} {
		w.must(t, "CREATE KEYSPACE %s WITH replication = {'class': 'SimpleStrategy', 'replication_factor': %d}", ks, rf)
		w.must(t, "CREATE TABLE %s.t (k int PRIMARY KEY, v text)", ks)
	}
	acked := map[string]bool{}
	insert := func(ks string, k int, level protocol.Consistency) error {
		_, err := w.query(level, "INSERT INTO %s.t (k, v) VALUES (%d, '%d')", ks, k, k)
		if err == nil {
			acked[fmt.Sprint(ks, " ", k)] = true
		}
		return err
	}
	for k := range 100 {
		if err := errors.Join(insert("one", k, protocol.One), insert("three", k, protocol.All)); err != nil {
			t.Fatal(err)
		}
	}

	ballast := fill(t, disk, diskReserve/2)
	eventually(t, 20*time.Second, "writes are refused", func() bool { return insert("three", 0, protocol.All) != nil })
	refused := 0
	for k := 100; k < 200; k++ {
		if err := insert("one", k, protocol.One); err != nil {
			if refused++; !refusedForSpace(err) {
				t.Fatalf("a write to the full node fails with %v, which does not speak of disk space", err)
			}
		}
		if err := insert("three", k, protocol.Quorum); err != nil {
			t.Errorf("a write at QUORUM with two healthy replicas: %v", err)
		}
		if err := insert("three", k, protocol.All); err == nil {
			t.Error("a write at ALL is acknowledged although a replica refuses it")
		}
	}
	if refused == 0 || refused == 100 {
		t.Errorf("%d of 100 writes of RF 1 were refused: only those of the full node should be", refused)
	}
	allRows(t, w, acked)
	for _, p := range c.nodes {
		p.sees(3, 5*time.Second)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "writes are taken again", func() bool { return insert("three", 0, protocol.All) == nil })
	for k := 100; k < 200; k++ {
		if err := errors.Join(insert("one", k, protocol.One), insert("three", k, protocol.All)); err != nil {
			t.Errorf("after space was freed: %v", err)
		}
	}
	for _, p := range c.nodes {
		hintsDelivered(t, p)
	}
	allRows(t, w, acked)
	if !full.running() || strings.Count(full.log.String(), "helenus starts") != 1 {
		t.Error("the node was restarted")
	}
}

// TestFullDisk_FilledByWrites: a client that writes until it is refused never brings the node down, and loses nothing.
func TestFullDisk_FilledByWrites(t *testing.T) {
	c := newCluster(t, 1)
	p := c.nodes[0]
	disk := tmpfs(t)
	p.dir = filepath.Join(disk, "node")
	p.setFlag("--data-dir", p.dir)
	c.up().settled()
	w := mustDial(t, p.addr)
	w.must(t, "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	w.must(t, "CREATE TABLE ks.t (k int PRIMARY KEY, v blob)")
	random := seeded(t)
	n, refused := 0, 0
	for refused < 50 {
		v := make([]byte, 60_000)
		for i := range v {
			v[i] = "0123456789abcdef"[random.IntN(16)]
		}
		_, err := w.query(protocol.One, "INSERT INTO ks.t (k, v) VALUES (%d, 0x%s)", n, v)
		switch {
		case err == nil:
			n++
		case refusedForSpace(err):
			refused++
			time.Sleep(20 * time.Millisecond)
		default:
			t.Fatalf("write %d: %v", n, err)
		}
		if n*len(v) > 4*smallDisk {
			t.Fatal("the disk never fills")
		}
	}
	free := freeBytes(t, disk)
	t.Logf("%d rows of 30 kB were taken, %d MiB are free", n, free>>20)
	if free < diskReserve/4 {
		t.Errorf("only %d bytes are free: the reserve of %d was used up", free, diskReserve)
	}
	for k := range n {
		if rows := w.must(t, "SELECT k FROM ks.t WHERE k = %d", k); len(rows) != 1 {
			t.Fatalf("row %d of %d is gone", k, n)
		}
	}
	p.kill()
	p.start()
	p.sees(1, startWait)
	again := mustDial(t, p.addr)
	for k := range n {
		if rows := again.must(t, "SELECT k FROM ks.t WHERE k = %d", k); len(rows) != 1 {
			t.Fatalf("row %d of %d is gone after a restart", k, n)
		}
	}
	again.must(t, "TRUNCATE ks.t")
	eventually(t, 30*time.Second, "a TRUNCATE makes room", func() bool {
		_, err := again.query(protocol.One, "INSERT INTO ks.t (k, v) VALUES (0, 0x00)")
		return err == nil
	})
}

func eventually(t *testing.T, within time.Duration, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s it is still not so that %s", within, what)
		}
	}
}

func allRows(t *testing.T, w *wire, acked map[string]bool) {
	t.Helper()
	for row := range acked {
		ks, k, _ := strings.Cut(row, " ")
		if rows, err := w.query(protocol.Quorum, "SELECT v FROM %s.t WHERE k = %s", ks, k); err != nil || len(rows) != 1 || string(rows[0][0]) != k {
			t.Errorf("the acknowledged row %s reads %v, %v", row, rows, err)
		}
	}
}
