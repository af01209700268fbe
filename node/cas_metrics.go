package node

import (
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/admin"
)

// casMetrics are those of conditional writes and serial reads.
func (n *Node) casMetrics() []admin.Metric {
	m := &n.coord.Metrics().CASMetrics
	counter := func(name, help, label string, v *atomic.Int64) admin.Metric {
		return admin.Metric{Name: name, Help: help, Label: label, Kind: admin.Counter, Value: func() float64 { return float64(v.Load()) }}
	}
	outcome := func(label string, v *atomic.Int64) admin.Metric {
		return counter("helenus_cas_total", "conditional writes by outcome; unknown: timeouts and other errors", "outcome="+label, v)
	}
	return []admin.Metric{
		outcome("applied", &m.CASApplied),
		outcome("not_applied", &m.CASNotApplied),
		outcome("unknown", &m.CASUnknown),
		outcome("unavailable", &m.CASUnavailable),
		{Name: "helenus_cas_seconds_total", Help: "time that conditional writes took, in all", Kind: admin.Counter,
			Value: func() float64 { return time.Duration(m.CASLatency.Nanos.Load()).Seconds() }},
		counter("helenus_serial_reads_total", "reads at SERIAL and LOCAL_SERIAL", "", &m.SerialReads),
		counter("helenus_serial_looks_total", "those of them that took one round trip and promised nothing", "", &m.SerialLooks),
		counter("helenus_cas_contention_total", "ballots that other proposers got in the way of", "", &m.CASContention),
		counter("helenus_cas_contention_timeouts_total", "conditional writes and serial reads that gave up because of others", "", &m.CASContentionTimeouts),
		counter("helenus_cas_unfinished_total", "interrupted conditional writes that were finished here", "", &m.CASUnfinished),
		counter("helenus_cas_refreshes_total", "commits sent to replicas that lacked them", "", &m.CASRefreshes),
		counter("helenus_cas_turns_total", "turns on contended partitions that were waited for", "", &m.CASTurns),
		counter("helenus_cas_shadowed_total", "conditional writes under content with timestamps of the future", "", &m.CASShadowed),
		counter("helenus_ballots_ahead_total", "ballots refused for being ahead of this node's clock", "", &m.BallotsAhead),
		{Name: "helenus_paxos_abstains", Help: "1 while this node does not vote on conditional writes, since it may have forgotten what it had promised", Kind: admin.Gauge,
			Value: func() float64 {
				if n.abstains() != "" {
					return 1
				}
				return 0
			}},
		counter("helenus_cas_swept_total", "unfinished registers that the sweep finished", "", &m.CASSwept),
		counter("helenus_cas_forgotten_total", "finished registers that were removed", "", &m.CASForgotten),
	}
}
