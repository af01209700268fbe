package storage

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/ring"
)

// TestScenario_M18_HostIDIsDurableBeforeUse: the identity survives, and no generation is given twice, also when the clock goes back.
func TestScenario_M18_HostIDIsDurableBeforeUse(t *testing.T) {
	fs := Memory()
	made := 0
	newID := func() ring.HostID { made++; return ring.HostID{byte(made)} }
	last := int64(0)
	for i, now := range []int64{1000, 2000, 1500, 1500, 0} {
		h, err := OpenHome(fs, "data", newID, now)
		if err != nil {
			t.Fatal(err)
		}
		if h.HostID != (ring.HostID{1}) || h.Generation <= last || h.Created != (i == 0) {
			t.Errorf("start %d: %+v after generation %d", i, h, last)
		}
		last = h.Generation
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestScenario_W13_SecondProcessIsRefused: one data folder, one process.
func TestScenario_W13_SecondProcessIsRefusedHome(t *testing.T) {
	dir := t.TempDir()
	newID := func() ring.HostID { return ring.HostID{7} }
	h, err := OpenHome(Disk(), dir, newID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHome(Disk(), dir, newID, 2); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if h, err = OpenHome(Disk(), dir, newID, 3); err != nil {
		t.Fatal(err)
	}
	_ = h.Close()
}

// TestScenario_W8_FoldersAreDurable: a crash right after the first start leaves the identity and all folders above it.
func TestScenario_W8_FoldersAreDurable(t *testing.T) {
	for _, dir := range []string{"data", "a/b/data", "/a/b/data"} {
		fs := vfs.NewCrashableMem()
		h, err := OpenHome(fs, dir, func() ring.HostID { return ring.HostID{7} }, 1)
		if err != nil {
			t.Fatal(err)
		}
		after := fs.CrashClone(vfs.CrashCloneCfg{})
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		h, err = OpenHome(after, dir, func() ring.HostID { return ring.HostID{8} }, 1)
		if err != nil {
			t.Fatal(err)
		}
		if h.HostID != (ring.HostID{7}) || h.Generation != 2 {
			t.Errorf("%s: %+v after the crash", dir, h)
		}
		_ = h.Close()
	}
}

// TestDataWithoutIdentityIsRefused: rows of one host id must not be served under another.
func TestDataWithoutIdentityIsRefused(t *testing.T) {
	for _, part := range []string{StoreDir, MetaDir} {
		fs := Memory()
		newID := func() ring.HostID { return ring.HostID{7} }
		h, err := OpenHome(fs, "d", newID, 1)
		if err != nil {
			t.Fatal(err)
		}
		_ = h.Close()
		if err := errors.Join(fs.Remove("d/"+identityName), fs.MkdirAll("d/"+part, 0o755)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenHome(fs, "d", newID, 2); err == nil || !strings.Contains(err.Error(), "node.json is missing, but there is "+part) {
			t.Errorf("%s: got %v", part, err)
		}
		if _, err := fs.Stat("d/" + identityName); err == nil {
			t.Errorf("%s: an identity was made", part)
		}
	}
}

func TestDamagedIdentityIsRefused(t *testing.T) {
	fs := Memory()
	newID := func() ring.HostID { return ring.HostID{7} }
	h, err := OpenHome(fs, "d", newID, 1)
	if err != nil {
		t.Fatal(err)
	}
	_ = h.Close()
	f, err := fs.Create("d/"+identityName, "")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write([]byte(`{"version":9}`))
	_ = f.Close()
	if _, err := OpenHome(fs, "d", newID, 2); err == nil || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("got %v", err)
	}
}
