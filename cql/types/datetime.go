package types

import (
	"strconv"
	"strings"
	"time"
)

const (
	nanosPerDay  = 24 * int64(time.Hour)
	millisPerDay = 24 * 60 * 60 * 1000

	// millisYearMax is the last year whose milliseconds since the epoch fit in 64 bits.
	millisYearMax = 292278993
)

// civil returns the proleptic Gregorian date of a day, counted from 1970-01-01.
func civil(days int64) (year int64, month, day int) {
	days += 719468 // from 0000-03-01
	era := floorDiv(days, 146097)
	doe := days - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy - (153*mp+2)/5 + 1)
	month = int(mp + 3)
	year = yoe + era*400
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}

// daysOf is the inverse of civil.
func daysOf(year int64, month, day int) int64 {
	if month <= 2 {
		year--
	}
	era := floorDiv(year, 400)
	yoe := year - era*400
	doy := (153*int64((month+9)%12)+2)/5 + int64(day) - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func daysIn(year int64, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

func appendPadded(dst []byte, v int64, width int) []byte {
	for limit := int64(10); width > 1; width-- {
		if v < limit {
			dst = append(dst, strings.Repeat("0", width-1)...)
			break
		}
		limit *= 10
	}
	return strconv.AppendInt(dst, v, 10)
}

// appendDate appends a day, counted from 1970-01-01, as ISO 8601: years beyond 9999 with a sign.
func appendDate(dst []byte, days int64) []byte {
	y, m, d := civil(days)
	switch {
	case y > 9999:
		dst = append(dst, '+')
	case y < 0:
		dst = append(dst, '-')
		y = -y
	}
	dst = append(appendPadded(dst, y, 4), '-')
	dst = append(appendPadded(dst, int64(m), 2), '-')
	return appendPadded(dst, int64(d), 2)
}

// appendTime appends nanoseconds since midnight as hh:mm:ss.nnnnnnnnn.
func appendTime(dst []byte, ns int64) []byte {
	if ns < 0 || ns >= nanosPerDay {
		return strconv.AppendInt(dst, ns, 10)
	}
	dst = appendClock(dst, ns/int64(time.Second))
	return appendPadded(append(dst, '.'), ns%int64(time.Second), 9)
}

func appendClock(dst []byte, seconds int64) []byte {
	dst = append(appendPadded(dst, seconds/3600, 2), ':')
	dst = append(appendPadded(dst, seconds/60%60, 2), ':')
	return appendPadded(dst, seconds%60, 2)
}

// appendTimestamp appends milliseconds since the epoch as 2011-02-03T04:05:06.789Z: years beyond
// 9999 with a plus sign, years BC as 1, 2, ... without any sign.
func appendTimestamp(dst []byte, ms int64) []byte {
	days := floorDiv(ms, millisPerDay)
	rest := ms - days*millisPerDay
	y, m, d := civil(days)
	if y <= 0 {
		y = 1 - y
	}
	if y > 9999 {
		dst = append(dst, '+')
	}
	dst = append(appendPadded(dst, y, 4), '-')
	dst = append(appendPadded(dst, int64(m), 2), '-')
	dst = append(appendPadded(dst, int64(d), 2), 'T')
	dst = append(appendClock(dst, rest/1000), '.')
	return append(appendPadded(dst, rest%1000, 3), 'Z')
}

// scanner reads fields off a date or time.
type scanner struct {
	s   string
	bad bool
}

// number reads between lo and hi digits.
func (p *scanner) number(lo, hi int) int64 {
	n := 0
	for n < len(p.s) && n < hi && p.s[n] >= '0' && p.s[n] <= '9' {
		n++
	}
	v, err := strconv.ParseInt(p.s[:n], 10, 64)
	if n < lo || err != nil {
		p.bad = true
		return 0
	}
	p.s = p.s[n:]
	return v
}

func (p *scanner) accept(c byte) bool {
	if p.s == "" || p.s[0] != c {
		return false
	}
	p.s = p.s[1:]
	return true
}

func (p *scanner) expect(c byte) {
	if !p.accept(c) {
		p.bad = true
	}
}

func allDigits(s string) bool {
	s = strings.TrimPrefix(s, "-")
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// parseDate returns a date value's number from ISO 8601 or the raw number.
func parseDate(s string) (uint32, error) {
	if allDigits(s) {
		v, err := strconv.ParseUint(s, 10, 32)
		if err != nil && s != "-0" {
			return 0, marshalErrorf("Unable to make unsigned int (for date) from: '%s'", s)
		}
		return uint32(v), nil
	}
	p := scanner{s: s}
	y, m, d := p.isoDate()
	if p.bad || p.s != "" || d > daysIn(y, m) || y > millisYearMax || y < -millisYearMax {
		return 0, marshalErrorf("Unable to coerce '%s' to a formatted date (long)", s)
	}
	switch days := daysOf(y, m, d) + 1<<31; {
	case days < 0:
		return 0, marshalErrorf("Input date %s is less than min supported date -5877641-06-23T00:00Z", s)
	case days >= 1<<32:
		return 0, marshalErrorf("Input date %s is greater than max supported date +5881580-07-11T00:00Z", s)
	default:
		return uint32(days), nil
	}
}

// isoDate reads year-month-day; a year has a sign when it is negative or has more than four digits.
func (p *scanner) isoDate() (y int64, m, d int) {
	neg := p.accept('-')
	plus := !neg && p.accept('+')
	at := len(p.s)
	y = p.number(4, 9)
	if long := at-len(p.s) > 4; long != plus && !(long && neg) || neg && y == 0 {
		p.bad = true
	}
	if neg {
		y = -y
	}
	p.expect('-')
	m = int(p.number(2, 2))
	p.expect('-')
	d = int(p.number(2, 2))
	if m < 1 || m > 12 || d < 1 || d > 31 {
		p.bad = true
	}
	return y, m, d
}

// parseTime returns nanoseconds since midnight from hh:mm:ss[.fffffffff] or the raw number.
func parseTime(s string) (int64, error) {
	if allDigits(s) {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil || v < 0 || v >= nanosPerDay {
			return 0, marshalErrorf("Unable to make long (for time) from: '%s'", s)
		}
		return v, nil
	}
	if ns, ok := parseClock(strings.Trim(s, javaSpace)); ok {
		return ns, nil
	}
	return 0, marshalErrorf("(TimeType) Unable to coerce '%s' to a formatted time (long)", s)
}

// javaSpace is what Java's String.trim removes.
const javaSpace = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f "

func parseClock(s string) (int64, bool) {
	hour, rest, ok1 := strings.Cut(s, ":")
	minute, rest, ok2 := strings.Cut(rest, ":")
	second, frac, dot := strings.Cut(rest, ".")
	if !ok1 || !ok2 || dot && (frac == "" || len(frac) > 9 || frac[0] < '0' || frac[0] > '9') {
		return 0, false
	}
	h, err1 := strconv.ParseInt(hour, 10, 32)
	m, err2 := strconv.ParseInt(minute, 10, 32)
	sec, err3 := strconv.ParseInt(second, 10, 32)
	ns, err4 := strconv.ParseInt((frac + "000000000")[:9], 10, 32)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil ||
		h < 0 || h > 23 || m < 0 || m > 59 || sec < 0 || sec > 59 {
		return 0, false
	}
	return (h*3600+m*60+sec)*int64(time.Second) + ns, true
}
