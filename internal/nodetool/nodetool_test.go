package nodetool

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/node"
)

// Files in testdata are what the nodetool of Cassandra 5.0.8 printed about a node on 127.0.66.1.

func golden(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// same wants the very bytes.
func same(t *testing.T, name, got string) {
	t.Helper()
	if want := golden(t, name); got != want {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

const hostID = "d4098951-f60d-4d07-adc8-4483ab356d68"

// load is what prints as 159.25 KiB.
const load = 159.25 * 1024

func status() *node.Status {
	owns := map[string]float64{hostID: 1}
	return &node.Status{Nodes: []node.NodeStatus{{HostID: hostID, Address: "127.0.66.1", DC: "datacenter1", Rack: "rack1", Up: true, State: "normal", Tokens: 16, Load: load}},
		Keyspaces: []node.Ownership{{Keyspace: "shop", Owns: owns}}}
}

func TestStatus(t *testing.T) {
	var b bytes.Buffer
	if err := Status(&b, status(), "shop"); err != nil {
		t.Fatal(err)
	}
	same(t, "status_ks", b.String())
	b.Reset()
	mixed := status()
	mixed.Keyspaces = append(mixed.Keyspaces, node.Ownership{Keyspace: "net", Owns: map[string]float64{hostID: .5}})
	if err := Status(&b, mixed, ""); err != nil {
		t.Fatal(err)
	}
	same(t, "status0", b.String())
	if err := Status(&b, status(), "nosuch"); err == nil || err.Error() != "The keyspace nosuch, does not exist" {
		t.Errorf("a keyspace that does not exist: %v", err)
	}
}

func ringOf(t *testing.T, effective bool) *node.Ring {
	r := &node.Ring{Effective: effective}
	for _, line := range strings.Split(golden(t, "ring_ks"), "\n") {
		if f := strings.Fields(line); len(f) == 8 && f[0] == "127.0.66.1" {
			r.Tokens = append(r.Tokens, node.RingToken{Token: f[7], HostID: hostID, Address: f[0], DC: "datacenter1", Rack: f[1], Up: true, State: "normal", Load: load, Owns: 1})
		}
	}
	if len(r.Tokens) != 16 {
		t.Fatalf("%d tokens in the golden file", len(r.Tokens))
	}
	return r
}

func TestRing(t *testing.T) {
	var b bytes.Buffer
	Ring(&b, ringOf(t, true))
	same(t, "ring_ks", b.String())
	b.Reset()
	Ring(&b, ringOf(t, false))
	same(t, "ring", b.String())
}

// TestDescribeRing: Cassandra gives the ranges in no order, Helenus in ring order.
func TestDescribeRing(t *testing.T) {
	lines := strings.Split(golden(t, "describering"), "\n")
	d := &node.DescribeRing{Schema: strings.TrimPrefix(lines[0], "Schema Version:")}
	for _, m := range regexp.MustCompile(`start_token:(-?\d+), end_token:(-?\d+)`).FindAllStringSubmatch(golden(t, "describering"), -1) {
		d.Ranges = append(d.Ranges, node.TokenRange{Start: m[1], End: m[2], Endpoints: []node.Endpoint{{Host: "127.0.66.1", Native: "127.0.66.1", DC: "datacenter1", Rack: "rack1"}}})
	}
	var b bytes.Buffer
	DescribeRing(&b, d)
	same(t, "describering", b.String())
}

func TestProxyHistograms(t *testing.T) {
	h := &node.ProxyHistograms{Read: node.Percentiles{P50: 1597, P75: 3973, P95: 14237, P98: 29521, P99: 35425, Min: 536, Max: 35425},
		Write: node.Percentiles{P50: 2759, P75: 4768, P95: 14237, P98: 29521, P99: 88148, Min: 771, Max: 105778}}
	var b bytes.Buffer
	ProxyHistograms(&b, h)
	same(t, "proxyhistograms", b.String())
}

// TestTableHistograms: but for the SSTables, which Helenus does not count.
func TestTableHistograms(t *testing.T) {
	size := node.Distribution{P50: 446, P75: 446, P95: 446, P98: 446, P99: 446, Min: 373, Max: 446}
	h := &node.TableHistograms{Keyspace: "shop", Table: "orders", Partitions: size, Cells: node.Distribution{P50: 35, P75: 35, P95: 35, P98: 35, P99: 35, Min: 25, Max: 35},
		Read:  node.Percentiles{P50: 446, P75: 535, P95: 1109, P98: 1331, P99: 1597, Min: 216, Max: 1597},
		Write: node.Percentiles{P50: 149, P75: 179, P95: 215, P98: 258, P99: 258, Min: 73, Max: 258}}
	var b bytes.Buffer
	TableHistograms(&b, h)
	got := strings.ReplaceAll(b.String(), "               n/a  ", "              0.00  ")
	want := golden(t, "tablehistograms")
	trim := func(s string) string {
		return regexp.MustCompile(` +\n`).ReplaceAllString(strings.ReplaceAll(s, " n/a", "0.00"), "\n")
	}
	if trim(got) != trim(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// labels are what stands before the colon of each line, indentation included.
func labels(s string) (out []string) {
	for _, line := range strings.Split(s, "\n") {
		if at := strings.Index(line, ": "); at >= 0 {
			out = append(out, line[:at])
		}
	}
	return out
}

func sameLabels(t *testing.T, name, got string) {
	t.Helper()
	if want := labels(golden(t, name)); !slices.Equal(labels(got), want) {
		t.Errorf("%s: labels %q, want %q", name, labels(got), want)
	}
}

func TestInfo(t *testing.T) {
	i := &node.Info{ID: hostID, GossipActive: true, NativeActive: true, Load: load, Generation: 1795933988, Uptime: 183, DC: "datacenter1", Rack: "rack1", State: "normal"}
	for _, r := range ringOf(t, true).Tokens {
		i.Tokens = append(i.Tokens, r.Token)
	}
	for name, tokens := range map[string]bool{"info": false, "info_T": true} {
		var b bytes.Buffer
		Info(&b, i, tokens)
		sameLabels(t, name, b.String())
		for _, line := range strings.Split(golden(t, name), "\n") {
			label, _, _ := strings.Cut(line, ":")
			switch strings.TrimSpace(label) {
			case "ID", "Gossip active", "Native Transport active", "Load", "Generation No", "Data Center", "Rack", "Exceptions", "Token", "Bootstrap state", "Bootstrap failed", "Decommissioning", "Decommission failed":
				if !strings.Contains(b.String(), line+"\n") {
					t.Errorf("%s lacks %q", name, line)
				}
			}
		}
	}
	i.Abstains = "the end of its log is missing"
	var b bytes.Buffer
	Info(&b, i, false)
	if want := "Paxos vote             : none: the end of its log is missing\n"; !strings.Contains(b.String(), want) {
		t.Errorf("%q is not in\n%s", want, b.String())
	}
}

func TestTableStats(t *testing.T) {
	s := node.TableStats{Keyspace: "shop", Table: "orders", Files: 2, Space: 21023, Ratio: 0.6295012993441406, Partitions: 20, Reads: 300, ReadMicros: 472, Writes: 301,
		WriteMicros: 154, SmallestPart: 373, LargestPart: 446, MeanPart: 446}
	var b bytes.Buffer
	TableStats(&b, []node.TableStats{s}, false)
	sameLabels(t, "tablestats_t", b.String())
	known := 0
	for _, line := range strings.Split(golden(t, "tablestats_t"), "\n") {
		if strings.Contains(b.String(), line+"\n") {
			known++
		}
	}
	for _, want := range []string{"\t\tSSTable count: 2\n", "\t\tSpace used (live): 21023\n", "\t\tSSTable Compression Ratio: 0.62950\n", "\t\tNumber of partitions (estimate): 20\n",
		"\t\tLocal read latency: 0.472 ms\n", "\t\tLocal write count: 301\n", "\t\tLocal read/write ratio: 0.99668\n", "\t\tCompacted partition minimum bytes: 373\n"} {
		if !strings.Contains(b.String(), want) || !strings.Contains(golden(t, "tablestats_t"), want) {
			t.Errorf("%q is not in both", want)
		}
	}
	if known < 20 {
		t.Errorf("only %d lines are as in Cassandra", known)
	}
	b.Reset()
	TableStats(&b, []node.TableStats{s}, true)
	if !strings.Contains(b.String(), "Space used (live): 20.53 KiB\n") {
		t.Errorf("human: %s", b.String())
	}
}

func TestDescribeCluster(t *testing.T) {
	d := &node.DescribeCluster{Name: "peer", Partitioner: "org.apache.cassandra.dht.Murmur3Partitioner", Schemas: map[string][]string{"1903c72b-0166-3001-99eb-03960ab132e2": {"127.0.66.1"}},
		Live: 1, DCs: []node.DCInfo{{Name: "datacenter1", Nodes: 1}}, Versions: map[string][]string{"5.0.8": {"127.0.66.1:7000"}}}
	for _, k := range []struct{ name, class, option, value string }{{"net", "NetworkTopologyStrategy", "datacenter1", "1"}, {"system_auth", "SimpleStrategy", "replication_factor", "1"},
		{"system_distributed", "SimpleStrategy", "replication_factor", "3"}, {"shop", "SimpleStrategy", "replication_factor", "1"}, {"system_traces", "SimpleStrategy", "replication_factor", "2"},
		{"system_schema", "LocalStrategy", "", ""}, {"system", "LocalStrategy", "", ""}} {
		options := map[string]string{}
		if k.option != "" {
			options[k.option] = k.value
		}
		d.Keyspaces = append(d.Keyspaces, node.KeyspaceInfo{Name: k.name, Class: k.class, Options: options})
	}
	var b bytes.Buffer
	DescribeCluster(&b, d)
	same(t, "describecluster", strings.Replace(b.String(), "Snitch: n/a", "Snitch: org.apache.cassandra.locator.SimpleSnitch", 1))
}

func TestNetStats(t *testing.T) {
	s := &node.NetStats{Mode: "NORMAL", Pools: []node.NetClass{{Name: "Large messages"}, {Name: "Small messages", Completed: 2}, {Name: "Gossip messages"}}}
	var b bytes.Buffer
	NetStats(&b, s)
	if got, want := strings.ReplaceAll(b.String(), "       n/a              ", "         0              "), golden(t, "netstats"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestNetStats_Streams: streams stand where nodetool has them, for each peer what is received before what is sent.
func TestNetStats_Streams(t *testing.T) {
	s := &node.NetStats{Mode: "JOINING", Streams: node.StreamStats{Active: []node.StreamInfo{
		{Stream: "b", HostID: "2", Address: "127.0.0.2", Keyspace: "shop", Table: "orders", Range: "(1,2]", Bytes: 250, Expected: 1000},
		{Stream: "a", HostID: "3", Address: "127.0.0.3", Keyspace: "shop", Table: "orders", Range: "(2,3]", Outgoing: true, Bytes: 7},
		{Stream: "b", HostID: "2", Address: "127.0.0.2", Keyspace: "shop", Table: "items", Range: "(1,2]", Bytes: 1500, Expected: 1000, Resumed: 2},
		{Stream: "b", HostID: "2", Address: "127.0.0.2", Keyspace: "shop", Table: "items", Range: "(5,6]", Outgoing: true},
	}}}
	var b bytes.Buffer
	NetStats(&b, s)
	const want = `Mode: JOINING
Streaming a
    /127.0.0.3
        Sending 1 ranges, 7 bytes total. Already sent 7 bytes total (100.00%)
            shop/orders (2,3] 7/7 bytes (100%) sent to /127.0.0.3
Streaming b
    /127.0.0.2
        Receiving 2 ranges, 2500 bytes total. Already received 1750 bytes total (70.00%)
            shop/orders (1,2] 250/1000 bytes (25%) received from /127.0.0.2
            shop/items (1,2] 1500/1500 bytes (100%) received from /127.0.0.2, cut off and resumed 2 times
        Sending 1 ranges, 0 bytes total. Already sent 0 bytes total (0.00%)
            shop/items (5,6] 0/0 bytes (0%) sent to /127.0.0.2
Read Repair Statistics:
`
	if got := b.String(); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCompactionStats(t *testing.T) {
	var b bytes.Buffer
	CompactionStats(&b, &node.CompactionStats{Concurrent: 2, Completed: 1, Bytes: 1002, MeanPerHour: 17.14}, false)
	got := strings.Split(b.String(), "\n")
	for i, want := range strings.Split(golden(t, "compactionstats"), "\n") {
		const label = len("sstables dropped from compaction ")
		switch {
		case i >= len(got) || len(want) != 0 && got[i][:label] != want[:label]:
			t.Errorf("line %d: %q, want %q", i, got[i], want)
		case strings.Contains(got[i], "n/a"):
		case strings.TrimSpace(got[i]) != strings.TrimSpace(want):
			t.Errorf("line %d: %q, want %q", i, got[i], want)
		}
	}
}

func TestPoolStats(t *testing.T) {
	s := &node.PoolStats{}
	for _, p := range []string{"MutationStage", "ReadStage", "CompactionExecutor"} {
		s.Pools = append(s.Pools, node.PoolInfo{Name: p, Completed: map[string]int64{"MutationStage": 601, "ReadStage": 307, "CompactionExecutor": 53}[p]})
	}
	var b bytes.Buffer
	PoolStats(&b, s)
	words := func(line string) string { return fmt.Sprint(strings.Fields(line)) }
	got := strings.Split(b.String(), "\n")
	for i, want := range strings.Split(strings.TrimSpace(golden(t, "tpstats")), "\n") {
		if words(got[i]) != words(want) {
			t.Errorf("line %d: %q, want %q", i, got[i], want)
		}
	}
}

func TestSize(t *testing.T) {
	for b, want := range map[float64]string{0: "0 bytes", 1002: "1002 bytes", 1126: "1.1 KiB", load: "159.25 KiB", 51 << 20: "51 MiB", 5 << 40: "5 TiB"} {
		if got := Size(b); got != want {
			t.Errorf("%v: %q, want %q", b, got, want)
		}
	}
}
