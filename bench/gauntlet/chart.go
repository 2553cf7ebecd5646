package gauntlet

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
)

// The chart's size and the place of its plot, in pixels.
const (
	chartWidth, chartHeight = 860, 320
	left, right             = 60, 846
	top, bottom             = 56, 280
	columns                 = 240
)

// A chart draws latencies over time, with the reloads behind them.
type chart struct {
	b      strings.Builder
	span   time.Duration
	lo, hi float64 // of the latency axis, powers of ten in µs
}

// WriteChart draws the latency of all requests over the time that was traced, on
// a logarithmic axis, and each reload as a band. It is an SVG of its own, for
// light and dark pages.
func (r *Report) WriteChart(w io.Writer) error {
	c := &chart{span: time.Second, lo: 2, hi: 5}
	for _, s := range r.samples {
		c.span = max(c.span, s.At)
	}
	slots := c.slots(r.samples)
	for _, h := range slots {
		c.hi = max(c.hi, math.Ceil(math.Log10(float64(max(h.Max().Microseconds(), 1)))))
	}
	c.head(r)
	for _, m := range r.marks {
		c.band(m)
	}
	c.axes()
	c.line("max", slots, func(h *load.Histogram) time.Duration { return h.Max() })
	c.line("p99", slots, func(h *load.Histogram) time.Duration { return h.Quantile(0.99) })
	c.line("p50", slots, func(h *load.Histogram) time.Duration { return h.Quantile(0.5) })
	c.b.WriteString("</svg>\n")
	_, err := io.WriteString(w, c.b.String())
	return err
}

func (c *chart) slots(samples []load.Sample) []load.Histogram {
	slots := make([]load.Histogram, columns)
	for _, s := range samples {
		i := int(s.At * columns / c.span)
		if i >= 0 && i < columns {
			slots[i].Record(s.Took)
		}
	}
	return slots
}

const style = `text{font:12px system-ui,sans-serif;fill:#777}.title{font-size:14px;font-weight:600}` +
	`.grid{stroke:#888;stroke-opacity:.25}.good{fill:#2b7de9;fill-opacity:.16}.bad{fill:#d62839;fill-opacity:.16}` +
	`.p50,.p99,.max{fill:none;stroke-width:1.5}.p50{stroke:#1a9850}.p99{stroke:#c77700}.max{stroke:#888;stroke-width:1}` +
	`@media(prefers-color-scheme:dark){text{fill:#ccc}.good,.bad{fill-opacity:.3}.p50{stroke:#4cd07d}.p99{stroke:#ffb347}}`

func (c *chart) head(r *Report) {
	fmt.Fprintf(&c.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img">`+"\n", chartWidth, chartHeight)
	title := fmt.Sprintf("Latency of all requests during %d reloads, %d of them of a broken build", r.Reloads, r.Bad)
	if n := len(r.marks); n > 0 && r.marks[n-1].to > c.span {
		title = fmt.Sprintf("Latency of all requests in the first %.0f s of %d reloads", c.span.Seconds(), r.Reloads)
	}
	fmt.Fprintf(&c.b, "<title>%s</title>\n<style>%s</style>\n", title, style)
	c.text(left, 20, "start", "title", title)
	x := left
	for _, key := range []string{"p50", "p99", "max"} {
		fmt.Fprintf(&c.b, `<path class="%s" d="M%d 36h18"/>`+"\n", key, x)
		c.text(x+24, 40, "start", "", key)
		x += 70
	}
	for _, key := range []struct{ class, name string }{{"good", "reload"}, {"bad", "reload of a broken build"}} {
		fmt.Fprintf(&c.b, `<rect class="%s" x="%d" y="28" width="18" height="14"/>`+"\n", key.class, x)
		c.text(x+24, 40, "start", "", key.name)
		x += 90
	}
}

func (c *chart) band(m mark) {
	class := "good"
	if m.bad {
		class = "bad"
	}
	from, to := c.x(m.from), c.x(m.to)
	if from >= right {
		return
	}
	fmt.Fprintf(&c.b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`+"\n", class, from, top, max(min(to, right)-from, 1), bottom-top)
}

func (c *chart) axes() {
	for p := c.lo; p <= c.hi; p++ {
		y := c.y(math.Pow(10, p))
		fmt.Fprintf(&c.b, `<path class="grid" d="M%d %.1fH%d"/>`+"\n", left, y, right)
		c.text(left-6, y+4, "end", "", (time.Duration(math.Pow(10, p)) * time.Microsecond).String())
	}
	step := tick(c.span)
	for at := time.Duration(0); at <= c.span; at += step {
		c.text(c.x(at), bottom+18, "middle", "", at.String())
	}
}

// tick is the distance of two marks on the time axis: 12 of them at most.
func tick(span time.Duration) time.Duration {
	for _, step := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second} {
		if span <= 12*step {
			return step
		}
	}
	return span / 12
}

func (c *chart) line(class string, slots []load.Histogram, of func(*load.Histogram) time.Duration) {
	fmt.Fprintf(&c.b, `<polyline class="%s" points="`, class)
	for i := range slots {
		if slots[i].Count() > 0 {
			at := c.span * time.Duration(2*i+1) / (2 * columns)
			fmt.Fprintf(&c.b, "%.0f,%.0f ", c.x(at), c.y(float64(of(&slots[i]).Microseconds())))
		}
	}
	c.b.WriteString("\"/>\n")
}

func (c *chart) text(x, y any, anchor, class, s string) {
	fmt.Fprintf(&c.b, `<text x="%v" y="%v" text-anchor="%s" class="%s">%s</text>`+"\n", x, y, anchor, class, s)
}

func (c *chart) x(at time.Duration) float64 {
	return left + (right-left)*float64(at)/float64(c.span)
}

// y is the place of a number of microseconds; what is below the axis is on it.
func (c *chart) y(µs float64) float64 {
	part := (math.Log10(max(µs, 1)) - c.lo) / (c.hi - c.lo)
	return bottom - (bottom-top)*min(max(part, 0), 1)
}
