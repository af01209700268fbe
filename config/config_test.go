package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func flagSet(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	f := pflag.NewFlagSet("t", pflag.ContinueOnError)
	AddFlags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

func file(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "helenus.yaml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLaterSourcesWin(t *testing.T) {
	p := file(t, "cluster_name: from-file\nrack: file-rack\nread_request_timeout: 7s\nseeds: [127.0.0.1, '127.0.0.2:7001']\nhinted_handoff: off\n")
	c, err := Load(flagSet(t, "--config", p, "--cluster-name", "from-flag"), []string{"HELENUS_RACK=env-rack", "HELENUS_CLUSTER_NAME=from-env", "PATH=/bin"})
	if err != nil {
		t.Fatal(err)
	}
	if c.ClusterName != "from-flag" || c.Rack != "env-rack" || c.ReadTimeout != 7*time.Second || c.HintedHandoff {
		t.Errorf("got %q %q %s %v", c.ClusterName, c.Rack, c.ReadTimeout, c.HintedHandoff)
	}
	seeds, err := c.SeedAddresses()
	if err != nil || len(seeds) != 2 || seeds[0].String() != "127.0.0.1:7000" || seeds[1].String() != "127.0.0.2:7001" {
		t.Errorf("seeds %v, %v", seeds, err)
	}
}

func TestUnknownKeysAreRefusedWithTheNearestName(t *testing.T) {
	for _, tc := range []struct {
		file, env, want string
	}{
		{"clutser_name: x\n", "", `unknown key "clutser_name", did you mean "cluster_name"?`},
		{"", "HELENUS_ROW_CACHE=1", `unknown key "row_cache", did you mean "row_cache_size"?`},
		{"storage:\n  port: 1\n", "", `did you mean "storage_port"?`},
	} {
		_, err := Load(flagSet(t, "--config", file(t, tc.file)), []string{tc.env})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v", tc, err)
		}
	}
}

func TestMistakesNameTheirKey(t *testing.T) {
	for flag, want := range map[string]string{
		"--num-tokens=0":                                      "num_tokens: 0 is not within 1 and 256",
		"--commit-sync=never":                                 `commit_sync: "never" is not one of group, batch, periodic`,
		"--listen-address=localhost":                          `listen_address: "localhost" is not an IP address`,
		"--listen-address=0.0.0.0":                            "broadcast_address: 0.0.0.0 cannot be told to others",
		"--row-cache-size=lots":                               `row_cache_size: "lots" is not a size`,
		"--write-request-timeout=5":                           `write_request_timeout: "5" is not a duration`,
		"--seeds=127.0.0.1,nowhere":                           `seeds: "nowhere" is neither ADDRESS nor ADDRESS:PORT`,
		"--native-tls-cert=a.pem":                             "native_tls_cert: needs native_tls_key",
		"--native-transport-port=70000":                       "native_transport_port: 70000 is no port",
		"--hinted-handoff=maybe":                              `hinted_handoff: "maybe" is neither on nor off`,
		"--max-hint-window=0s":                                "max_hint_window: 0s is not within 1s",
		"--max-hints-size-per-host=0":                         "max_hints_size_per_host: 0 bytes is not within",
		"--batch-size-warn-threshold=0":                       "batch_size_warn_threshold: 0 bytes is not within",
		"--batch-size-fail-threshold=2GiB":                    "batch_size_fail_threshold: 2147483648 bytes is not within",
		"--batchlog-replay-throttle=fast":                     `batchlog_replay_throttle: "fast" is not a size`,
		"--unlogged-batch-across-partitions-warn-threshold=0": "unlogged_batch_across_partitions_warn_threshold: 0 is not within",
		"--gossip-encryption-key=c2hvcnQ=":                    "gossip_encryption_key: it is not base64 of 16, 24 or 32 bytes",
		"--internode-tls-ca=ca.pem":                           "internode_tls_cert: needs internode_tls_ca beside it",
		"--native-tls-client-ca=ca.pem":                       "native_tls_client_ca: needs native_tls_cert",
		"--native-transport-idle-timeout=-1s":                 "native_transport_idle_timeout: -1s is negative",
		"--prepared-statements-cache-size=0":                  "prepared_statements_cache_size: 0 bytes is not within",
		"--row-cache-size=1TiB":                               "row_cache_size: 1099511627776 bytes is not within",
	} {
		_, err := Load(flagSet(t, flag), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", flag, err)
		}
	}
}

func TestPrintIsReadBack(t *testing.T) {
	c, err := Load(flagSet(t, "--seeds", "127.0.0.1,127.0.0.2", "--row-cache-size", "1.5MiB", "--hinted-handoff=off", "--commit-sync-period", "1500ms"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	again, err := Load(flagSet(t, "--config", file(t, b.String())), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, again) {
		t.Errorf("printed\n%s\nread back %+v, want %+v", b.String(), again, c)
	}
}

func TestBytes(t *testing.T) {
	for s, want := range map[string]Bytes{"0": 0, "64MiB": 64 << 20, "1G": 1 << 30, "1.5 KiB": 1536, "10B": 10, "2kB": 2048} {
		if got, err := ParseBytes(s); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-1", "1XB", "NaN", "1e30", "9223372036854775808"} {
		if got, err := ParseBytes(s); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", s, got)
		}
	}
	for s, want := range map[string]Rate{"0": 0, "24MiB/s": 24 << 20, " 1.5KiB/s": 1536, "200MB": 200 << 20} {
		if got, err := ParseRate(s); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "/s", "24MiB/h", "-1/s"} {
		if got, err := ParseRate(s); err == nil {
			t.Errorf("ParseRate(%q) = %d, want an error", s, got)
		}
	}
	if s := Rate(24 << 20).String(); s != "24MiB/s" {
		t.Errorf("got %s", s)
	}
	if s := Bytes(96 << 20).String(); s != "96MiB" {
		t.Errorf("got %s", s)
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if c := Default(); c.NativePort != 9042 || c.Admin().String() != "127.0.0.1:9180" {
		t.Errorf("%+v", c)
	}
}

// TestEveryKeyHasAnEffect: what an operator sets is used by the node, the command or a method that they call, not only
// checked.
func TestEveryKeyHasAnEffect(t *testing.T) {
	var used strings.Builder
	for _, pattern := range []string{"../node/*.go", "../cmd/helenus/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(f, "_test.go") {
				used.Write(raw)
			}
		}
	}
	raw, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	methods, _, found := strings.Cut(string(raw), "// Validate returns")
	if !found {
		t.Fatal("Validate is not where this test looks for it")
	}
	used.WriteString(methods)
	text := used.String()
	fields := reflect.TypeOf(Config{})
	for i := range fields.NumField() {
		if f := fields.Field(i); !regexp.MustCompile(`\.` + f.Name + `\b`).MatchString(text) {
			t.Errorf("%s has no effect", f.Tag.Get("key"))
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"seeds", "data-dir", "rack", "data-center"}
	for word, want := range map[string]string{"data-dri": "data-dir", "seed": "seeds", "": "rack", "data_center": "data-center", "rack": "rack"} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%q: %q", word, got)
		}
	}
	if got := Nearest("x", nil); got != "" {
		t.Errorf("of nothing: %q", got)
	}
}

// TestParseDuration: as Go, and days as in cassandra.yaml.
func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"0": 0, "0s": 0, "500ms": 500 * time.Millisecond, "1d": 24 * time.Hour, "10d": 240 * time.Hour, "1d12h30m": 36*time.Hour + 30*time.Minute,
		"-1d": -24 * time.Hour, "-1d1h": -25 * time.Hour, "1h30m": 90 * time.Minute, "106751d": 106751 * 24 * time.Hour, "24h0m0s": 24 * time.Hour} {
		if d, err := ParseDuration(text); err != nil || d != want {
			t.Errorf("%q: %s, %v; want %s", text, d, err, want)
		}
		if back, err := ParseDuration(want.String()); err != nil || back != want {
			t.Errorf("%s read back: %s, %v", want, back, err)
		}
	}
	for _, text := range []string{"", "d", "1", "1.5d", "1dd", "1d-1h", "1d+1h", "1h1d", "x", "106752d", "-106752d", "106751d24h", "999999999999999999999d", "1 d", "0x1d"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("%q: %s", text, d)
		}
	}
}

// TestNegativeGuardrails: a threshold below zero is refused at the start, by its name; it does not pass for none.
func TestNegativeGuardrails(t *testing.T) {
	for _, key := range []string{"maximum_timestamp_warn_threshold", "maximum_timestamp_fail_threshold", "minimum_timestamp_warn_threshold", "minimum_timestamp_fail_threshold",
		"slow_query_log_threshold", "native_transport_idle_timeout"} {
		_, err := Load(nil, []string{"HELENUS_" + strings.ToUpper(key) + "=-1d"})
		if err == nil || !strings.Contains(err.Error(), "config: "+key+": -24h0m0s is negative") {
			t.Errorf("%s: %v", key, err)
		}
		if _, err := Load(nil, []string{"HELENUS_" + strings.ToUpper(key) + "=1d"}); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestAutoReplaceAfter: off, or longer than a restart takes.
func TestAutoReplaceAfter(t *testing.T) {
	for text, ok := range map[string]bool{"0": true, "10m": true, "6h": true, "1d": true, "9m59s": false, "-1h": false, "366d": false} {
		if _, err := Load(nil, []string{"HELENUS_AUTO_REPLACE_AFTER=" + text}); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "auto_replace_after") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
