package storage

import (
	"errors"
	"strings"
	"testing"

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
