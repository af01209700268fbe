package schema

import (
	"strconv"
	"strings"
)

// Pair is one entry of a map option.
type Pair struct{ Key, Value string }

// Map is a map option: sorted by key, keys unique, never written to.
type Map []Pair

// Value returns the value of key and whether it is there.
func (m Map) Value(key string) (string, bool) {
	for _, p := range m {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// TableOptions are a table's options, the columns of system_schema.tables. Every one is kept and shown back, also
// those that mean nothing to this engine.
type TableOptions struct {
	AdditionalWritePolicy   RetryPolicy // like SpeculativeRetry, for writes
	AllowAutoSnapshot       bool
	BloomFilterFPChance     float64
	Caching                 Map // keys, rows_per_partition
	CDC                     bool
	Comment                 string
	Compaction              Map // class, the full Java class name, and the strategy's options
	Compression             Map // chunk_length_in_kb, class, ...; or enabled=false
	CRCCheckChance          float64
	DefaultTTL              int32       // s; 0: none
	Extensions              []Extension // sorted by Name
	GCGraceSeconds          int32
	IncrementalBackups      bool
	MaxIndexInterval        int32
	Memtable                string // the name of a memtable configuration
	MemtableFlushPeriodInMs int32  // 0: never
	MinIndexInterval        int32
	ReadRepair              ReadRepair
	SpeculativeRetry        RetryPolicy
}

// Extension is an entry of the extensions option: bytes under a name.
type Extension struct {
	Name  string
	Value []byte
}

// ReadRepair is the read_repair option.
type ReadRepair uint8

// The read repair strategies. Their numbers are part of the encoding.
const (
	ReadRepairBlocking ReadRepair = 0
	ReadRepairNone     ReadRepair = 1
)

// String returns the option's text.
func (r ReadRepair) String() string {
	if r == ReadRepairNone {
		return "NONE"
	}
	return "BLOCKING"
}

// TombstoneGC says when a table's tombstones may be purged. It is kept in the extensions option under
// ExtensionTombstoneGC, so that it survives a dump and a load through Cassandra.
type TombstoneGC uint8

// The modes.
const (
	// TombstoneGCRepair: once the range has been repaired on all replicas since the deletion; after gc_grace_seconds where there is one replica only. The default.
	TombstoneGCRepair TombstoneGC = iota
	// TombstoneGCTimeout: gc_grace_seconds after the deletion, as Cassandra does.
	TombstoneGCTimeout
	// TombstoneGCImmediate: at once.
	TombstoneGCImmediate
	// TombstoneGCDisabled: never.
	TombstoneGCDisabled
)

const (
	// ExtensionTombstoneGC names the extension that holds what of tombstone_gc is not the default: the mode's text, and after a colon the delay.
	ExtensionTombstoneGC = "tombstone_gc"
	// PropagationDelay is the default of propagation_delay_in_seconds: a repair vouches for deletions that were made so long before it began.
	PropagationDelay = 3600
	// propagationDelayMax, in seconds.
	propagationDelayMax = 1<<31 - 1
)

// tombstoneModes are the texts of the modes, by mode.
func tombstoneModes() []string { return []string{"repair", "timeout", "immediate", "disabled"} }

// String returns the mode's text.
func (g TombstoneGC) String() string { return tombstoneModes()[g] }

// TombstoneGC returns when tombstones may be purged, and the propagation delay of mode repair in seconds. Another extension of that name, of a
// catalog that a newer version has written, counts as disabled.
func (o *TableOptions) TombstoneGC() (mode TombstoneGC, delay int32) {
	for _, e := range o.Extensions {
		if e.Name == ExtensionTombstoneGC {
			mode, delay, ok := parseTombstoneGC(string(e.Value))
			if !ok {
				return TombstoneGCDisabled, PropagationDelay
			}
			return mode, delay
		}
	}
	return TombstoneGCRepair, PropagationDelay
}

// parseTombstoneGC reads what formatTombstoneGC writes.
func parseTombstoneGC(s string) (mode TombstoneGC, delay int32, ok bool) {
	name, after, delayed := strings.Cut(s, ":")
	delay = PropagationDelay
	if delayed {
		n, err := strconv.ParseUint(after, 10, 31)
		if err != nil {
			return mode, 0, false
		}
		delay = int32(n)
	}
	for i, text := range tombstoneModes() {
		if text == strings.ToLower(name) {
			return TombstoneGC(i), delay, true
		}
	}
	return mode, 0, false
}

// formatTombstoneGC returns the extension's text; empty for the default.
func formatTombstoneGC(mode TombstoneGC, delay int32) string {
	switch {
	case delay != PropagationDelay:
		return mode.String() + ":" + strconv.Itoa(int(delay))
	case mode == TombstoneGCRepair:
		return ""
	}
	return mode.String()
}
