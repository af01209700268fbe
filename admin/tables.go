package admin

import (
	"github.com/prometheus/client_golang/prometheus"
)

// TableMetric is one number of one table. How many there are is bounded by whoever makes them.
type TableMetric struct {
	Name, Help      string
	Kind            Kind
	Keyspace, Table string
	Value           float64
	// Histogram, when set, replaces Value: cumulative counts by upper bound, and the sum, in the metric's unit.
	Buckets map[float64]uint64
	Count   uint64
	Sum     float64
}

// tableCollector has no fixed set of metrics, since tables come and go: Describe says nothing, which makes it unchecked.
type tableCollector struct{ collect func() []TableMetric }

// Describe implements prometheus.Collector.
func (tableCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c tableCollector) Collect(out chan<- prometheus.Metric) {
	descs := map[string]*prometheus.Desc{}
	for _, m := range c.collect() {
		d := descs[m.Name]
		if d == nil {
			d = prometheus.NewDesc(m.Name, m.Help, []string{"keyspace", "table"}, nil)
			descs[m.Name] = d
		}
		switch {
		case m.Buckets != nil:
			out <- prometheus.MustNewConstHistogram(d, m.Count, m.Sum, m.Buckets, m.Keyspace, m.Table)
		case m.Kind == Gauge:
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, m.Value, m.Keyspace, m.Table)
		default:
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, m.Value, m.Keyspace, m.Table)
		}
	}
}
