package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size. Its text form is a number with an optional unit: B, KiB, MiB, GiB, TiB (powers of 1024; the short
// forms K, M, G, T and kB, MB, GB, TB mean the same, as in cassandra.yaml).
type Bytes int64

var units = []struct {
	suffix string
	factor int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10},
	{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"B", 1},
}

// ParseBytes reads a size; negative and overflowing ones are errors.
func ParseBytes(s string) (Bytes, error) {
	number, factor := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(v) || v < 0 || v*float64(factor) >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size such as 64MiB", s)
	}
	return Bytes(v * float64(factor)), nil
}

// Rate is a size per second. Its text form is that of Bytes with an optional /s, as in cassandra.yaml.
type Rate int64

// ParseRate reads a rate; negative and overflowing ones are errors.
func ParseRate(s string) (Rate, error) {
	v, err := ParseBytes(strings.TrimSuffix(strings.TrimSpace(s), "/s"))
	if err != nil {
		return 0, fmt.Errorf("%q is not a rate such as 24MiB/s", s)
	}
	return Rate(v), nil
}

// String is the shortest exact form, such as 24MiB/s.
func (r Rate) String() string { return Bytes(r).String() + "/s" }

// String is the shortest exact form, such as 64MiB.
func (b Bytes) String() string {
	for _, u := range units[:4] {
		if b != 0 && int64(b)%u.factor == 0 {
			return strconv.FormatInt(int64(b)/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
