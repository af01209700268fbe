package schema

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// RetryPolicy says after which wait a further replica is asked: the speculative_retry and additional_write_policy
// options. The zero value never does.
type RetryPolicy struct {
	Kind       RetryKind
	Percentile float64       // RetryPercentile, RetryMin, RetryMax: of the table's latency, in (0, 100)
	Delay      time.Duration // RetryFixed, RetryMin, RetryMax: whole milliseconds
}

// RetryKind is the form of a RetryPolicy. The numbers are part of the encoding.
type RetryKind uint8

// The forms.
const (
	RetryNever      RetryKind = 0
	RetryAlways     RetryKind = 1 // at once
	RetryPercentile RetryKind = 2
	RetryFixed      RetryKind = 3 // after Delay
	RetryMin        RetryKind = 4 // after the shorter of Percentile and Delay
	RetryMax        RetryKind = 5 // after the longer of the two
)

// String returns the option's text as Cassandra normalises it, for instance 99p or MIN(99p,50ms).
func (p RetryPolicy) String() string {
	switch p.Kind {
	case RetryAlways:
		return "ALWAYS"
	case RetryPercentile:
		return p.percentile()
	case RetryFixed:
		return p.delay()
	case RetryMin:
		return "MIN(" + p.percentile() + "," + p.delay() + ")"
	case RetryMax:
		return "MAX(" + p.percentile() + "," + p.delay() + ")"
	}
	return "NEVER"
}

// percentile prints at most four digits after the point, half even, and no trailing zeros.
func (p RetryPolicy) percentile() string {
	s := strconv.FormatFloat(p.Percentile, 'f', 4, 64)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".") + "p"
}

func (p RetryPolicy) delay() string { return strconv.FormatInt(p.Delay.Milliseconds(), 10) + "ms" }

const retryOption = "speculative_retry" // Cassandra names this one in the errors of both options

// parseRetryPolicy reads the option's text.
func parseRetryPolicy(s string) (RetryPolicy, error) {
	switch {
	case strings.EqualFold(s, "ALWAYS"):
		return RetryPolicy{Kind: RetryAlways}, nil
	case strings.EqualFold(s, "NEVER"), strings.EqualFold(s, "NONE"):
		return RetryPolicy{Kind: RetryNever}, nil
	}
	if p, ok, err := parseSimpleRetry(s); ok || err != nil {
		return p, err
	}
	m := regexp.MustCompile(`^(?i)(MIN|MAX)\(([0-9.]+[a-z]+)\s*,\s*([0-9.]+[a-z]+)\)$`).FindStringSubmatch(s)
	if m == nil {
		return RetryPolicy{}, config("Invalid value %s for option '%s'", s, retryOption)
	}
	a, okA, errA := parseSimpleRetry(m[2])
	b, okB, errB := parseSimpleRetry(m[3])
	if errA != nil || errB != nil || !okA || !okB {
		return RetryPolicy{}, config("Invalid value %s for option '%s'", s, retryOption)
	}
	if a.Kind == b.Kind {
		kind := "FIXED"
		if a.Kind == RetryPercentile {
			kind = "PERCENTILE"
		}
		return RetryPolicy{}, config("Invalid value %s for option '%s': MIN()/MAX() arguments should be of different types, but both are of type %s",
			s, retryOption, kind)
	}
	out := RetryPolicy{Kind: RetryMin, Percentile: a.Percentile + b.Percentile, Delay: a.Delay + b.Delay} // one of each is 0
	if strings.EqualFold(m[1], "MAX") {
		out.Kind = RetryMax
	}
	return out, nil
}

// parseSimpleRetry reads 99p, 99percentile and 10ms; ok is false when s is none of these.
func parseSimpleRetry(s string) (p RetryPolicy, ok bool, err error) {
	m := regexp.MustCompile(`^(?i)([0-9.]+)(p|percentile|ms)$`).FindStringSubmatch(s)
	if m == nil {
		return RetryPolicy{}, false, nil
	}
	n, parseErr := strconv.ParseFloat(m[1], 64)
	if parseErr != nil && !math.IsInf(n, 0) {
		return RetryPolicy{}, false, config("Invalid value %s for option '%s'", s, retryOption)
	}
	if strings.EqualFold(m[2], "ms") {
		ms := int64(math.MaxInt32)
		if n < math.MaxInt32 {
			ms = int64(n)
		}
		return RetryPolicy{Kind: RetryFixed, Delay: time.Duration(ms) * time.Millisecond}, true, nil
	}
	if n <= 0 || n >= 100 {
		return RetryPolicy{}, false, config("Invalid value %s for PERCENTILE option '%s': must be between (0.0 and 100.0)", s, retryOption)
	}
	return RetryPolicy{Kind: RetryPercentile, Percentile: n}, true, nil
}
