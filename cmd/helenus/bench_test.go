package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/helenusdb/helenus/internal/bench"
)

func TestReportLine(t *testing.T) {
	r := &bench.Report{Op: bench.Read, Level: "ONE", OpsPerSec: 1234567.8, Micros: bench.Latency{P50: 12.4, P99: 345.6, P999: 7890},
		ServerCPU: 4.567, ClientCPU: 1.2, ServerRSS: 512.4, FsyncMicros: 266.1, Bad: 3}
	if got, want := reportLine(r, true), "read ONE 1,234,568 op/s p50 12 p99 346 p99.9 7890 us server 4.57 us/op client 1.20 us/op rss 512 MiB fsync 266 us bad 3"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	r.FsyncMicros, r.OpsPerSec, r.Bad = 0, 12, 0
	if got, want := reportLine(r, false), "read ONE 12 op/s p50 12 p99 346 p99.9 7890 us client 1.20 us/op bad 0"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	s := bench.Sample{At: 3 * time.Second, Ops: 1000, P50: 1500, P99: 2 * time.Millisecond, Bad: 1}
	if got, want := liveLine(bench.Read, s), "read 3s 1,000 op/s p50 2 p99 2000 us bad 1"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	s = bench.Sample{At: -time.Second, Ops: 1000, P50: 1500, P99: 2 * time.Millisecond}
	if got, want := liveLine(bench.Read, s), "read warming up, 1,000 op/s bad 0"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestThousands(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 123456: "123,456", 1e9: "1,000,000,000", -1234: "-1,234", -123: "-123"} {
		if got := thousands(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestBenchOptions(t *testing.T) {
	o := benchOptions{hosts: []string{"a", "b:1", "::1", "[::2]:3"}, port: 9042, ops: []string{"all"}, cl: "quorum"}
	ops, err := o.prepare()
	if err != nil || len(ops) != 5 || o.run.Level.String() != "QUORUM" {
		t.Errorf("%v %v %v", ops, err, o.run.Level)
	}
	if want := []string{"a:9042", "b:1", "[::1]:9042", "[::2]:3"}; !slices.Equal(o.run.Hosts, want) {
		t.Errorf("%q, want %q", o.run.Hosts, want)
	}
	for _, bad := range []benchOptions{{}, {cl: "ONE"}, {cl: "ONE", hosts: []string{"a"}}, {cl: "most", hosts: []string{"a"}, ops: []string{"read"}}} {
		if _, err := bad.prepare(); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	if got := plotPath("x/p.svg", bench.Read, true); got != "x/p-read.svg" {
		t.Error(got)
	}
}

func TestPidsOf(t *testing.T) {
	proc := t.TempDir()
	for pid, cmdline := range map[int]string{10: "/usr/bin/helenus\x00start\x00", 11: "java\x00-Xmx1g\x00org.X\x00", 12: "helenus\x00bench\x00", 13: ""} {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte(cmdline), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][]int{"helenus": {10}, "org.X": {11}, "nothing": nil} {
		got, err := pidsOf(proc, name, 12)
		if !slices.Equal(got, want) || (err != nil) != (want == nil) {
			t.Errorf("%s: %v %v, want %v", name, got, err, want)
		}
	}
}
