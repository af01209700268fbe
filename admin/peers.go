package admin

import "github.com/prometheus/client_golang/prometheus"

// PeerMetric is one counter about one other node. How many there are is bounded by whoever makes them.
type PeerMetric struct {
	Name, Help string
	Peer       string // host id
	Value      float64
}

// peerCollector has no fixed set of metrics, since nodes come and go: Describe says nothing, which makes it unchecked.
type peerCollector struct{ collect func() []PeerMetric }

// Describe implements prometheus.Collector.
func (peerCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c peerCollector) Collect(out chan<- prometheus.Metric) {
	descs := map[string]*prometheus.Desc{}
	for _, m := range c.collect() {
		d := descs[m.Name]
		if d == nil {
			d = prometheus.NewDesc(m.Name, m.Help, []string{"peer"}, nil)
			descs[m.Name] = d
		}
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, m.Value, m.Peer)
	}
}
