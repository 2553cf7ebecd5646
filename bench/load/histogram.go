package load

import (
	"encoding/json"
	"math/bits"
	"time"
)

// A Histogram of durations, exact to 1/32 of each and to a microsecond. Its
// greatest is kept as it is.
type Histogram struct {
	counts [28 * fine]int64
	n      int64
	max    time.Duration
}

const fine = 32 // buckets of each doubling

// Record adds one duration.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucket(d)]++
	h.n++
	h.max = max(h.max, d)
}

// Add adds all of another histogram.
func (h *Histogram) Add(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// Count is how many durations there are.
func (h *Histogram) Count() int64 { return h.n }

// Max is the greatest of them.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is the duration that a share q of all do not exceed; 0 if there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rest := int64(q * float64(h.n))
	for i, n := range h.counts {
		if rest -= n; rest < 0 {
			return min(edge(i), h.max.Round(time.Microsecond))
		}
	}
	return h.max.Round(time.Microsecond)
}

// bucket: below 2*fine µs one each, from there on fine for each doubling.
func bucket(d time.Duration) int {
	µs := uint64(max(d, 0).Microseconds())
	shift := max(bits.Len64(µs)-bits.Len(fine), 0)
	return min(shift*fine+int(µs>>shift), len(Histogram{}.counts)-1)
}

// edge is the greatest duration of a bucket.
func edge(i int) time.Duration {
	shift := max(i/fine-1, 0)
	return time.Duration((i-shift*fine+1)<<shift-1) * time.Microsecond
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
