package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// flipBit changes one bit of a file, at a place that rnd chooses, and says where.
func flipBit(t *testing.T, fs vfs.FS, path string, rnd *rand.Rand) string {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil || len(raw) == 0 {
		t.Fatalf("%s: %d bytes, %v", path, len(raw), err)
	}
	at, bit := rnd.IntN(len(raw)), rnd.IntN(8)
	raw[at] ^= 1 << bit
	if f, err = fs.Create(path, vfs.WriteCategoryUnspecified); err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s byte %d of %d, bit %d", path, at, len(raw), bit)
}

// filesOf returns the paths of the store's files with a suffix.
func filesOf(t *testing.T, fs vfs.FS, suffix string) (out []string) {
	t.Helper()
	names, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, suffix) {
			out = append(out, "data/"+n)
		}
	}
	return out
}

// TestScenario_W2_BitFlipsInTheLog: a flipped bit anywhere in the log of a node that crashed is noticed: the store does not
// open, or says that it is suspect, or everything that was acknowledged before the last watermark is there.
func TestScenario_W2_BitFlipsInTheLog(t *testing.T) {
	const rows, later, flips = 300, 20, 200
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	e := openTest(t, testOptions(fs))
	for i := range rows + later {
		write(t, e, put(genPlain, pkey(i), "", 1, strings.Repeat("v", 100)))
		if i == rows-1 {
			if err := e.beat(false); err != nil {
				t.Fatal(err)
			}
		}
	}
	outcomes := map[string]int{}
	for range flips {
		c := fs.CrashClone(vfs.CrashCloneCfg{})
		logs := filesOf(t, c, ".log")
		where := flipBit(t, c, logs[rnd.IntN(len(logs))], rnd)
		outcomes[afterFlip(t, c, rows, fmt.Sprintf("seed %d, %s", seed, where))]++
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: %v", seed, outcomes)
	if outcomes["refused"]+outcomes["suspect"] == 0 {
		t.Error("no flip was noticed: this test does not flip what matters")
	}
}

// afterFlip opens a damaged store and looks at the first rows.
func afterFlip(t *testing.T, fs vfs.FS, rows int, where string) string {
	t.Helper()
	o := testOptions(fs)
	o.Fatal = func(error) {}
	e, err := Open(context.Background(), o)
	if err != nil {
		return "refused"
	}
	missing := 0
	for i := range rows {
		var cmd = single(genPlain, pkey(i))
		if text, _ := read(t, e, cmd); text == "" {
			missing++
		}
	}
	suspect := e.Suspect()
	if err := e.Close(); err != nil {
		t.Errorf("%s: close: %v", where, err)
	}
	switch {
	case suspect:
		return "suspect"
	case missing > 0:
		t.Errorf("%s: %d of %d acknowledged rows are gone, and nothing is said", where, missing, rows)
	}
	return "whole"
}

// TestScenario_W12_DamagedTable: a damaged block is an error for the reads that need it, never a wrong or missing row, it
// is counted, the rest is read and written, and the process goes on.
func TestScenario_W12_DamagedTable(t *testing.T) {
	const rows, flips = 300, 6
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	value := func(i int) string { return fmt.Sprintf("%04d%s", i, bytes.Repeat([]byte{byte('a' + i%26)}, 90)) }
	damaged, readable := 0, 0
	for range flips {
		fs := vfs.NewMem()
		o := testOptions(fs)
		o.RowCacheBytes, o.Metrics = -1, new(Metrics)
		o.Fatal = func(err error) { t.Errorf("seed %d: the process would have ended: %v", seed, err) }
		e := openTest(t, o)
		for i := 0; i < rows; i += 100 {
			b := e.NewBatch()
			for j := i; j < i+100; j++ {
				m := put(genPlain, pkey(j), "", 1, value(j))
				if err := b.Apply(&m); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.CommitWait(context.Background(), b); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		tables := filesOf(t, fs, ".sst")
		where := flipBit(t, fs, tables[rnd.IntN(len(tables))], rnd)
		e, err := Open(context.Background(), o)
		if err != nil {
			if !pebble.IsCorruptionError(err) {
				t.Errorf("seed %d, %s: open: %v", seed, where, err)
			}
			damaged++
			continue
		}
		failed := lookAtAll(t, e, rows, value, where)
		damaged += failed
		readable += rows - failed
		write(t, e, put(genPlain, pkey(rows), "", 1, "new"))
		if failed > 0 && o.Metrics.Corruptions.Load() == 0 {
			t.Errorf("seed %d, %s: %d reads failed, and no damage is counted", seed, where, failed)
		}
		if err := e.Close(); err != nil && !pebble.IsCorruptionError(err) {
			t.Errorf("seed %d, %s: close: %v", seed, where, err)
		}
	}
	t.Logf("seed %d: %d reads failed, %d succeeded", seed, damaged, readable)
	if damaged == 0 || readable == 0 {
		t.Error("this test does not damage what matters, or everything")
	}
}

// lookAtAll reads every row and returns how many reads failed.
func lookAtAll(t *testing.T, e *Engine, rows int, value func(int) string, where string) (failed int) {
	t.Helper()
	for i := range rows {
		cmd := single(genPlain, pkey(i))
		text, err := readOr(t, e, cmd)
		switch want := fmt.Sprintf("%x/=%s ", pkey(i), value(i)); {
		case err != nil && !pebble.IsCorruptionError(err):
			t.Errorf("%s: row %d: %v", where, i, err)
		case err != nil:
			failed++
		case text != want:
			t.Errorf("%s: row %d is %q, want %q", where, i, text, want)
		}
	}
	return failed
}

// TestScenario_W12_DamageKeepsNoCoreBusy: what works in the background meets a damaged block again after a pause, not all the time.
func TestScenario_W12_DamageKeepsNoCoreBusy(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	met := false
	for range 20 {
		fs := vfs.NewMem()
		o := testOptions(fs)
		o.RowCacheBytes, o.Metrics = -1, new(Metrics)
		e := openTest(t, o)
		fill := func(from string) {
			for i := range 50 {
				write(t, e, put(genPlain, pkey(i), "", 1, from))
			}
			if err := e.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		fill("one")
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		tables := filesOf(t, fs, ".sst")
		flipBit(t, fs, tables[rnd.IntN(len(tables))], rnd)
		e, err := Open(t.Context(), o)
		if err != nil {
			continue // what is damaged is looked at by Open
		}
		fill("two")
		fill("three")
		fill("four")
		time.Sleep(300 * time.Millisecond)
		errs := o.Metrics.BackgroundErrors.Load()
		met = met || errs > 0
		if errs > 6 { // statistics once, and compactions until they keep away
			t.Errorf("%d background errors in 300 ms", errs)
		}
		if err := e.Close(); err != nil && !pebble.IsCorruptionError(err) {
			t.Error(err)
		}
	}
	if !met {
		t.Error("nothing met the damage: this test shows nothing")
	}
}
