package types

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// appendDuration appends a duration as 1y2mo3d4h5m6s7ms8us9ns, leaving out what is zero; the zero
// duration is nothing at all.
func appendDuration(dst []byte, months, days int32, ns int64) []byte {
	if months < 0 || days < 0 || ns < 0 {
		dst = append(dst, '-')
	}
	rest := abs64(int64(months))
	dst, rest = appendUnit(dst, rest, 12, "y")
	dst, _ = appendUnit(dst, rest, 1, "mo")
	dst, _ = appendUnit(dst, abs64(int64(days)), 1, "d")
	rest = abs64(ns)
	dst, rest = appendUnit(dst, rest, uint64(time.Hour), "h")
	dst, rest = appendUnit(dst, rest, uint64(time.Minute), "m")
	dst, rest = appendUnit(dst, rest, uint64(time.Second), "s")
	dst, rest = appendUnit(dst, rest, uint64(time.Millisecond), "ms")
	dst, rest = appendUnit(dst, rest, uint64(time.Microsecond), "us")
	dst, _ = appendUnit(dst, rest, 1, "ns")
	return dst
}

func abs64(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

func appendUnit(dst []byte, v, unit uint64, name string) ([]byte, uint64) {
	if v < unit {
		return dst, v
	}
	return append(strconv.AppendUint(dst, v/unit, 10), name...), v % unit
}

// durationUnit is a unit's place in the order that units must come in, from 1.
type durationUnit int

const (
	unitYears durationUnit = 1 + iota
	unitMonths
	unitWeeks
	unitDays
	unitHours
	unitMinutes
	unitSeconds
	unitMillis
	unitMicros
	unitNanos
)

func (u durationUnit) String() string {
	return [...]string{"", "years", "months", "weeks", "days", "hours", "minutes", "seconds",
		"milliseconds", "microseconds", "nanoseconds"}[u]
}

// durationBuilder adds up the parts of a duration that is being parsed.
type durationBuilder struct {
	months, days, ns int64
	last             durationUnit
}

func (b *durationBuilder) add(v int64, u durationUnit) error {
	switch {
	case u == b.last:
		return marshalErrorf("Invalid duration. The %s are specified multiple times", u)
	case u < b.last:
		return marshalErrorf("Invalid duration. The %s should be after %s", b.last, u)
	}
	b.last = u
	switch u {
	case unitYears:
		return addUnits(&b.months, v, 12, math.MaxInt32, "months")
	case unitMonths:
		return addUnits(&b.months, v, 1, math.MaxInt32, "months")
	case unitWeeks:
		return addUnits(&b.days, v, 7, math.MaxInt32, "days")
	case unitDays:
		return addUnits(&b.days, v, 1, math.MaxInt32, "days")
	}
	unit := [...]time.Duration{time.Hour, time.Minute, time.Second, time.Millisecond, time.Microsecond, 1}[u-unitHours]
	return addUnits(&b.ns, v, int64(unit), math.MaxInt64, "nanoseconds")
}

func addUnits(sum *int64, v, unit, limit int64, name string) error {
	if v > (limit-*sum)/unit {
		return marshalErrorf("Invalid duration. The total number of %s must be less or equal to %d", name, math.MaxInt32)
	}
	*sum += v * unit
	return nil
}

// parseDuration returns the value of 1y2mo..., of ISO 8601's P1Y2M3DT4H5M6S and P1W, and of
// P0001-02-03T04:05:06, each with an optional minus before it.
func parseDuration(s string) ([]byte, error) {
	src, neg := strings.CutPrefix(s, "-")
	var b durationBuilder
	var err error
	var ok bool
	switch {
	case !strings.HasPrefix(src, "P"):
		ok, err = b.standard(src)
	case strings.HasSuffix(src, "W"):
		ok, err = b.designated(src[1:len(src)-1]+"W", "W", unitWeeks)
	case strings.Contains(src, "-"):
		ok, err = b.alternative(src[1:])
	default:
		ok, err = b.iso(src[1:])
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, marshalErrorf("Unable to convert '%s' to a duration", src)
	}
	if neg {
		b.months, b.days, b.ns = -b.months, -b.days, -b.ns
	}
	return EncodeDuration(int32(b.months), int32(b.days), b.ns), nil
}

// standard reads numbers, each followed by a unit; ok is false when that is not what src is.
func (b *durationBuilder) standard(src string) (ok bool, err error) {
	if src == "" {
		return false, nil
	}
	for p := (scanner{s: src}); p.s != ""; {
		v := p.number(1, 19)
		u := p.unit()
		if p.bad || u == 0 {
			return false, nil
		}
		if err := b.add(v, u); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (p *scanner) unit() durationUnit {
	n := 0
	for n < len(p.s) && (p.s[n] < '0' || p.s[n] > '9') {
		n++
	}
	name := p.s[:n]
	p.s = p.s[n:]
	switch strings.ToLower(name) {
	case "y":
		return unitYears
	case "mo":
		return unitMonths
	case "w":
		return unitWeeks
	case "d":
		return unitDays
	case "h":
		return unitHours
	case "m":
		return unitMinutes
	case "s":
		return unitSeconds
	case "ms":
		return unitMillis
	case "us", "µs":
		return unitMicros
	case "ns":
		return unitNanos
	}
	return 0
}

// iso reads what follows the P in P1Y2M3DT4H5M6S; everything may be missing.
func (b *durationBuilder) iso(src string) (ok bool, err error) {
	date, clock, _ := strings.Cut(src, "T")
	if ok, err = b.designated(date, "YMD", unitYears, unitMonths, unitDays); !ok {
		return false, err
	}
	return b.designated(clock, "HMS", unitHours, unitMinutes, unitSeconds)
}

// designated reads numbers followed by letters of names, in that order, each at most once.
func (b *durationBuilder) designated(src, names string, units ...durationUnit) (ok bool, err error) {
	for p := (scanner{s: src}); p.s != ""; {
		v := p.number(1, 19)
		if p.bad || p.s == "" {
			return false, nil
		}
		i := strings.IndexByte(names, p.s[0])
		if i < 0 {
			return false, nil
		}
		p.s = p.s[1:]
		if err := b.add(v, units[i]); err != nil {
			return false, err
		}
		names, units = names[i+1:], units[i+1:]
	}
	return true, nil
}

// alternative reads what follows the P in P0001-02-03T04:05:06.
func (b *durationBuilder) alternative(src string) (ok bool, err error) {
	p := scanner{s: src}
	parts := [6]int64{p.number(4, 4)}
	for i, sep := range []byte("--T::") {
		p.expect(sep)
		parts[i+1] = p.number(2, 2)
	}
	if p.bad || p.s != "" {
		return false, nil
	}
	for i, u := range [...]durationUnit{unitYears, unitMonths, unitDays, unitHours, unitMinutes, unitSeconds} {
		if err := b.add(parts[i], u); err != nil {
			return false, err
		}
	}
	return true, nil
}
