package types

import (
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zone names mean the same on every machine
)

// parseTimestamp returns milliseconds since the epoch from the text of a timestamp constant: the
// number itself, "now", or a date with an optional time and an optional zone. Without a zone the
// text is in UTC.
func parseTimestamp(s string) (int64, error) {
	if strings.EqualFold(s, "now") {
		return time.Now().UnixMilli(), nil
	}
	if allDigits(s) {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, marshalErrorf("Unable to make long (for date) from: '%s'", s)
		}
		return v, nil
	}
	for _, form := range [...]func(*scanner) (int64, bool){dateTimeMillis, dateMillis} {
		if ms, ok := form(&scanner{s: s}); ok {
			return ms, nil
		}
	}
	return 0, marshalErrorf("Unable to parse a date/time from '%s'", s)
}

// dateTimeMillis reads y-M-d'T'H:m[:s[.fraction]][zone], with a blank allowed for the T. Days that
// a month does not have become its last day, and 24:00 the next midnight, as in Java.
func dateTimeMillis(p *scanner) (int64, bool) {
	y := p.number(1, 18)
	p.expect('-')
	mon := p.number(1, 18)
	p.expect('-')
	d := p.number(1, 18)
	if !p.accept('T') {
		p.expect(' ')
	}
	h := p.number(1, 18)
	p.expect(':')
	m := p.number(1, 18)
	var s, ms int64
	if p.accept(':') {
		s = p.number(1, 18)
		ms = p.fraction()
	}
	if p.bad || y < 1 || y > 999999999 || mon < 1 || mon > 12 || d < 1 || d > 31 || m > 59 || s > 59 ||
		h > 23 && !(h == 24 && m == 0 && s == 0 && ms == 0) {
		return 0, false
	}
	days := daysOf(y, int(mon), min(int(d), daysIn(y, int(mon))))
	return p.zoned(days, (h*3600+m*60+s)*1000+ms)
}

// fraction reads .fffffffff as whole milliseconds.
func (p *scanner) fraction() int64 {
	if !p.accept('.') {
		return 0
	}
	at := p.s
	if p.s == "" || p.s[0] < '0' || p.s[0] > '9' {
		return 0
	}
	p.number(1, 9)
	v, _ := strconv.ParseInt((at[:len(at)-len(p.s)] + "00")[:3], 10, 64)
	return v
}

// dateMillis reads yyyy-MM-dd[zone].
func dateMillis(p *scanner) (int64, bool) {
	y, m, d := p.isoDate()
	if p.bad {
		return 0, false
	}
	return p.zoned(daysOf(y, m, min(d, daysIn(y, m))), 0)
}

// zoned reads the zone and returns the instant of a local day and milliseconds.
func (p *scanner) zoned(days, ms int64) (int64, bool) {
	offset, ok := p.zone(days, ms)
	if !ok || days > math.MaxInt64/millisPerDay-2 || days < math.MinInt64/millisPerDay+2 {
		return 0, false
	}
	return days*millisPerDay + ms - offset*1000, true
}

// zone reads "", Z, +hh, +hhmm, +hh:mm, each with a blank before it or not, or a blank and the
// name of a zone. It returns the seconds that the zone is ahead of UTC at that local time.
func (p *scanner) zone(days, ms int64) (seconds int64, ok bool) {
	if p.s == "" || p.s == "Z" {
		return 0, true
	}
	blank := p.accept(' ')
	if off, ok := parseOffset(p.s, false); ok {
		return off, true
	}
	if !blank {
		return 0, false
	}
	return namedZone(p.s, days, ms)
}

// parseOffset reads +hh, +hhmm and +hh:mm; as the id of a zone only +hh:mm and +hh:mm:ss.
func parseOffset(s string, id bool) (seconds int64, ok bool) {
	p := scanner{s: s}
	neg := p.accept('-')
	if !neg && !p.accept('+') {
		return 0, false
	}
	h, m, sec := p.number(2, 2), int64(0), int64(0)
	if colon := p.accept(':'); colon || id || p.s != "" {
		m = p.number(2, 2)
		p.bad = p.bad || id && !colon
	}
	if id && p.accept(':') {
		sec = p.number(2, 2)
	}
	if seconds = h*3600 + m*60 + sec; p.bad || p.s != "" || m > 59 || sec > 59 || seconds > 18*3600 {
		return 0, false
	}
	if neg {
		seconds = -seconds
	}
	return seconds, true
}

// namedZone knows UTC under its names, offsets (+01:00:00, UTC+01:00), the common American
// abbreviations and, where the machine has a zone database, its regions (Europe/Paris).
func namedZone(name string, days, ms int64) (seconds int64, ok bool) {
	if off, ok := parseOffset(name, true); ok {
		return off, true
	}
	for _, utc := range [...]string{"UTC", "GMT", "UT"} {
		if rest, ok := strings.CutPrefix(name, utc); ok {
			if rest == "" {
				return 0, true
			}
			return parseOffset(rest, true)
		}
	}
	switch name {
	case "Z", "Coordinated Universal Time", "Greenwich Mean Time":
		return 0, true
	case "", "Local":
		return 0, false
	case "EST", "EDT", "Eastern Standard Time", "Eastern Daylight Time":
		name = "America/New_York"
	case "CST", "CDT", "Central Standard Time", "Central Daylight Time":
		name = "America/Chicago"
	case "MST", "MDT", "Mountain Standard Time", "Mountain Daylight Time":
		name = "America/Denver"
	case "PST", "PDT", "Pacific Standard Time", "Pacific Daylight Time":
		name = "America/Los_Angeles"
	}
	loc, err := time.LoadLocation(name)
	if err != nil || days > 1<<40 || days < -1<<40 {
		return 0, false
	}
	y, m, d := civil(days)
	_, off := time.Date(int(y), time.Month(m), d, 0, 0, int(ms/1000), 0, loc).Zone()
	return int64(off), true
}
