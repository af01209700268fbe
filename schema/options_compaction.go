package schema

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const compactionPackage = "org.apache.cassandra.db.compaction."

// setCompaction checks and normalises the compaction option. It means nothing to this engine, but it is kept and shown
// as Cassandra would.
func setCompaction(o *TableOptions, p *Property) error {
	in, err := p.pairs()
	if err != nil {
		return err
	}
	m := maps.Clone(in)
	class, ok := m["class"]
	delete(m, "class")
	if !ok {
		return config("Missing sub-option 'class' for the 'compaction' option")
	}
	if !strings.Contains(class, ".") {
		class = compactionPackage + class
	}
	if s, ok := m["provide_overlapping_tombstones"]; ok && !slices.Contains([]string{"NONE", "ROW", "CELL"}, strings.ToUpper(s)) {
		return config("Invalid value %s for 'provide_overlapping_tombstones' compaction sub-option - must be one of the following [NONE, ROW, CELL].", strings.ToUpper(s))
	}
	strategies := map[string]func(*subOptions) error{
		"SizeTieredCompactionStrategy": sizeTiered,
		"LeveledCompactionStrategy":    leveled,
		"TimeWindowCompactionStrategy": timeWindow,
		"UnifiedCompactionStrategy":    unified,
	}
	short, _ := strings.CutPrefix(class, compactionPackage)
	check, ok := strategies[short]
	if !ok || class != compactionPackage+short {
		return config("Unable to find compaction strategy class '%s'", class)
	}
	thresholds := short != "UnifiedCompactionStrategy"
	if thresholds {
		setDefault(m, "min_threshold", "4")
		setDefault(m, "max_threshold", "32")
	}
	opts := subOptions{values: m, used: map[string]bool{}}
	if err := commonCompaction(&opts); err != nil {
		return err
	}
	if err := check(&opts); err != nil {
		return err
	}
	if unknown := opts.unknown(p.Map); len(unknown) > 0 {
		return config("Properties specified [%s] are not understood by %s", strings.Join(unknown, ", "), short)
	}
	if thresholds {
		if err := compactionThresholds(m); err != nil {
			return err
		}
	}
	m["class"] = class
	o.Compaction = mapOf(m)
	return nil
}

func setDefault(m map[string]string, key, value string) {
	if _, ok := m[key]; !ok {
		m[key] = value
	}
}

// subOptions are the sub-options of a map option; what was read counts as understood.
type subOptions struct {
	values map[string]string
	used   map[string]bool
}

func (s *subOptions) get(key string) (string, bool) {
	s.used[key] = true
	v, ok := s.values[key]
	return v, ok
}

func (s *subOptions) accept(keys ...string) {
	for _, k := range keys {
		s.used[k] = true
	}
}

// unknown returns the keys that were not read, in the order they were written.
func (s *subOptions) unknown(written []Pair) (out []string) {
	for _, p := range written {
		if p.Key != "class" && !s.used[p.Key] {
			out = append(out, p.Key)
			s.used[p.Key] = true
		}
	}
	return out
}

// integer reads an optional sub-option of at most bits bits; the error is Cassandra's, which calls longs ints too.
func (s *subOptions) integer(key string, fallback int64, bits int) (int64, error) {
	v, ok := s.get(key)
	if !ok {
		return fallback, nil
	}
	n, err := strconv.ParseInt(v, 10, bits)
	if err != nil {
		return 0, config("%s is not a parsable int (base10) for %s", v, key)
	}
	return n, nil
}

// commonCompaction checks what all strategies understand.
func commonCompaction(s *subOptions) error {
	if v, ok := s.get("tombstone_threshold"); ok {
		f, err := parseDouble(v)
		if err != nil || f != f {
			return config("%s is not a parsable int (base10) for tombstone_threshold", v)
		}
		if f < 0 {
			return config("tombstone_threshold must be greater than 0, but was %f", f)
		}
	}
	if n, err := s.integer("tombstone_compaction_interval", 0, 64); err != nil {
		return err
	} else if n < 0 {
		return config("tombstone_compaction_interval must be greater than 0, but was %d", n)
	}
	s.accept("only_purge_repaired_tombstones", "provide_overlapping_tombstones")
	for _, o := range []struct{ key, format string }{
		{"unchecked_tombstone_compaction", "'unchecked_tombstone_compaction' should be either 'true' or 'false', not '%s'"},
		{"log_all", "'log_all' should either be 'true' or 'false', not %s"},
		{"enabled", "enabled should either be 'true' or 'false', not %s"},
	} {
		if err := s.oneOf(o.key, o.format); err != nil {
			return err
		}
	}
	return nil
}

// oneOf checks that an optional sub-option is true or false; format takes the value.
func (s *subOptions) oneOf(key, format string) error {
	v, ok := s.get(key)
	if !ok || strings.EqualFold(v, "true") || strings.EqualFold(v, "false") {
		return nil
	}
	return config(format, v)
}

func compactionThresholds(m map[string]string) error {
	var n [2]int64
	for i, key := range [2]string{"min_threshold", "max_threshold"} {
		var err error
		if n[i], err = strconv.ParseInt(m[key], 10, 32); err != nil || n[i] < 0 || m[key][0] == '+' {
			return config("Invalid value %s for '%s' compaction sub-option - must be an integer", m[key], key)
		}
	}
	switch {
	case n[0] <= 0 || n[1] <= 0:
		return config("Disabling compaction by setting compaction thresholds to 0 has been removed, set the compaction option 'enabled' to false instead.")
	case n[0] <= 1:
		return config("Min compaction threshold cannot be less than 2 (got %d)", n[0])
	case n[0] > n[1]:
		return config("Min compaction threshold (got %d) cannot be greater than max compaction threshold (got %d)", n[0], n[1])
	}
	return nil
}

func sizeTiered(s *subOptions) error {
	s.accept("min_threshold", "max_threshold")
	if n, err := s.integer("min_sstable_size", 0, 64); err != nil {
		return err
	} else if n < 0 {
		return config("min_sstable_size must be non negative: %d", n)
	}
	low, err := s.float("bucket_low", 0.5)
	if err != nil {
		return err
	}
	high, err := s.float("bucket_high", 1.5)
	if err != nil {
		return err
	}
	if !(high > low) {
		return config("bucket_high value (%s) is less than or equal to the bucket_low value (%s)", javaDouble(high), javaDouble(low))
	}
	return nil
}

func (s *subOptions) float(key string, fallback float64) (float64, error) {
	v, ok := s.get(key)
	if !ok {
		return fallback, nil
	}
	f, err := parseDouble(v)
	if err != nil {
		return 0, config("%s is not a parsable float for %s", v, key)
	}
	return f, nil
}

func leveled(s *subOptions) error {
	s.accept("single_sstable_uplevel")
	size, err := s.positive("sstable_size_in_mb", 160)
	if err != nil {
		return err
	}
	fanout, err := s.positive("fanout_size", 10)
	if err != nil {
		return err
	}
	const levels = 9
	if top := math.Pow(float64(fanout), levels-1) * float64(size) * (1 << 20); top > math.MaxInt64 {
		return config("At most %d bytes may be in a compaction level; your maxSSTableSize must be absurdly high to compute %s",
			int64(math.MaxInt64), strconv.FormatFloat(top, 'f', -1, 64))
	}
	return sizeTiered(s)
}

func (s *subOptions) positive(key string, fallback int64) (int64, error) {
	n, err := s.integer(key, fallback, 32)
	if err == nil && n < 1 {
		return 0, config("%s must be larger than 0, but was %d", key, n)
	}
	return n, err
}

func timeWindow(s *subOptions) error {
	if v, ok := s.get("timestamp_resolution"); ok && !slices.Contains([]string{"SECONDS", "MILLISECONDS", "MICROSECONDS", "NANOSECONDS"}, v) {
		return config("%s is not valid for timestamp_resolution", v)
	}
	if v, ok := s.get("compaction_window_unit"); ok && !slices.Contains([]string{"MINUTES", "HOURS", "DAYS"}, v) {
		return config("%s is not valid for compaction_window_unit", v)
	}
	if n, err := s.integer("compaction_window_size", 1, 32); err != nil {
		return err
	} else if n < 1 {
		return config("%d must be greater than 1 for compaction_window_size", n)
	}
	if n, err := s.integer("expired_sstable_check_frequency_seconds", 0, 64); err != nil {
		return err
	} else if n < 0 {
		return config("expired_sstable_check_frequency_seconds must not be negative, but was %d", n)
	}
	const unsafe = "unsafe_aggressive_sstable_expiration"
	if err := s.oneOf(unsafe, unsafe+" is not 'true' or 'false' (%s)"); err != nil {
		return err
	}
	if v, _ := s.get(unsafe); strings.EqualFold(v, "true") {
		return config(unsafe + " is requested but not allowed, restart cassandra with -Dcassandra.allow_unsafe_aggressive_sstable_expiration=true to allow it")
	}
	return sizeTiered(s)
}

const mebibyte = 1 << 20

func unified(s *subOptions) error {
	if v, ok := s.get("scaling_parameters"); ok {
		if err := scalingParameters(v); err != nil {
			return err
		}
	}
	target := float64(1 << 30)
	for _, o := range []struct {
		key  string
		into *float64
	}{{"target_sstable_size", &target}, {"flush_size_override", new(float64)}} {
		v, ok := s.get(o.key)
		if !ok {
			continue
		}
		size, problem := parseSize(v)
		if problem != "" {
			return config("%s %s is not a valid size in bytes: %s", o.key, v, problem)
		}
		if size < mebibyte {
			return config("%s %s is not acceptable, size must be at least 1.000MiB", o.key, v)
		}
		*o.into = size
	}
	if v, ok := s.get("min_sstable_size"); ok {
		if err := minUnifiedSize(v, target); err != nil {
			return err
		}
	}
	if n, err := s.integer("base_shard_count", 1, 32); err != nil {
		return err
	} else if n <= 0 {
		return config("Invalid configuration, base_shard_count should be positive: %d", n)
	}
	if v, ok := s.get("sstable_growth"); ok {
		f, err := parseDouble(v)
		if err != nil {
			return config("sstable_growth is not a valid number between 0 and 1: For input string: \"%s\"", v)
		}
		if !(f >= 0 && f <= 1) {
			return config("sstable_growth %s must be between 0 and 1", v)
		}
	}
	if _, err := s.integer("max_sstables_to_compact", 0, 32); err != nil {
		return err
	}
	if v, ok := s.get("expired_sstable_check_frequency_seconds"); ok {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return config("%s is not a parsable long (base10) for expired_sstable_check_frequency_seconds", v)
		}
		if n <= 0 {
			return config("Invalid configuration, expired_sstable_check_frequency_seconds should be positive: %d", n)
		}
	}
	const unsafe = "unsafe_aggressive_sstable_expiration"
	if err := s.oneOf(unsafe, unsafe+" should either be 'true' or 'false', not %s"); err != nil {
		return err
	}
	if v, ok := s.get("overlap_inclusion_method"); ok && !slices.Contains([]string{"NONE", "SINGLE", "TRANSITIVE"}, strings.ToUpper(v)) {
		return config("Invalid overlap inclusion method %s. The valid options are [NONE, SINGLE, TRANSITIVE].", v)
	}
	return nil
}

func scalingParameters(list string) error {
	form := regexp.MustCompile(`^(N|L[0-9]+|T[0-9]+|[+-]?[0-9]+)$`)
	for _, v := range strings.Split(list, ",") {
		v = strings.TrimSpace(v)
		if !form.MatchString(v) {
			return config("Scaling parameter %s must match N|L[0-9]+|T[0-9]+|[+-]?[0-9]+", v)
		}
		if v == "N" {
			continue
		}
		fan, err := strconv.ParseInt(strings.TrimLeft(v, "LT"), 10, 32)
		if err != nil {
			return config(compactionPackage+"UnifiedCompactionStrategy.validateOptions() threw an error: java.lang.NumberFormatException For input string: \"%s\"", v)
		}
		if fan < 2 && (v[0] == 'L' || v[0] == 'T') {
			return config("Fan factor cannot be lower than 2 in %s", v)
		}
	}
	return nil
}

func minUnifiedSize(v string, target float64) error {
	size, problem := parseSize(v)
	switch {
	case problem != "":
		return config("%s is not a valid size in bytes for min_sstable_size", v)
	case size < 0:
		return config("Invalid configuration, min_sstable_size should be greater than or equal to 0 (zero)")
	case size >= math.Ceil(target*math.Sqrt(0.5)):
		return config("Invalid configuration, min_sstable_size (%s) should be less than 70%% of the targetSSTableSize (%s)", prettySize(size), prettySize(target))
	}
	return nil
}

// parseSize reads a size such as 100MiB, 1.5 GiB or 2GB in bytes; problem says what is wrong with it.
func parseSize(v string) (size float64, problem string) {
	body, ok := strings.CutSuffix(v, "B")
	if !ok {
		return 0, v + " does not end in unit B"
	}
	number := regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?`).FindString(body)
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Sprintf("Invalid number in %s", v)
	}
	prefix := strings.TrimLeft(body[len(number):], " \t")
	factors := map[string]float64{"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
		"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
	factor, ok := factors[prefix]
	if !ok {
		return 0, fmt.Sprintf("Unexpected characters between pos %d and %d in %s", len(body)-len(prefix), len(body), v)
	}
	return n * factor, ""
}

func prettySize(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for n >= 1024 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return strconv.FormatFloat(n, 'f', 3, 64) + units[i]
}
