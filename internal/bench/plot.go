package bench

import (
	"fmt"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// Plot draws throughput and latency over time into a file whose name ends in .svg or .png.
func Plot(r *Report, path string) error {
	ops, p50, p99 := plotter.XYs{}, plotter.XYs{}, plotter.XYs{}
	for _, s := range r.Samples {
		x := s.At.Seconds()
		ops = append(ops, plotter.XY{X: x, Y: s.Ops / 1000})
		p50 = append(p50, plotter.XY{X: x, Y: s.P50.Seconds() * 1000})
		p99 = append(p99, plotter.XY{X: x, Y: s.P99.Seconds() * 1000})
	}
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s at %s: %.0f op/s, p99 %.2f ms", r.Op, r.Level, r.OpsPerSec, r.Micros.P99/1000)
	p.X.Label.Text = "seconds"
	p.Y.Label.Text = "thousand op/s, ms"
	p.Y.Min = 0
	p.Legend.Top = true
	if err := plotutil.AddLines(p, "thousand op/s", ops, "p50 ms", p50, "p99 ms", p99); err != nil {
		return fmt.Errorf("bench: plot: %w", err)
	}
	if err := p.Save(8*vg.Inch, 4*vg.Inch, path); err != nil {
		return fmt.Errorf("bench: plot: %w", err)
	}
	return nil
}
