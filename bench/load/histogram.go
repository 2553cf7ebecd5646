package load

import (
	"encoding/json"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Histogram of durations, exact to one per cent of each and to a microsecond. Its
// greatest is kept as it is. The zero value is empty; a copy shares what it counts.
type Histogram struct {
	counts *hdrhistogram.Histogram // of microseconds; nil: none yet
	max    time.Duration
}

// What a histogram tells apart.
const (
	shortest = 1
	longest  = int64(time.Hour / time.Microsecond)
	digits   = 2
)

// Record adds one duration.
func (h *Histogram) Record(d time.Duration) {
	h.make()
	h.counts.RecordValue(min(max(d.Microseconds(), 0), longest)) // so that it cannot fail
	h.max = max(h.max, d)
}

func (h *Histogram) make() {
	if h.counts == nil {
		h.counts = hdrhistogram.New(shortest, longest, digits)
	}
}

// Add adds all of another histogram.
func (h *Histogram) Add(o *Histogram) {
	if o.counts == nil {
		return
	}
	h.make()
	h.counts.Merge(o.counts)
	h.max = max(h.max, o.max)
}

// Count is how many durations there are.
func (h *Histogram) Count() int64 {
	if h.counts == nil {
		return 0
	}
	return h.counts.TotalCount()
}

// Max is the greatest of them.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is the duration that a share q of all do not exceed; 0 if there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	greatest := h.max.Round(time.Microsecond)
	if h.counts == nil || q >= 1 {
		return greatest
	}
	return min(time.Duration(h.counts.ValueAtQuantile(100*q))*time.Microsecond, greatest)
}

// MarshalJSON writes the quantiles that a reader wants, in milliseconds.
func (h Histogram) MarshalJSON() ([]byte, error) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return json.Marshal(struct {
		P50  float64 `json:"p50_ms"`
		P99  float64 `json:"p99_ms"`
		P999 float64 `json:"p99.9_ms"`
		Max  float64 `json:"max_ms"`
	}{ms(h.Quantile(0.5)), ms(h.Quantile(0.99)), ms(h.Quantile(0.999)), ms(h.max)})
}
