package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	imageBytes    = 768 << 20
	ledgerWriters = 16
	ledgerBucket  = 500 // rows of a partition
)

// disk is an ext4 file system in an image file. What was written to it but not synced is in the page cache above the
// loop device and not in the image: a copy of the image is what a power loss leaves.
type disk struct {
	t            *testing.T
	image, dir   string
	device, name string // /dev/loopN, loopN
}

// mustHaveLoop skips on machines where file systems cannot be mounted.
func mustHaveLoop(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOTICE: only root can mount an image; power loss is not tested here")
	}
	need(t, "mkfs.ext4", "losetup", "mount", "umount", "cp")
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(imageBytes); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
	return mountImage(t, image)
}

func mountImage(t *testing.T, image string) *disk {
	t.Helper()
	d := &disk{t: t, image: image, dir: image + ".mnt"}
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		t.Skipf("NOTICE: no loop device here (%v: %s); power loss is not tested", err, out)
	}
	d.device = strings.TrimSpace(string(out))
	d.name = filepath.Base(d.device)
	t.Cleanup(d.detach)
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-t", "ext4", d.device, d.dir)
	return d
}

func (d *disk) detach() {
	if d.device == "" {
		return
	}
	_ = exec.Command("umount", d.dir).Run()
	_ = exec.Command("losetup", "-d", d.device).Run()
	d.device = ""
}

// written is the number of sectors written to the device, and whether any are under way.
func (d *disk) written() string {
	d.t.Helper()
	b, err := os.ReadFile("/sys/block/" + d.name + "/stat")
	if err != nil {
		d.t.Fatal(err)
	}
	f := strings.Fields(string(b))
	return f[6] + " " + f[8]
}

// afterPowerLoss copies the image while nothing writes to it and mounts the copy. The file system may write back pages
// of its own accord meanwhile; then the copy would be of no single instant, and is made again.
func (d *disk) afterPowerLoss() *disk {
	d.t.Helper()
	next := filepath.Join(d.t.TempDir(), "disk.img")
	for range 50 {
		before := d.written()
		run(d.t, "cp", "--sparse=always", d.image, next)
		if d.written() == before && strings.HasSuffix(before, " 0") {
			return mountImage(d.t, next)
		}
	}
	d.t.Fatal("the file system never rests")
	return nil
}

// ledger writes rows 0, 1, 2, ... for each of its writers, one after another, and remembers what was acknowledged.
type ledger struct {
	addr  string
	acked [ledgerWriters]atomic.Int64
	quit  chan struct{}
	done  sync.WaitGroup
}

func newLedger(t *testing.T, addr string) *ledger {
	t.Helper()
	w := mustDial(t, addr)
	w.must(t, "CREATE KEYSPACE ledger WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	w.must(t, "CREATE TABLE ledger.rows (w int, b int, s int, v text, PRIMARY KEY ((w, b), s))")
	l := &ledger{addr: addr, quit: make(chan struct{})}
	for i := range ledgerWriters {
		l.done.Go(func() { l.write(i) })
	}
	t.Cleanup(l.end)
	return l
}

func (l *ledger) end() {
	select {
	case <-l.quit:
	default:
		close(l.quit)
	}
	l.done.Wait()
}

// write reconnects whenever the node goes away, and makes the row whose fate is unknown again.
func (l *ledger) write(writer int) {
	var conn *wire
	for {
		select {
		case <-l.quit:
			if conn != nil {
				conn.Close()
			}
			return
		default:
		}
		if conn == nil {
			var err error
			if conn, err = dialWire(l.addr); err != nil {
				time.Sleep(20 * time.Millisecond)
				continue
			}
		}
		s := l.acked[writer].Load()
		_, err := conn.query(protocol.One, "INSERT INTO ledger.rows (w, b, s, v) VALUES (%d, %d, %d, '%s')", writer, s/ledgerBucket, s, ledgerValue(writer, s))
		if err != nil {
			conn.Close()
			conn = nil
			continue
		}
		l.acked[writer].Store(s + 1)
	}
}

func ledgerValue(writer int, s int64) string {
	return fmt.Sprintf("%d.%d.%s", writer, s, strings.Repeat("x", 40+int(s%50)))
}

func (l *ledger) snapshot() (acked [ledgerWriters]int64, total int64) {
	for i := range acked {
		acked[i] = l.acked[i].Load()
		total += acked[i]
	}
	return acked, total
}

// lost counts acknowledged rows that are not there, or are not what was written.
func (l *ledger) lost(t *testing.T, acked [ledgerWriters]int64) (lost int64) {
	t.Helper()
	w := mustDial(t, l.addr)
	for writer, n := range acked {
		for b := int64(0); b*ledgerBucket < n; b++ {
			rows := w.must(t, "SELECT v FROM ledger.rows WHERE w = %d AND b = %d", writer, b)
			for s := b * ledgerBucket; s < min(n, (b+1)*ledgerBucket); s++ {
				if i := s - b*ledgerBucket; i >= int64(len(rows)) || string(rows[i][0]) != ledgerValue(writer, s) {
					lost++
				}
			}
		}
	}
	return lost
}

// losePower takes the power away at random moments under load and returns how many acknowledged rows were lost.
func losePower(t *testing.T, random *rand.Rand, rounds int, flags ...string) (lost int64) {
	t.Helper()
	mustHaveLoop(t)
	c := newCluster(t, 1, flags...)
	p := c.nodes[0]
	d := newDisk(t)
	p.liveOn(d)
	p.start()
	p.sees(1, startWait)
	l := newLedger(t, p.addr)
	for round := range rounds {
		time.Sleep(time.Duration(300+random.IntN(1500)) * time.Millisecond)
		p.freeze()
		time.Sleep(20 * time.Millisecond) // answers that have left the node reach their client
		acked, total := l.snapshot()
		after := d.afterPowerLoss()
		p.kill()
		d.detach()
		d = after
		p.liveOn(d)
		p.start()
		p.sees(1, startWait)
		gone := l.lost(t, acked)
		t.Logf("round %d: %d rows were acknowledged, %d are gone", round, total, gone)
		if lost += gone; lost > 0 {
			break
		}
	}
	l.end()
	p.kill()
	d.detach()
	return lost
}

// liveOn moves the node's data folder to a disk.
func (p *process) liveOn(d *disk) {
	p.dir = filepath.Join(d.dir, "node")
	p.setFlag("--data-dir", p.dir)
}

// setFlag changes a flag that the node was given.
func (p *process) setFlag(name, value string) {
	for i, a := range p.args {
		if a == name {
			p.args[i+1] = value
		}
	}
}

// TestPowerLoss: what was acknowledged is on the disk, whenever the power goes. HELENUS_E2E_POWER sets how often it does.
func TestPowerLoss(t *testing.T) {
	skipUnlessE2E(t)
	for _, mode := range []string{"group", "batch"} {
		t.Run(mode, func(t *testing.T) {
			if lost := losePower(t, seeded(t), times(t, "HELENUS_E2E_POWER", 4), "--commit-sync", mode); lost > 0 {
				t.Errorf("%d acknowledged rows are gone", lost)
			}
		})
	}
}

// TestPowerLoss_WouldBeNoticed: the same test fails for a node that acknowledges before it syncs.
func TestPowerLoss_WouldBeNoticed(t *testing.T) {
	skipUnlessE2E(t)
	if lost := losePower(t, seeded(t), 4, "--commit-sync", "periodic", "--commit-sync-period", "1h"); lost == 0 {
		t.Error("a node that does not sync lost nothing: this test cannot find what it looks for")
	}
}
