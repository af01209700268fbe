package admin

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads the metrics when Prometheus asks.
type collector struct {
	metrics []Metric
	descs   []*prometheus.Desc
}

func newCollector(metrics []Metric) *collector {
	c := &collector{metrics: metrics}
	for _, m := range metrics {
		var labels prometheus.Labels
		if name, value, ok := strings.Cut(m.Label, "="); ok {
			labels = prometheus.Labels{name: value}
		}
		c.descs = append(c.descs, prometheus.NewDesc(m.Name, m.Help, nil, labels))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for i, m := range c.metrics {
		switch {
		case m.Histogram != nil:
			buckets, count, sum := m.Histogram()
			out <- prometheus.MustNewConstHistogram(c.descs[i], count, sum, buckets)
		case m.Kind == Gauge:
			out <- prometheus.MustNewConstMetric(c.descs[i], prometheus.GaugeValue, m.Value())
		default:
			out <- prometheus.MustNewConstMetric(c.descs[i], prometheus.CounterValue, m.Value())
		}
	}
}
