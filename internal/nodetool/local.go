package nodetool

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/node"
)

// NetStats prints nodetool netstats.
func NetStats(w io.Writer, s *node.NetStats) {
	fmt.Fprintf(w, "Mode: %s\n", s.Mode)
	streams(w, &s.Streams)
	fmt.Fprintf(w, "Read Repair Statistics:\nAttempted: %d\nMismatch (Blocking): %d\nMismatch (Background): 0\n", s.Attempted, s.Mismatch)
	fmt.Fprintf(w, "%-25s%10s%10s%15s%10s\n", "Pool Name", "Active", "Pending", "Completed", "Dropped")
	for _, p := range s.Pools {
		fmt.Fprintf(w, "%-25s%10s%10s%15d%10d\n", p.Name, "n/a", "n/a", p.Completed, p.Dropped)
	}
}

// streams prints what is being streamed as nodetool does, with ranges of tables in the place of files: for each stream its peers, for each peer
// what it sends and receives. What a range holds is known about only, until it has come to its end.
func streams(w io.Writer, s *node.StreamStats) {
	if len(s.Active) == 0 {
		fmt.Fprintln(w, "Not sending any streams.")
		return
	}
	stream, peer := "", ""
	for i, v := range sortedStreams(s.Active) {
		if i == 0 || v.Stream != stream {
			fmt.Fprintf(w, "Streaming %s\n", v.Stream)
			stream, peer = v.Stream, ""
		}
		if v.HostID != peer {
			fmt.Fprintf(w, "    /%s\n", v.Address)
			peer = v.HostID
			direction(w, s.Active, &v, "Receiving", "received from", false)
			direction(w, s.Active, &v, "Sending", "sent to", true)
		}
	}
}

// sortedStreams orders by stream and by peer.
func sortedStreams(active []node.StreamInfo) []node.StreamInfo {
	out := slices.Clone(active)
	slices.SortStableFunc(out, func(a, b node.StreamInfo) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.HostID, b.HostID))
	})
	return out
}

// direction prints what of a stream goes one way between this node and the peer of v: a sum, and a line for each range.
func direction(w io.Writer, active []node.StreamInfo, v *node.StreamInfo, doing, done string, outgoing bool) {
	var mine []node.StreamInfo
	var total, already int64
	for _, a := range active {
		if a.Stream == v.Stream && a.HostID == v.HostID && a.Outgoing == outgoing {
			a.Expected = max(a.Expected, a.Bytes)
			mine, total, already = append(mine, a), total+a.Expected, already+a.Bytes
		}
	}
	if len(mine) == 0 {
		return
	}
	verb, _, _ := strings.Cut(done, " ")
	fmt.Fprintf(w, "        %s %d ranges, %d bytes total. Already %s %d bytes total (%.2f%%)\n", doing, len(mine), total, verb, already, percent(already, total))
	for _, a := range mine {
		fmt.Fprintf(w, "            %s/%s %s %d/%d bytes (%.0f%%) %s /%s", a.Keyspace, a.Table, a.Range, a.Bytes, a.Expected, percent(a.Bytes, a.Expected), done, a.Address)
		if a.Resumed > 0 {
			fmt.Fprintf(w, ", cut off and resumed %d times", a.Resumed)
		}
		fmt.Fprintln(w)
	}
}

func percent(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

// PoolStats prints nodetool tpstats.
func PoolStats(w io.Writer, s *node.PoolStats) {
	i := func(v int64) string { return strconv.FormatInt(v, 10) }
	rows := [][]string{{"Pool Name", "Active", "Pending", "Completed", "Blocked", "All time blocked"}}
	for _, p := range s.Pools {
		rows = append(rows, []string{p.Name, i(p.Active), i(p.Pending), i(p.Completed), "0", i(p.Blocked)})
	}
	table(w, 1, rows)
	fmt.Fprintf(w, "\nLatencies waiting in queue (micros) per dropped message types\n")
	rows = [][]string{{"Message type", "Dropped", "50%", "95%", "99%", "Max"}}
	for _, d := range s.Dropped {
		rows = append(rows, []string{d.Type, i(d.Dropped), "n/a", "n/a", "n/a", "n/a"})
	}
	table(w, 1, rows)
}

// CompactionStats prints nodetool compactionstats.
func CompactionStats(w io.Writer, s *node.CompactionStats, human bool) {
	bytes := strconv.FormatUint(s.Bytes, 10)
	if human {
		bytes = Size(float64(s.Bytes))
	}
	table(w, 1, [][]string{
		{"concurrent compactors", strconv.Itoa(s.Concurrent)},
		{"pending tasks", strconv.Itoa(s.Pending)},
		{"compactions completed", strconv.FormatInt(s.Completed, 10)},
		{"data compacted", bytes},
		{"compactions aborted", strconv.FormatInt(s.Aborted, 10)},
		{"compactions reduced", "0"},
		{"sstables dropped from compaction", "0"},
		{"15 minute rate", "n/a"},
		{"mean rate", fmt.Sprintf("%.2f/hour", s.MeanPerHour)},
		{"compaction throughput (MiB/s)", "n/a"},
	})
}

// percentileRows calls row for each line of a histogram.
func percentileRows(row func(name string, pick func(p *node.Percentiles) float64, of func(d *node.Distribution) int64)) {
	row("50%", func(p *node.Percentiles) float64 { return p.P50 }, func(d *node.Distribution) int64 { return d.P50 })
	row("75%", func(p *node.Percentiles) float64 { return p.P75 }, func(d *node.Distribution) int64 { return d.P75 })
	row("95%", func(p *node.Percentiles) float64 { return p.P95 }, func(d *node.Distribution) int64 { return d.P95 })
	row("98%", func(p *node.Percentiles) float64 { return p.P98 }, func(d *node.Distribution) int64 { return d.P98 })
	row("99%", func(p *node.Percentiles) float64 { return p.P99 }, func(d *node.Distribution) int64 { return d.P99 })
	row("Min", func(p *node.Percentiles) float64 { return p.Min }, func(d *node.Distribution) int64 { return d.Min })
	row("Max", func(p *node.Percentiles) float64 { return p.Max }, func(d *node.Distribution) int64 { return d.Max })
}

// ProxyHistograms prints nodetool proxyhistograms. There are no materialized views.
func ProxyHistograms(w io.Writer, h *node.ProxyHistograms) {
	fmt.Fprintln(w, "proxy histograms")
	line := func(cells ...any) { fmt.Fprintf(w, "%-10s%19s%19s%19s%19s%19s%19s\n", cells...) }
	line("Percentile", "Read Latency", "Write Latency", "Range Latency", "CAS Read Latency", "CAS Write Latency", "View Write Latency")
	line("", "(micros)", "(micros)", "(micros)", "(micros)", "(micros)", "(micros)")
	f := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	percentileRows(func(name string, p func(*node.Percentiles) float64, _ func(*node.Distribution) int64) {
		line(name, f(p(&h.Read)), f(p(&h.Write)), f(p(&h.Range)), f(p(&h.CASRead)), f(p(&h.CASWrite)), f(0))
	})
	fmt.Fprintln(w)
}

// TableHistograms prints nodetool tablehistograms. How many files a read touched is not counted.
func TableHistograms(w io.Writer, h *node.TableHistograms) {
	fmt.Fprintf(w, "%s/%s histograms\n", h.Keyspace, h.Table)
	line := func(cells ...any) { fmt.Fprintf(w, "%-10s%18s%18s%18s%18s%18s\n", cells...) }
	line("Percentile", "Read Latency", "Write Latency", "SSTables", "Partition Size", "Cell Count")
	line("", "(micros)", "(micros)", "", "(bytes)", "")
	f := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	percentileRows(func(name string, p func(*node.Percentiles) float64, d func(*node.Distribution) int64) {
		line(name, f(p(&h.Read)), f(p(&h.Write)), "n/a", strconv.FormatInt(d(&h.Partitions), 10), strconv.FormatInt(d(&h.Cells), 10))
	})
	fmt.Fprintln(w)
}

// TableStats prints nodetool tablestats for tables sorted by keyspace.
func TableStats(w io.Writer, tables []node.TableStats, human bool) {
	fmt.Fprintf(w, "Total number of tables: %d\n----------------\n", len(tables))
	for i := 0; i < len(tables); {
		to := i + 1
		for to < len(tables) && tables[to].Keyspace == tables[i].Keyspace {
			to++
		}
		keyspaceStats(w, tables[i:to], human)
		i = to
	}
}

func keyspaceStats(w io.Writer, tables []node.TableStats, human bool) {
	var reads, writes int64
	var readTime, writeTime float64
	for i := range tables {
		t := &tables[i]
		reads, writes = reads+t.Reads, writes+t.Writes
		readTime, writeTime = readTime+max(t.ReadMicros, 0)*float64(t.Reads), writeTime+max(t.WriteMicros, 0)*float64(t.Writes)
	}
	mean := func(time float64, n int64) string {
		if n == 0 {
			return "NaN ms"
		}
		return strconv.FormatFloat(time/float64(n)/1000, 'g', -1, 64) + " ms"
	}
	fmt.Fprintf(w, "Keyspace: %s\n\tRead Count: %d\n\tRead Latency: %s\n\tWrite Count: %d\n\tWrite Latency: %s\n\tPending Flushes: n/a\n", tables[0].Keyspace, reads,
		mean(readTime, reads), writes, mean(writeTime, writes))
	for i := range tables {
		tableLines(w, &tables[i], human)
	}
	fmt.Fprintln(w, "----------------")
}

func tableLines(w io.Writer, t *node.TableStats, human bool) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "\t\t%s: %s\n", name, fmt.Sprintf(format, args...))
	}
	size := func(b int64) string {
		if human {
			return Size(float64(b))
		}
		return strconv.FormatInt(b, 10)
	}
	millis := func(micros float64) string {
		if micros < 0 {
			return "NaN ms"
		}
		return fmt.Sprintf("%.3f ms", micros/1000)
	}
	ratio := "NaN"
	if t.Ratio >= 0 {
		ratio = fmt.Sprintf("%.5f", t.Ratio)
	}
	readWrite := "0.00000"
	if t.Writes > 0 {
		readWrite = fmt.Sprintf("%.5f", float64(t.Reads)/float64(t.Writes))
	}
	line("Table", "%s", t.Table)
	line("SSTable count", "%d", t.Files)
	line("Old SSTable count", "0")
	line("Max SSTable size", "%s", size(t.LargestFile))
	line("Space used (live)", "%s", size(int64(t.Space)))
	line("Space used (total)", "%s", size(int64(t.Space)))
	line("Space used by snapshots (total)", "%s", size(t.Snapshots))
	line("Off heap memory used (total)", "n/a")
	line("SSTable Compression Ratio", "%s", ratio)
	line("Number of partitions (estimate)", "%d", t.Partitions)
	for _, name := range []string{"Memtable cell count", "Memtable data size", "Memtable off heap memory used", "Memtable switch count", "Speculative retries"} {
		line(name, "n/a")
	}
	line("Local read count", "%d", t.Reads)
	line("Local read latency", "%s", millis(t.ReadMicros))
	line("Local write count", "%d", t.Writes)
	line("Local write latency", "%s", millis(t.WriteMicros))
	line("Local read/write ratio", "%s", readWrite)
	for _, name := range []string{"Pending flushes", "Percent repaired", "Bytes repaired", "Bytes unrepaired", "Bytes pending repair", "Bloom filter false positives",
		"Bloom filter false ratio", "Bloom filter space used", "Bloom filter off heap memory used", "Index summary off heap memory used", "Compression metadata off heap memory used"} {
		line(name, "n/a")
	}
	line("Compacted partition minimum bytes", "%d", t.SmallestPart)
	line("Compacted partition maximum bytes", "%d", t.LargestPart)
	line("Compacted partition mean bytes", "%d", t.MeanPart)
	line("Average live cells per slice (last five minutes)", "n/a")
	line("Maximum live cells per slice (last five minutes)", "n/a")
	line("Average tombstones per slice (last five minutes)", "n/a")
	line("Maximum tombstones per slice (last five minutes)", "n/a")
	line("Droppable tombstone ratio", "n/a")
	fmt.Fprintln(w)
}
