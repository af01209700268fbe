package schema

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/cql/types"
)

// Bounds of table options.
const (
	ttlMax              = 20 * 365 * 24 * 60 * 60 // s
	bloomChanceMin      = 6.71e-5                 // exclusive
	bloomChanceOfClass  = -1                      // the value that means: the compaction strategy's default
	bloomChanceDefault  = 0.01
	bloomChanceLeveled  = 0.1
	tableOptionID       = "id"
	tableOptionTombGC   = "tombstone_gc"
	autoRepairForbidden = "auto_repair option is not supported unless auto-repair is enabled with -Dcassandra.autorepair.enable=true"
)

// DefaultTableOptions returns the options of a table that is created without any.
func DefaultTableOptions() TableOptions {
	p99 := RetryPolicy{Kind: RetryPercentile, Percentile: 99}
	return TableOptions{
		AdditionalWritePolicy: p99,
		AllowAutoSnapshot:     true,
		BloomFilterFPChance:   bloomChanceOfClass,
		Caching:               Map{{"keys", "ALL"}, {"rows_per_partition", "NONE"}},
		Compaction:            Map{{"class", compactionPackage + "SizeTieredCompactionStrategy"}, {"max_threshold", "32"}, {"min_threshold", "4"}},
		Compression:           Map{{"chunk_length_in_kb", "16"}, {"class", compressionPackage + "LZ4Compressor"}},
		CRCCheckChance:        1,
		GCGraceSeconds:        864000,
		IncrementalBackups:    true,
		MaxIndexInterval:      2048,
		Memtable:              "default",
		MinIndexInterval:      128,
		SpeculativeRetry:      p99,
	}.completed()
}

// completed replaces what only stands for another value.
func (o TableOptions) completed() TableOptions {
	if o.BloomFilterFPChance == bloomChanceOfClass {
		o.BloomFilterFPChance = bloomChanceDefault
		if class, _ := o.Compaction.Value("class"); strings.HasSuffix(class, ".LeveledCompactionStrategy") {
			o.BloomFilterFPChance = bloomChanceLeveled
		}
	}
	return o
}

// Equal reports whether all options are the same.
func (o *TableOptions) Equal(p *TableOptions) bool {
	return bytes.Equal(appendOptions(nil, o), appendOptions(nil, p))
}

// properties are the WITH options of a statement.
type properties []Property

func (ps properties) find(name string) *Property {
	for i := range ps {
		if ps[i].Name == name {
			return &ps[i]
		}
	}
	return nil
}

// known returns an error when a property is given twice or is none of names.
func (ps properties) known(names ...string) error {
	given := make(map[string]bool, len(ps))
	for _, p := range ps {
		if given[p.Name] {
			return syntax("Multiple definitions for property '%s'", p.Name)
		}
		given[p.Name] = true
	}
	for _, p := range ps {
		if !slices.Contains(names, p.Name) {
			return syntax("Unknown property '%s'", p.Name)
		}
	}
	return nil
}

func (p *Property) text() (string, error) {
	if p.IsMap {
		return "", syntax("Invalid value for property '%s'. It should be a string", p.Name)
	}
	return p.Value, nil
}

func (p *Property) pairs() (map[string]string, error) {
	if !p.IsMap {
		return nil, syntax("Invalid value for property '%s'. It should be a map.", p.Name)
	}
	m := make(map[string]string, len(p.Map))
	for _, e := range p.Map {
		m[e.Key] = e.Value
	}
	return m, nil
}

func (p *Property) boolean() (bool, error) {
	s, err := p.text()
	if err != nil {
		return false, err
	}
	switch strings.ToLower(s) {
	case "1", "true", "yes":
		return true, nil
	case "0", "false", "no":
		return false, nil
	}
	return false, syntax("Invalid boolean value %s for '%s'. Positive values can be '1', 'true' or 'yes'. "+
		"Negative values can be '0', 'false' or 'no'.", s, p.Name)
}

func (p *Property) integer() (int32, error) {
	s, err := p.text()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, syntax("Invalid integer value %s for '%s'", s, p.Name)
	}
	return int32(n), nil
}

func (p *Property) double() (float64, error) {
	s, err := p.text()
	if err != nil {
		return 0, err
	}
	n, err := parseDouble(s)
	if err != nil {
		return 0, syntax("Invalid double value %s for '%s'", s, p.Name)
	}
	return n, nil
}

// parseDouble reads a decimal number. The other notations that Go and Java read have no use in options.
func parseDouble(s string) (float64, error) {
	if strings.ContainsAny(s, "xXpP_") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}

// javaDouble prints a double as Cassandra does, for instance 1.0 and 1.0E-5.
func javaDouble(f float64) string {
	return string(types.Double.AppendString(nil, types.EncodeDouble(f)))
}

// tableOption is an option of CREATE and ALTER TABLE: how its property is read.
type tableOption struct {
	name string
	set  func(o *TableOptions, p *Property) error
}

// tableOptions returns the options in the order in which Cassandra reads them.
func tableOptions() []tableOption {
	return []tableOption{
		{"allow_auto_snapshot", func(o *TableOptions, p *Property) (err error) { o.AllowAutoSnapshot, err = p.boolean(); return }},
		{"bloom_filter_fp_chance", func(o *TableOptions, p *Property) (err error) { o.BloomFilterFPChance, err = p.double(); return }},
		{"caching", setCaching},
		{"comment", func(o *TableOptions, p *Property) (err error) { o.Comment, err = p.text(); return }},
		{"compaction", setCompaction},
		{"compression", setCompression},
		{"memtable", setMemtable},
		{"default_time_to_live", func(o *TableOptions, p *Property) (err error) { o.DefaultTTL, err = p.integer(); return }},
		{"gc_grace_seconds", func(o *TableOptions, p *Property) (err error) { o.GCGraceSeconds, err = p.integer(); return }},
		{"incremental_backups", func(o *TableOptions, p *Property) (err error) { o.IncrementalBackups, err = p.boolean(); return }},
		{"max_index_interval", func(o *TableOptions, p *Property) (err error) { o.MaxIndexInterval, err = p.integer(); return }},
		{"memtable_flush_period_in_ms", func(o *TableOptions, p *Property) (err error) { o.MemtableFlushPeriodInMs, err = p.integer(); return }},
		{"min_index_interval", func(o *TableOptions, p *Property) (err error) { o.MinIndexInterval, err = p.integer(); return }},
		{"speculative_retry", func(o *TableOptions, p *Property) (err error) { return p.policy(&o.SpeculativeRetry) }},
		{"additional_write_policy", func(o *TableOptions, p *Property) (err error) { return p.policy(&o.AdditionalWritePolicy) }},
		{"crc_check_chance", func(o *TableOptions, p *Property) (err error) { o.CRCCheckChance, err = p.double(); return }},
		{"cdc", func(o *TableOptions, p *Property) (err error) { o.CDC, err = p.boolean(); return }},
		{"read_repair", setReadRepair},
		{"auto_repair", func(o *TableOptions, p *Property) error { return config(autoRepairForbidden) }},
		{"extensions", setExtensions},
		{tableOptionTombGC, setTombstoneGC},
	}
}

// checkTableProperties returns an error when there are properties that no table has.
func checkTableProperties(ps properties) error {
	names := []string{tableOptionID}
	for _, o := range tableOptions() {
		names = append(names, o.name)
	}
	return ps.known(names...)
}

// withProperties returns base with the properties set.
func (base TableOptions) withProperties(ps properties) (TableOptions, error) {
	o := base
	if err := o.set(ps); err != nil {
		return o, err
	}
	o = o.completed()
	return o, o.validate()
}

// set sets the properties that are options, without looking at how they go together.
func (o *TableOptions) set(ps properties) error {
	for _, option := range tableOptions() {
		if p := ps.find(option.name); p != nil {
			if err := option.set(o, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// validate checks the bounds of the numbers.
func (o *TableOptions) validate() error {
	if c := o.BloomFilterFPChance; !(c > bloomChanceMin && c <= 1) {
		return config("bloom_filter_fp_chance must be larger than %s and less than or equal to 1.0 (got %s)", javaDouble(bloomChanceMin), javaDouble(c))
	}
	if c := o.CRCCheckChance; !(c >= 0 && c <= 1) {
		return config("crc_check_chance must be larger than or equal to 0 and smaller than or equal to 1.0 (got %s)", javaDouble(c))
	}
	if o.DefaultTTL < 0 {
		return config("default_time_to_live must be greater than or equal to 0 (got %d)", o.DefaultTTL)
	}
	if o.DefaultTTL > ttlMax {
		return config("default_time_to_live must be less than or equal to %d (got %d)", ttlMax, o.DefaultTTL)
	}
	if o.GCGraceSeconds < 0 {
		return config("gc_grace_seconds must be greater than or equal to 0 (got %d)", o.GCGraceSeconds)
	}
	if o.MinIndexInterval < 1 {
		return config("min_index_interval must be greater than or equal to 1 (got %d)", o.MinIndexInterval)
	}
	if o.MaxIndexInterval < o.MinIndexInterval {
		return config("max_index_interval must be greater than or equal to min_index_interval (%d) (got %d)", o.MinIndexInterval, o.MaxIndexInterval)
	}
	if o.MemtableFlushPeriodInMs < 0 {
		return config("memtable_flush_period_in_ms must be greater than or equal to 0 (got %d)", o.MemtableFlushPeriodInMs)
	}
	return nil
}

func (p *Property) policy(dst *RetryPolicy) error {
	s, err := p.text()
	if err != nil {
		return err
	}
	policy, err := parseRetryPolicy(s)
	if err == nil {
		*dst = policy
	}
	return err
}

func setCaching(o *TableOptions, p *Property) error {
	m, err := p.pairs()
	if err != nil {
		return err
	}
	keys, rows := "NONE", "NONE"
	if s, ok := m["keys"]; ok {
		keys = strings.ToUpper(s)
		if keys != "ALL" && keys != "NONE" {
			return config("Invalid value '%s' for caching sub-option 'keys': only 'ALL' and 'NONE' are allowed", s)
		}
	}
	if s, ok := m["rows_per_partition"]; ok {
		rows = strings.ToUpper(s)
		n, err := strconv.ParseUint(s, 10, 31)
		switch {
		case rows == "ALL" || rows == "NONE":
		case err != nil || s[0] == '+':
			return config("Invalid value '%s' for caching sub-option 'rows_per_partition': only 'ALL', 'NONE', and integer values are allowed", s)
		case n == 0:
			rows = "NONE"
		case n == math.MaxInt32:
			rows = "ALL"
		default:
			rows = strconv.FormatUint(n, 10)
		}
	}
	delete(m, "keys")
	delete(m, "rows_per_partition")
	if len(m) > 0 {
		return config("Invalid caching sub-options [%s]: only 'keys' and 'rows_per_partition' are allowed", strings.Join(sortedKeys(m), ", "))
	}
	o.Caching = Map{{"keys", keys}, {"rows_per_partition", rows}}
	return nil
}

func setMemtable(o *TableOptions, p *Property) error {
	s, err := p.text()
	if err != nil {
		return err
	}
	if s != "default" {
		return config("Memtable configuration %q not found.", s)
	}
	o.Memtable = s
	return nil
}

func setReadRepair(o *TableOptions, p *Property) error {
	s, err := p.text()
	if err != nil {
		return err
	}
	switch strings.ToUpper(s) {
	case "BLOCKING":
		o.ReadRepair = ReadRepairBlocking
	case "NONE":
		o.ReadRepair = ReadRepairNone
	default:
		return config("Invalid value '%s' for read_repair: only 'BLOCKING' and 'NONE' are allowed", s)
	}
	return nil
}

// setExtensions replaces the extensions. Values are blob constants, as DESCRIBE writes them. Cassandra accepts the
// option and ignores it.
func setExtensions(o *TableOptions, p *Property) error {
	m, err := p.pairs()
	if err != nil {
		return err
	}
	var out []Extension
	for _, name := range sortedKeys(m) {
		digits, isBlob := strings.CutPrefix(strings.ToLower(m[name]), "0x")
		value, err := hex.DecodeString(digits)
		if err != nil || !isBlob {
			return config("Invalid value '%s' for extension '%s': only blobs are allowed", m[name], name)
		}
		out = append(out, Extension{Name: name, Value: value})
	}
	for _, e := range out {
		if e.Name == ExtensionTombstoneGC {
			mode, delay, ok := parseTombstoneGC(string(e.Value))
			if !ok {
				return config("Invalid value '%s' for extension '%s': only what this server writes is allowed, such as 'timeout' or 'repair:600'", e.Value, e.Name)
			}
			o.setTombstoneGC(mode, delay, out)
			return nil
		}
	}
	o.Extensions = out
	return nil
}

const (
	tombstoneMode  = "mode"
	tombstoneDelay = "propagation_delay_in_seconds"
)

// setTombstoneGC reads tombstone_gc = {'mode': 'timeout'}, or the mode alone. What is left out is the default.
func setTombstoneGC(o *TableOptions, p *Property) error {
	name, delay := p.Value, int64(PropagationDelay)
	if p.IsMap {
		m, _ := p.pairs()
		name = m[tombstoneMode]
		if s, ok := m[tombstoneDelay]; ok {
			var err error
			if delay, err = strconv.ParseInt(s, 10, 64); err != nil || delay < 0 || delay > propagationDelayMax {
				return config("Invalid value '%s' for tombstone_gc option '%s': a number of seconds, not negative", s, tombstoneDelay)
			}
		}
		delete(m, tombstoneMode)
		delete(m, tombstoneDelay)
		if len(m) > 0 {
			return config("Invalid tombstone_gc sub-options [%s]: only '%s' and '%s' are allowed", strings.Join(sortedKeys(m), ", "), tombstoneMode, tombstoneDelay)
		}
	}
	mode, _, ok := parseTombstoneGC(name)
	if !ok || strings.Contains(name, ":") {
		return config("Invalid value '%s' for tombstone_gc mode: only '%s' are allowed", name, strings.Join(tombstoneModes(), "', '"))
	}
	o.setTombstoneGC(mode, int32(delay), o.Extensions)
	return nil
}

// setTombstoneGC sets the extensions to others with the mode and the delay in them, or without when they are the default.
func (o *TableOptions) setTombstoneGC(mode TombstoneGC, delay int32, others []Extension) {
	var out []Extension
	for _, e := range others {
		if e.Name != ExtensionTombstoneGC {
			out = append(out, e)
		}
	}
	if text := formatTombstoneGC(mode, delay); text != "" {
		out = append(out, Extension{Name: ExtensionTombstoneGC, Value: []byte(text)})
		slices.SortFunc(out, func(a, b Extension) int { return cmp.Compare(a.Name, b.Name) })
	}
	o.Extensions = out
}
