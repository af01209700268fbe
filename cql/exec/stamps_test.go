package exec_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/exec"
	"github.com/helenusdb/helenus/cql/protocol"
)

// TestScenario_K2_FutureTimestamps: what USING TIMESTAMP says beyond the guardrail is refused, in statements and in batches, and writes nothing;
// without a guardrail it passes.
func TestScenario_K2_FutureTimestamps(t *testing.T) {
	bounds := exec.StampLimits{MaxWarn: time.Minute, MaxFail: time.Hour, MinWarn: time.Hour, MinFail: 24 * time.Hour}
	_, cl := startWith(t, options{limits: exec.Limits{Stamps: bounds}}, protocol.V5)
	now := time.Now()
	for _, form := range []string{
		"INSERT INTO k.t (p, c, v) VALUES (1, 1, 'x') USING TIMESTAMP %d",
		"UPDATE k.t USING TIMESTAMP %d SET v = 'x' WHERE p = 1 AND c = 1",
		"DELETE FROM k.t USING TIMESTAMP %d WHERE p = 2 AND c = 1",
		"BEGIN BATCH INSERT INTO k.t (p, c, v) VALUES (1, 1, 'x') USING TIMESTAMP %d; APPLY BATCH",
		"BEGIN BATCH USING TIMESTAMP %d INSERT INTO k.t (p, c, v) VALUES (1, 1, 'x'); APPLY BATCH",
	} {
		for _, x := range []struct {
			at            time.Duration
			warning, fail string
		}{
			{2 * time.Hour, "", "Guardrail maximum_timestamp violated: The modification to table t has a timestamp %d after the maximum allowable failure threshold "},
			{10 * time.Minute, "Guardrail maximum_timestamp violated: The modification to table t has a timestamp %d after the maximum allowable warning threshold ", ""},
			{0, "", ""},
			{-2 * time.Hour, "Guardrail minimum_timestamp violated: The modification to table t has a timestamp %d before the minimum allowable warning threshold ", ""},
			{-48 * time.Hour, "", "Guardrail minimum_timestamp violated: The modification to table t has a timestamp %d before the minimum allowable failure threshold "},
		} {
			ts := now.Add(x.at).UnixMicro()
			a := cl.query(fmt.Sprintf(form, ts), nil)
			if x.fail != "" {
				if a.err == nil || a.err.Code != protocol.CodeInvalid || !strings.HasPrefix(a.err.Message, fmt.Sprintf(x.fail, ts)) {
					t.Errorf("%s at %s: %v", form, x.at, a.err)
				}
				continue
			}
			if a.err != nil || (x.warning == "") != (len(a.extras.Warnings) == 0) {
				t.Fatalf("%s at %s: %v %q", form, x.at, a.err, a.extras.Warnings)
			}
			if x.warning != "" && !strings.HasPrefix(a.extras.Warnings[0], fmt.Sprintf(x.warning, ts)) {
				t.Errorf("%s at %s: %q", form, x.at, a.extras.Warnings)
			}
		}
	}
	if rows := cl.must("SELECT WRITETIME(v) FROM k.t").rows(); len(rows) != 1 || fmt.Sprintf("%x", rows[0][0]) != fmt.Sprintf("%016x", now.Add(10*time.Minute).UnixMicro()) {
		t.Errorf("what was refused was written: %x", rows)
	}
	_, cl = startWith(t, options{}, protocol.V5)
	cl.must("INSERT INTO k.t (p, c, v) VALUES (1, 1, 'x') USING TIMESTAMP 4102444800000000") // the year 2100
}
