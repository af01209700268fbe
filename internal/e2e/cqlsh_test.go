package e2e

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// cqlshPath is the stock cqlsh beside the pinned driver.
func cqlshPath(t *testing.T) string {
	t.Helper()
	beside := filepath.Join(filepath.Dir(python(t)), "cqlsh")
	if _, err := os.Stat(beside); err == nil {
		return beside
	}
	p, err := exec.LookPath("cqlsh")
	if err != nil {
		t.Skip("NOTICE: there is no cqlsh beside HELENUS_PYTHON; scripts/python-env.sh installs it")
	}
	return p
}

// cqlsh runs statements through the stock shell and returns what it printed; anything on stderr fails the test.
func cqlsh(t *testing.T, addr string, within time.Duration, args ...string) string {
	t.Helper()
	cmd := exec.Command(cqlshPath(t), append([]string{addr, "--no-color", "--request-timeout=60", "--connect-timeout=20"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(within, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	err := cmd.Wait()
	if said := withoutGreeting(errs.String()); err != nil || said != "" {
		t.Fatalf("cqlsh %q: %v\n%s%s", args, err, tail(out.String(), 20), tail(said, 20))
	}
	return withoutGreeting(out.String())
}

// withoutGreeting drops cqlsh's remark that it was built with 5.0.0.
func withoutGreeting(s string) string {
	lines := strings.Split(s, "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "WARNING: cqlsh was built against") })
	return strings.Join(lines, "\n")
}

// everyFeature is a schema that uses what CREATE statements can say.
var everyFeature = []string{
	`CREATE KEYSPACE shapes WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`,
	`CREATE KEYSPACE "MixedCase" WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1} AND durable_writes = false`,
	`CREATE TYPE shapes.point (x double, y double)`,
	`CREATE TYPE shapes.line (a frozen<point>, b frozen<point>, labels map<text, frozen<list<int>>>)`,
	`CREATE TABLE shapes.scalars (k text PRIMARY KEY, a ascii, b bigint, c blob, d boolean, e date, f decimal, g double, h duration, i float,
	   j inet, l int, m smallint, n time, o timestamp, p timeuuid, q tinyint, r uuid, s varchar, t varint)`,
	`CREATE TABLE shapes.nested (k1 int, k2 text, c1 timeuuid, c2 int, s text STATIC, l list<text>, m map<int, frozen<point>>, st set<inet>,
	   fl frozen<list<text>>, tu tuple<int, text, frozen<set<uuid>>>, u point, fu frozen<line>, "Quoted ""column""" int,
	   PRIMARY KEY ((k1, k2), c1, c2)) WITH CLUSTERING ORDER BY (c1 DESC, c2 ASC)`,
	`CREATE TABLE shapes.options (k int PRIMARY KEY, v text) WITH comment = 'it''s a comment' AND gc_grace_seconds = 3600 AND default_time_to_live = 86400
	   AND bloom_filter_fp_chance = 0.1 AND caching = {'keys': 'NONE', 'rows_per_partition': '10'} AND crc_check_chance = 0.5
	   AND compaction = {'class': 'LeveledCompactionStrategy', 'sstable_size_in_mb': '64'} AND compression = {'enabled': 'false'}
	   AND speculative_retry = '10ms' AND read_repair = 'NONE' AND memtable_flush_period_in_ms = 60000 AND min_index_interval = 64 AND max_index_interval = 1024`,
	`CREATE TABLE shapes.tombstones (k int PRIMARY KEY) WITH tombstone_gc = {'mode': 'repair', 'propagation_delay_in_seconds': 600}`,
	`CREATE TABLE shapes.immediate (k int PRIMARY KEY) WITH tombstone_gc = {'mode': 'immediate'} AND extensions = {'x': 0xcafe}`,
	`CREATE TABLE "MixedCase"."Table" ("Key" int, "order" int, PRIMARY KEY ("Key", "order"))`,
	`ALTER TABLE shapes.scalars ADD added list<frozen<map<text, int>>>`,
	`ALTER TABLE shapes.scalars DROP t`,
	`ALTER TYPE shapes.point ADD z double`,
}

// TestCqlsh_DescribeRecreatesTheSchema: what DESCRIBE SCHEMA prints makes the same schema elsewhere.
func TestCqlsh_DescribeRecreatesTheSchema(t *testing.T) {
	a, b := newCluster(t, 1).up(), newCluster(t, 1).up()
	w := mustDial(t, a.addr(0))
	for _, q := range everyFeature {
		w.must(t, "%s", q)
	}
	version := cqlsh(t, a.addr(0), time.Minute, "-e", "SHOW VERSION")
	if !contains(version, "Cassandra 5.0.") || !contains(version, "CQL spec 3.4.7") || !contains(version, "Native protocol v5") {
		t.Errorf("SHOW VERSION says %q", version)
	}
	first := cqlsh(t, a.addr(0), time.Minute, "-e", "DESCRIBE SCHEMA")
	for _, q := range []string{"CREATE KEYSPACE shapes", `CREATE KEYSPACE "MixedCase"`, "CREATE TYPE shapes.line", "CREATE TABLE shapes.nested", `CREATE TABLE "MixedCase"."Table"`} {
		if strings.Count(first, q+" ") != 1 {
			t.Errorf("DESCRIBE SCHEMA shows %d times %s", strings.Count(first, q+" "), q)
		}
	}
	file := filepath.Join(t.TempDir(), "schema.cql")
	if err := os.WriteFile(file, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	cqlsh(t, b.addr(0), time.Minute, "-f", file)
	if second := cqlsh(t, b.addr(0), time.Minute, "-e", "DESCRIBE SCHEMA"); second != first {
		t.Errorf("the schema is not the same after it went through DESCRIBE: first difference at %s", firstDifference(first, second))
	}
	one := cqlsh(t, a.addr(0), time.Minute, "-e", "DESCRIBE TABLE shapes.nested")
	if !contains(first, strings.TrimSpace(one)) {
		t.Errorf("DESCRIBE TABLE differs from what DESCRIBE SCHEMA shows: %s", one)
	}
	for what, want := range map[string]string{"KEYSPACES": "shapes", "TABLES": "scalars", "TYPES": "line", "CLUSTER": "Murmur3Partitioner"} {
		if got := cqlsh(t, a.addr(0), time.Minute, "-e", "DESCRIBE "+what); !contains(got, want) {
			t.Errorf("DESCRIBE %s does not show %s: %s", what, want, got)
		}
	}
}

// TestExportOfTombstoneGC: the Python driver's export_as_string leaves the mode out, which it does not know, and keeps it when the program registers the extension that holds it.
func TestExportOfTombstoneGC(t *testing.T) {
	c := newCluster(t, 1).up()
	w := mustDial(t, c.addr(0))
	for _, q := range []string{"CREATE KEYSPACE shapes WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
		"CREATE TABLE shapes.t (k int PRIMARY KEY) WITH tombstone_gc = {'mode': 'timeout', 'propagation_delay_in_seconds': 600}"} {
		w.must(t, "%s", q)
	}
	const option = "tombstone_gc = {'mode': 'timeout', 'propagation_delay_in_seconds': '600'}"
	if plain := background(t, python(t), "testdata/export.py", c.addr(0), "shapes", "t").succeeds(time.Minute); contains(plain, "tombstone_gc") {
		t.Errorf("the driver knows it by itself: %s", plain)
	}
	all := background(t, python(t), "testdata/export.py", c.addr(0), "shapes", "t", "register").succeeds(time.Minute)
	if !contains(all, option) {
		t.Errorf("the export lacks %s: %s", option, all)
	}
	file := filepath.Join(t.TempDir(), "export.cql")
	if err := os.WriteFile(file, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	w.must(t, "DROP TABLE shapes.t")
	cqlsh(t, c.addr(0), time.Minute, "-f", file)
	if again := cqlsh(t, c.addr(0), time.Minute, "-e", "DESCRIBE TABLE shapes.t"); !contains(again, option) {
		t.Errorf("after it went through the driver's export: %s", again)
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range x {
		if i >= len(y) || x[i] != y[i] {
			return x[i] + " | " + strings.Join(y[min(i, len(y)):min(i+1, len(y))], "")
		}
	}
	return "the end: " + strings.Join(y[len(x):], "\n")
}

// TestCqlsh_CopyRoundTrip: COPY FROM brings every city in, COPY TO brings them out and COPY FROM back in. Many have an
// empty alt_name, which COPY takes for null unless null has another name.
func TestCqlsh_CopyRoundTrip(t *testing.T) {
	c := newCluster(t, 1).up()
	w := mustDial(t, c.addr(0))
	w.must(t, "CREATE KEYSPACE geo WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	w.must(t, `CREATE TABLE geo.cities (country text, population bigint, city_id int, name text, alt_name text, admin text, feature text,
		longitude double, latitude double, PRIMARY KEY (country, population, city_id)) WITH CLUSTERING ORDER BY (population DESC, city_id ASC)`)
	dir := t.TempDir()
	source, out, again := filepath.Join(dir, "source.csv"), filepath.Join(dir, "out.csv"), filepath.Join(dir, "again.csv")
	gunzip(t, citiesFile(t), source)
	columns := "(country, population, city_id, name, alt_name, admin, feature, longitude, latitude)"
	copyCities := func(direction, file string) {
		t.Helper()
		began := time.Now()
		said := cqlsh(t, c.addr(0), 3*time.Minute, "-e", "COPY geo.cities "+columns+" "+direction+" '"+file+`' WITH HEADER = true AND NUMPROCESSES = 2 AND NULL = '<null>' AND ESCAPE = '"'`)
		if !contains(said, "135233 rows") {
			t.Fatalf("COPY %s: %s", direction, tail(said, 10))
		}
		t.Logf("COPY %s took %s", direction, time.Since(began).Round(time.Millisecond))
	}
	copyCities("FROM", source)
	copyCities("TO", out)
	cqlsh(t, c.addr(0), time.Minute, "-e", "TRUNCATE geo.cities")
	if got := cqlsh(t, c.addr(0), time.Minute, "-e", "SELECT * FROM geo.cities LIMIT 1"); !contains(got, "(0 rows)") {
		t.Fatalf("after TRUNCATE: %s", got)
	}
	copyCities("FROM", out)
	checkCities(t, c.hosts(), "--cl", "ONE")
	copyCities("TO", again)
	if !slices.Equal(sortedLines(t, out), sortedLines(t, again)) {
		t.Error("the second COPY TO gives other rows than the first")
	}
}

func gunzip(t *testing.T, from, to string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func sortedLines(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	slices.Sort(lines)
	return lines
}

// TestCqlsh_Tracing: TRACING ON shows what the coordinator and the replicas did.
func TestCqlsh_Tracing(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	got := cqlsh(t, c.addr(0), time.Minute, "-e", `CREATE KEYSPACE traced WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3};
		CREATE TABLE traced.t (k int PRIMARY KEY, v text);
		CONSISTENCY ALL;
		TRACING ON;
		INSERT INTO traced.t (k, v) VALUES (1, 'one');
		SELECT * FROM traced.t WHERE k = 1;`)
	for _, want := range []string{"Tracing session:", "Execute CQL3 query", "Request complete", "source_elapsed", c.addr(0), c.addr(1), c.addr(2),
		"MUTATION_REQ message received from /" + c.addr(0), "READ_REQ message received from /" + c.addr(0), "Executing single-partition query on t",
		"Enqueuing response to " + c.addr(0), "Processing response from /" + c.addr(1)} {
		if !contains(got, want) {
			t.Errorf("the trace does not show %q", want)
		}
	}
	if n := strings.Count(got, "Tracing session:"); n != 2 {
		t.Errorf("%d traces are shown for two statements", n)
	}
	if t.Failed() {
		t.Log(got)
	}
}
