package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/bench"
)

type benchOptions struct {
	hosts, ops           []string
	port, rf             int
	cl                   string
	setup                bool
	run                  bench.Options
	pids                 []int
	pidOf                string
	json, plot, fsyncDir string
	live                 io.Writer // nil: no live display
	width                int
}

func benchCommand() *cobra.Command {
	var o benchOptions
	c := &cobra.Command{Use: "bench", Short: "Measure a CQL server: throughput, latency and cost per operation", Args: cobra.NoArgs,
		Long: "Measure a CQL server with prepared statements on the table bench.kv (a bigint key, five blobs of 34 bytes), many requests\n" +
			"in flight, every answer checked. The exit code is 1 when an answer was wrong or missing.\n\n" +
			"Operations: load writes every row once, write and update overwrite random rows, read reads them, mixed is half reads and\n" +
			"half writes, cas updates random rows on a condition that holds (--rows 1: all of them the same one), all is load, write,\n" +
			"update, read and mixed. counter adds one to random counters of bench.counters and then checks that their sum has grown by\n" +
			"what was acknowledged. With --rate latency counts from the instant at which a request was due, so that a server that\n" +
			"stalls cannot hide.",
		Example: "  helenus bench --setup --op load,read --rows 1000000\n  helenus bench --op read --cl quorum --rate 20000 --duration 60s --plot read.svg",
		RunE: func(c *cobra.Command, _ []string) error {
			if term.IsTerminal(int(os.Stderr.Fd())) {
				o.live = c.ErrOrStderr()
				o.width, _, _ = term.GetSize(int(os.Stderr.Fd()))
			}
			return o.execute(c.Context(), c.OutOrStdout())
		}}
	f := c.Flags()
	f.StringSliceVar(&o.hosts, "hosts", []string{"127.0.0.1"}, "servers, each with or without a port; connections are spread over them")
	f.IntVar(&o.port, "port", 9042, "port of hosts without one")
	f.StringSliceVar(&o.ops, "op", []string{"mixed"}, "operations, one after the other: load, write, update, read, mixed, cas, counter, or all but the last two")
	f.StringVar(&o.cl, "cl", "ONE", "consistency level")
	f.Uint64Var(&o.run.Rows, "rows", 1_000_000, "rows of the table")
	f.BoolVar(&o.setup, "setup", false, "first drop and create the table")
	f.IntVar(&o.rf, "rf", 1, "replication factor for --setup")
	f.DurationVar(&o.run.Duration, "duration", 10*time.Second, "length of each measurement; load ends with its last row")
	f.DurationVar(&o.run.Warm, "warm", 2*time.Second, "time before each measurement")
	f.IntVar(&o.run.Conns, "conns", 4, "connections")
	f.IntVar(&o.run.Depth, "depth", 64, "requests in flight on each connection")
	f.Float64Var(&o.run.Rate, "rate", 0, "operations per second in all, 0: as fast as answers come")
	f.IntSliceVar(&o.pids, "pids", nil, "the server's processes, for its CPU time and memory (Linux)")
	f.StringVar(&o.pidOf, "pid-of", "", "the same by the name of the program, or by an argument such as a Java main class")
	f.StringVar(&o.json, "json", "", "write the reports to this file, as a JSON array")
	f.StringVar(&o.plot, "plot", "", "draw throughput and latency over time into this file (.svg or .png), one per operation")
	f.StringVar(&o.fsyncDir, "fsync-dir", "", "also measure an fsync in this folder, to know what the disk can do")
	return c
}

func (o *benchOptions) execute(ctx context.Context, out io.Writer) error {
	ops, err := o.prepare()
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if o.setup {
		if err := bench.Setup(ctx, o.run.Hosts[0], o.rf); err != nil {
			return err
		}
	}
	fsync := 0.0
	if o.fsyncDir != "" {
		if fsync, err = bench.Fsync(o.fsyncDir); err != nil {
			return err
		}
	}
	var reports []*bench.Report
	for _, op := range ops {
		r, err := o.measure(ctx, op)
		if err != nil {
			return missingTable(err)
		}
		r.FsyncMicros = fsync
		reports = append(reports, r)
		fmt.Fprintln(out, reportLine(r, len(o.pids) > 0))
		if o.plot != "" {
			if err := bench.Plot(r, plotPath(o.plot, op, len(ops) > 1)); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := writeReports(o.json, reports); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return verdict(ctx, reports)
}

// prepare checks and completes the options and returns the operations.
func (o *benchOptions) prepare() (ops []bench.Op, err error) {
	if o.run.Level, err = bench.ParseLevel(o.cl); err != nil {
		return nil, err
	}
	for _, h := range o.hosts {
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), strconv.Itoa(o.port))
		}
		o.run.Hosts = append(o.run.Hosts, h)
	}
	if o.pidOf != "" {
		found, err := pidsOf("/proc", o.pidOf, os.Getpid())
		if err != nil {
			return nil, err
		}
		o.pids = append(o.pids, found...)
	}
	for _, name := range o.ops {
		if name == "all" {
			ops = append(ops, bench.Load, bench.Write, bench.Update, bench.Read, bench.Mixed)
			continue
		}
		ops = append(ops, bench.Op(name))
	}
	if len(ops) == 0 || len(o.run.Hosts) == 0 {
		return nil, errors.New("--op and --hosts must not be empty")
	}
	return ops, nil
}

func (o *benchOptions) measure(ctx context.Context, op bench.Op) (*bench.Report, error) {
	run := o.run
	run.Op = op
	if o.live != nil {
		tick, end := liveDisplay(o.live, o.width, op, run.Rows)
		defer end()
		run.Tick = tick
	}
	return bench.Run(ctx, run, o.pids)
}

// missingTable says what to do when there is no table.
func missingTable(err error) error {
	var e *protocol.Error
	if errors.As(err, &e) && e.Code == protocol.CodeInvalid {
		return fmt.Errorf("%w (--setup --op load creates the table and fills it)", err)
	}
	return err
}

// verdict is the error that the exit code comes from.
func verdict(ctx context.Context, reports []*bench.Report) error {
	for _, r := range reports {
		if r.Bad > 0 {
			return fmt.Errorf("bench: %s: %d bad answers, the first: %s", r.Op, r.Bad, r.FirstBad)
		}
	}
	if ctx.Err() != nil {
		return errors.New("bench: interrupted")
	}
	return nil
}

func writeReports(path string, reports []*bench.Report) error {
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(reports, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// plotPath puts the operation into the file's name when there are several.
func plotPath(path string, op bench.Op, several bool) string {
	if !several {
		return path
	}
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-" + string(op) + ext
}

// reportLine is a report on one line. What was not measured is left out.
func reportLine(r *bench.Report, server bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s op/s p50 %s p99 %s p99.9 %s us", r.Op, r.Level, thousands(r.OpsPerSec), micros(r.Micros.P50), micros(r.Micros.P99), micros(r.Micros.P999))
	if server {
		fmt.Fprintf(&b, " server %.2f us/op", r.ServerCPU)
	}
	fmt.Fprintf(&b, " client %.2f us/op", r.ClientCPU)
	if server {
		fmt.Fprintf(&b, " rss %.0f MiB", r.ServerRSS)
	}
	if r.FsyncMicros > 0 {
		fmt.Fprintf(&b, " fsync %s us", micros(r.FsyncMicros))
	}
	if c := r.Counted; c != nil {
		fmt.Fprintf(&b, " counted %d of %d, unknown %d", c.Sum, c.Acknowledged, c.Unknown)
	}
	fmt.Fprintf(&b, " bad %d", r.Bad)
	return b.String()
}

func micros(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) }

// thousands returns a rounded number with commas.
func thousands(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for at := len(s) - 3; at > 0 && s[at-1] != '-'; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}

// liveDisplay returns what shows a run while it is on: a bar for load, a line that changes every second for others. end
// leaves an empty line.
func liveDisplay(w io.Writer, width int, op bench.Op, rows uint64) (tick func(bench.Sample), end func()) {
	clearLine := func() { fmt.Fprint(w, "\r\x1b[K") }
	if op == bench.Load {
		bar := progressbar.NewOptions64(int64(rows), progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("load"),
			progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
		return func(s bench.Sample) {
			bar.Describe(fmt.Sprintf("load %s rows/s", thousands(s.Ops)))
			_ = bar.Set64(int64(s.Done))
		}, func() { _ = bar.Clear(); clearLine() }
	}
	return func(s bench.Sample) {
		line := liveLine(op, s)
		if width > 1 && len(line) >= width {
			line = line[:width-1]
		}
		clearLine()
		fmt.Fprint(w, line)
	}, clearLine
}

func liveLine(op bench.Op, s bench.Sample) string {
	if s.At <= 0 {
		return fmt.Sprintf("%s warming up, %s op/s bad %d", op, thousands(s.Ops), s.Bad)
	}
	us := func(d time.Duration) string { return micros(float64(d) / 1000) }
	return fmt.Sprintf("%s %.0fs %s op/s p50 %s p99 %s us bad %d", op, s.At.Seconds(), thousands(s.Ops), us(s.P50), us(s.P99), s.Bad)
}

// pidsOf returns the processes whose program has that name or that have it as an argument, but self.
func pidsOf(proc, name string, self int) (pids []int, err error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, fmt.Errorf("--pid-of: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self {
			continue
		}
		b, err := os.ReadFile(filepath.Join(proc, e.Name(), "cmdline"))
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		if filepath.Base(args[0]) == name || slices.Contains(args[1:], name) {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("--pid-of: no process is called %s", name)
	}
	return pids, nil
}
