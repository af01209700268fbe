package exec

import (
	"fmt"
	"time"

	"github.com/helenusdb/helenus/schema"
)

// StampLimits bounds the timestamps that USING TIMESTAMP gives to writes, as distances from now: Cassandra's guardrails
// maximum_timestamp and minimum_timestamp, which there look at single statements only and here at batches too. 0: no bound.
type StampLimits struct{ MaxWarn, MaxFail, MinWarn, MinFail time.Duration }

// JudgeStamp implements plan.StampJudge.
func (o *op) JudgeStamp(t *schema.Table, ts int64) error {
	l := &o.x.o.Limits.Stamps
	now := o.x.o.Now().UnixMicro()
	if err := o.judge(&stampsAfter, t, now, l.MaxWarn, l.MaxFail, ts); err != nil {
		return err
	}
	return o.judge(&stampsBefore, t, now, l.MinWarn, l.MinFail, ts)
}

// stampGuard says what is asked of timestamps on one side of now, in Cassandra's words.
type stampGuard struct {
	sign               int64
	name, side, reason string
}

var (
	stampsAfter = stampGuard{1, "maximum_timestamp", "after the maximum",
		"Timestamps too far in the future can lead to data that can't be easily overwritten"}
	stampsBefore = stampGuard{-1, "minimum_timestamp", "before the minimum", "Timestamps too far in the past can cause writes can be unexpectedly lost"}
)

func (o *op) judge(g *stampGuard, t *schema.Table, now int64, warn, fail time.Duration, ts int64) error {
	beyond := func(limit time.Duration) bool { return limit > 0 && g.sign*ts > g.sign*now+limit.Microseconds() }
	text := func(kind string, limit time.Duration) string {
		return fmt.Sprintf("Guardrail %s violated: The modification to table %s has a timestamp %d %s allowable %s threshold %d. %s",
			g.name, t.Name, ts, g.side, kind, now+g.sign*limit.Microseconds(), g.reason)
	}
	switch {
	case beyond(fail):
		return invalid("%s", text("failure", fail))
	case beyond(warn):
		o.warn(text("warning", warn))
	}
	return nil
}
