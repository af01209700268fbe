package admin

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Sample is one number about one of several things: a table, another node, a reason. How many there are is bounded by whoever makes them.
type Sample struct {
	Name, Help string
	Kind       Kind
	Labels     []string // the same for all of a name
	Values     []string // of the labels
	Value      float64
	// Buckets, when set, make it a histogram: cumulative counts by upper bound; with Count and Sum, in the metric's unit, they replace Value.
	Buckets map[float64]uint64
	Count   uint64
	Sum     float64
}

// sampleCollector has no fixed set of metrics, since tables and nodes come and go: Describe says nothing, which makes it unchecked.
type sampleCollector struct{ collect func() []Sample }

// Describe implements prometheus.Collector.
func (sampleCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c sampleCollector) Collect(out chan<- prometheus.Metric) {
	descs := map[string]*prometheus.Desc{}
	for _, m := range c.collect() {
		d := descs[m.Name]
		if d == nil {
			d = prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
			descs[m.Name] = d
		}
		switch {
		case m.Buckets != nil:
			out <- prometheus.MustNewConstHistogram(d, m.Count, m.Sum, m.Buckets, m.Values...)
		case m.Kind == Gauge:
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, m.Value, m.Values...)
		default:
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, m.Value, m.Values...)
		}
	}
}
