package plan

import (
	"encoding/binary"
	"sort"
	"time"

	"github.com/helenusdb/helenus/cql/types"
)

const (
	secondsPerDay = 24 * 3600
	millisPerDay  = secondsPerDay * 1000
	nanosPerDay   = millisPerDay * 1e6
	// gregorianMillis is the start of version 1 UUIDs' time, 1582-10-15, before the epoch.
	gregorianMillis = 12219292800000
)

// timeFunctions are now, current_..., to_..., min_timeuuid, max_timeuuid and floor, under both spellings.
func timeFunctions(name string) []*function {
	switch name {
	case "now", "current_timeuuid", "currenttimeuuid":
		return []*function{native(name, types.Timeuuid, func(sc *scope, _ [][]byte) ([]byte, error) {
			u := sc.args.NewTimeUUID()
			return sc.mem.copy(u[:]), nil
		})}
	case "current_timestamp", "currenttimestamp":
		return []*function{native(name, types.Timestamp, func(sc *scope, _ [][]byte) ([]byte, error) {
			return types.EncodeTimestamp(sc.args.Millis), nil
		})}
	case "current_date", "currentdate":
		return []*function{native(name, types.Date, func(sc *scope, _ [][]byte) ([]byte, error) {
			return dateOf(sc.args.Millis), nil
		})}
	case "current_time", "currenttime":
		return []*function{native(name, types.Time, func(sc *scope, _ [][]byte) ([]byte, error) {
			return types.EncodeTime(floorMod(sc.args.Millis, millisPerDay) * 1e6), nil
		})}
	case "min_timeuuid", "mintimeuuid":
		return []*function{native(name, types.Timeuuid, func(_ *scope, args [][]byte) ([]byte, error) {
			return boundUUID(args[0], 0, 0x8080808080808080)
		}, types.Timestamp)}
	case "max_timeuuid", "maxtimeuuid":
		return []*function{native(name, types.Timeuuid, func(_ *scope, args [][]byte) ([]byte, error) {
			return boundUUID(args[0], 9999, 0x7f7f7f7f7f7f7f7f)
		}, types.Timestamp)}
	case "to_date", "todate":
		return conversions(name, types.Date, types.Timeuuid, types.Timestamp)
	case "to_timestamp", "totimestamp":
		return conversions(name, types.Timestamp, types.Timeuuid, types.Date)
	case "to_unix_timestamp", "tounixtimestamp":
		return conversions(name, types.Bigint, types.Timeuuid, types.Timestamp, types.Date)
	case "floor":
		return floors()
	}
	return nil
}

func conversions(name string, to *types.Type, from ...*types.Type) []*function {
	var out []*function
	for _, t := range from {
		out = append(out, native(name, to, func(_ *scope, args [][]byte) ([]byte, error) {
			if len(args[0]) != timeLen(t) {
				return nil, nil
			}
			return timeConversion(t, to, args[0]), nil
		}, t))
	}
	return out
}

// timeLen is the length of values of the types that hold a point in time.
func timeLen(t *types.Type) int {
	switch t.Kind {
	case types.KindTimeuuid:
		return 16
	case types.KindDate:
		return 4
	}
	return 8
}

// timeConversion converts between timeuuid, date, timestamp and milliseconds.
func timeConversion(from, to *types.Type, v []byte) []byte {
	ms := millisOf(from, v)
	if to.Kind == types.KindDate {
		return dateOf(ms)
	}
	return types.EncodeTimestamp(ms)
}

func millisOf(t *types.Type, v []byte) int64 {
	switch t.Kind {
	case types.KindTimeuuid:
		hi := binary.BigEndian.Uint64(v)
		ticks := hi>>32 | hi>>16&0xFFFF<<32 | hi&0x0FFF<<48
		return int64(ticks/10000) - gregorianMillis
	case types.KindDate:
		return (int64(binary.BigEndian.Uint32(v)) - 1<<31) * millisPerDay
	}
	return int64(binary.BigEndian.Uint64(v))
}

// dateOf returns the date value of milliseconds since the epoch. As Cassandra does, it cuts off the seconds of a day before
// the epoch towards it: the last day of 1969 is 1970-01-01 but for its first second.
func dateOf(ms int64) []byte {
	return types.EncodeDate(uint32(floorDiv(ms, 1000)/secondsPerDay + 1<<31))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }

// boundUUID returns the least or greatest time UUID of a millisecond.
func boundUUID(v []byte, ticks int64, node uint64) ([]byte, error) {
	if len(v) != 8 {
		return nil, nil
	}
	t := uint64((int64(binary.BigEndian.Uint64(v))+gregorianMillis)*10000 + ticks)
	b := binary.BigEndian.AppendUint64(nil, t<<32|t>>32&0xFFFF<<16|t>>48&0x0FFF|0x1000)
	return binary.BigEndian.AppendUint64(b, node), nil
}

// span is a duration value.
type span struct {
	months, days int32
	ns           int64
}

func (s span) negative() bool { return s.months < 0 || s.days < 0 || s.ns < 0 }

// after returns start, in milliseconds, plus k times the span.
func (s span) after(start int64, k int64) int64 {
	t := addMonths(time.UnixMilli(start).UTC(), int(s.months)*int(k))
	return t.UnixMilli() + int64(s.days)*k*millisPerDay + s.ns/1e6*k
}

// addMonths adds months, ending at the last day of a month that is too short.
func addMonths(t time.Time, n int) time.Time {
	y, m, d := t.Date()
	first := time.Date(y, m+time.Month(n), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(d, last)-1)
}

// floorMillis returns the start of the span that t falls in, counted from start.
func floorMillis(t int64, s span, start int64) (int64, error) {
	switch {
	case start > t:
		return 0, invalid("The floor function starting time is greater than the provided time")
	case s.negative():
		return 0, invalid("Negative durations are not supported by the floor function")
	}
	if s.months == 0 {
		step := int64(s.days)*millisPerDay + s.ns/1e6
		if step == 0 {
			return t, nil
		}
		return t - (t-start)%step, nil
	}
	months := (t-start)/(28*millisPerDay) + 2
	k := sort.Search(int(months/int64(s.months))+2, func(k int) bool { return s.after(start, int64(k)) > t })
	return s.after(start, int64(k-1)), nil
}

// floors are floor(time, duration) and floor(time, duration, start).
func floors() []*function {
	var out []*function
	for _, t := range []*types.Type{types.Timestamp, types.Timeuuid, types.Date} {
		ret := types.Timestamp
		if t.Kind == types.KindDate {
			ret = types.Date
		}
		out = append(out,
			native("floor", ret, func(_ *scope, args [][]byte) ([]byte, error) {
				return floorExec(t, ret, args[0], args[1], 0)
			}, t, types.Duration),
			native("floor", ret, func(_ *scope, args [][]byte) ([]byte, error) {
				if len(args[2]) != timeLen(ret) {
					return nil, nil
				}
				return floorExec(t, ret, args[0], args[1], millisOf(ret, args[2]))
			}, t, types.Duration, ret))
	}
	return append(out, native("floor", types.Time, func(_ *scope, args [][]byte) ([]byte, error) {
		return floorTime(args[0], args[1])
	}, types.Time, types.Duration))
}

func spanOf(v []byte) (span, error) {
	m, d, ns, err := types.DecodeDuration(v)
	return span{m, d, ns}, marshalError(err)
}

func floorExec(t, ret *types.Type, v, duration []byte, start int64) ([]byte, error) {
	if len(v) != timeLen(t) {
		return nil, nil
	}
	s, err := spanOf(duration)
	if err != nil {
		return nil, err
	}
	if t.Kind != types.KindDate && s.ns%1e6 != 0 {
		return nil, invalid("The floor cannot be computed for the %s duration as precision is below 1 millisecond", types.Duration.AppendText(nil, duration))
	}
	if t.Kind == types.KindDate && s.ns != 0 {
		return nil, invalid("The floor on %s values cannot be computed for the %s duration as precision is below 1 day",
			t, types.Duration.AppendText(nil, duration))
	}
	ms, err := floorMillis(millisOf(t, v), s, start)
	if err != nil {
		return nil, err
	}
	if ret.Kind == types.KindDate {
		return dateOf(ms), nil
	}
	return types.EncodeTimestamp(ms), nil
}

func floorTime(v, duration []byte) ([]byte, error) {
	if len(v) != 8 {
		return nil, nil
	}
	t, err := types.DecodeTime(v)
	if err != nil {
		return nil, err
	}
	s, err := spanOf(duration)
	switch {
	case err != nil:
		return nil, err
	case s.negative():
		return nil, invalid("Negative durations are not supported by the floor function")
	case s.months != 0 || s.days != 0 || s.ns > nanosPerDay:
		return nil, invalid("For time values, the floor can only be computed for durations smaller that a day")
	case s.ns == 0:
		return v, nil
	}
	return types.EncodeTime(t - t%s.ns), nil
}

// addDuration returns the execution of date + duration and timestamp + duration.
func addDuration(t *types.Type, minus bool) func(sc *scope, args [][]byte) ([]byte, error) {
	return func(_ *scope, args [][]byte) ([]byte, error) {
		if len(args[0]) != timeLen(t) {
			return nil, nil
		}
		s, err := spanOf(args[1])
		if err != nil {
			return nil, err
		}
		k := int64(1)
		if minus {
			k = -1
		}
		precision := ""
		switch {
		case t.Kind == types.KindDate && s.ns != 0:
			precision = "day"
		case s.ns%1e6 != 0:
			precision = "millisecond"
		}
		if precision != "" {
			op := byte('+')
			if minus {
				op = '-'
			}
			return nil, operationFailed(op, t, types.Duration,
				"The duration must have a "+precision+" precision. Was: "+string(types.Duration.AppendText(nil, args[1])))
		}
		ms := s.after(millisOf(t, args[0]), k)
		if t.Kind == types.KindDate {
			return dateOf(ms), nil
		}
		return types.EncodeTimestamp(ms), nil
	}
}
