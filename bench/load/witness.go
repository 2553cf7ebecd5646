package load

import (
	"sync/atomic"
	"time"
)

// A Witness knows whether somebody serves: it remembers when the latest request began
// that was answered. Whoever waited longer than that, and was not answered, was
// overlooked. A nil Witness has seen nothing.
type Witness struct {
	base   time.Time
	latest atomic.Int64 // since base; 0: none
}

// NewWitness is for requests that begin from now on.
func NewWitness() *Witness { return &Witness{base: time.Now()} }

// answered says that a request was that began then.
func (w *Witness) answered(start time.Time) {
	if w == nil {
		return
	}
	since := int64(start.Sub(w.base))
	for latest := w.latest.Load(); since > latest && !w.latest.CompareAndSwap(latest, since); {
		latest = w.latest.Load()
	}
}

// overtaken says whether a request was answered that began after this one.
func (w *Witness) overtaken(start time.Time) bool {
	return w != nil && w.latest.Load() > int64(start.Sub(w.base))
}
