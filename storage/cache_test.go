package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/row"
)

func concatenate(dst, a, b []byte) ([]byte, error) { return append(append(dst, a...), b...), nil }

// The cache against a map: what it has is right, and it stays within its bytes.
func TestRowCacheAgainstMap(t *testing.T) {
	for _, limit := range []int64{4 << 10, 64 << 10, mib} {
		c := newRowCache(limit)
		want := map[string][]byte{}
		r := testRand(uint64(limit))
		var s stripe
		hits := 0
		for i := range 60_000 {
			k := binary.BigEndian.AppendUint32([]byte("key-"), uint32(r.IntN(3000)))
			h := hashKey(k)
			switch r.IntN(6) {
			case 0: // a read that fills the cache
				c.put(h, k, want[string(k)], &s, s.epoch.Load())
			case 1: // one that a write overtook
				s.epoch.Add(1)
				c.put(h, k, []byte("stale"), &s, s.epoch.Load()-1)
			case 2:
				op := bytes.Repeat([]byte{byte(i)}, r.IntN(40))
				if want[string(k)] = append(want[string(k)], op...); len(want[string(k)]) > 300 {
					want[string(k)] = nil
					c.drop(h, k)
					continue
				}
				c.merge(h, k, op, concatenate)
			case 3:
				c.drop(h, k)
			default:
				if v, ok := c.get(nil, h, k); ok {
					hits++
					if !bytes.Equal(v, want[string(k)]) {
						t.Fatalf("limit %d step %d: key %x is %x, want %x", limit, i, k, v, want[string(k)])
					}
				}
			}
		}
		entries, allocated := c.size()
		if hits == 0 || entries == 0 || allocated > 2*limit+cacheShards*1024 {
			t.Errorf("limit %d: %d hits, %d entries, %d bytes", limit, hits, entries, allocated)
		}
	}
}

// What is read again and again survives a scan over many other rows.
func TestRowCacheKeepsWhatIsHit(t *testing.T) {
	c := newRowCache(256 << 10)
	var s stripe
	hot := func(i int) []byte { return fmt.Appendf(nil, "hot-%d", i) }
	value := make([]byte, 100)
	for i := range 100 {
		c.put(hashKey(hot(i)), hot(i), value, &s, 0)
	}
	kept := 0
	for i := range 20_000 {
		k := fmt.Appendf(nil, "cold-%d", i)
		c.put(hashKey(k), k, value, &s, 0)
		if _, ok := c.get(nil, hashKey(hot(i%100)), hot(i%100)); ok && i >= 19_900 {
			kept++
		}
	}
	if kept < 90 {
		t.Errorf("%d of 100 hot rows were kept", kept)
	}
}

func TestAllocations(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.MemtableBytes = 32 * mib
	e := openTest(t, o)
	defer e.Close()
	write(t, e, put(genPlain, pkey(1), "", 1, "value"))
	cmd := single(genPlain, pkey(1))
	var page row.Page
	get := func() {
		if _, err := e.Read(&cmd, &page); err != nil || page.Rows != 1 {
			t.Fatal(err)
		}
	}
	get()
	if n := testing.AllocsPerRun(1000, get); n != 0 {
		t.Errorf("cached read: %v allocations", n)
	}
	wide := point(genWide, pkey(1), "k")
	write(t, e, put(genWide, pkey(1), "k", 1, "value"))
	getWide := func() {
		if _, err := e.Read(&wide, &page); err != nil || page.Rows != 1 {
			t.Fatal(err)
		}
	}
	getWide()
	if n := testing.AllocsPerRun(1000, getWide); n != 0 {
		t.Errorf("cached read of a wide table: %v allocations", n)
	}
	b := e.NewBatch()
	m := put(genPlain, pkey(2), "", 1, "value")
	done := make(chan struct{}, 1)
	c := CommittedFunc(func(error) { done <- struct{}{} })
	if n := testing.AllocsPerRun(1000, func() {
		if err := b.Apply(&m); err != nil {
			t.Fatal(err)
		}
		b.Commit(c)
		<-done
	}); n > 1 {
		t.Errorf("write: %v allocations", n)
	}
}

// The engine runs in virtual time: no wait of it stops the clock.
func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(vfs.NewCrashableMem())
		e := openTest(t, o)
		before := e.water.Mark().Beat
		write(t, e, put(genPlain, pkey(1), "", 1, "x"))
		synctest.Wait()
		for range 3 {
			write(t, e, put(genPlain, pkey(1), "", 1, "y"))
			<-time.After(2 * watermarkInterval)
		}
		if after := e.water.Mark().Beat; after < before+3 {
			t.Errorf("%d beats in 6 s with writes", after-before)
		}
		beats := e.water.Mark().Beat
		<-time.After(10 * watermarkInterval)
		if e.water.Mark().Beat != beats {
			t.Error("an idle engine beats")
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}
