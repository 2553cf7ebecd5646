package load

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Phase is something that goes on at times and may disturb requests. A nil Phase
// never goes on.
type Phase struct{ changes atomic.Int64 } // odd while it goes on

// Begin says that it goes on from now.
func (p *Phase) Begin() { p.changes.Add(1) }

// End says that it does no more.
func (p *Phase) End() { p.changes.Add(1) }

func (p *Phase) mark() int64 {
	if p == nil {
		return 0
	}
	return p.changes.Load()
}

// disturbed says whether it went on at any time since a mark.
func (p *Phase) disturbed(mark int64) bool { return mark%2 == 1 || p.mark() != mark }

// A Trace keeps latencies with the times at which their requests were made, for as
// long as it is to. A nil Trace keeps none.
type Trace struct {
	start time.Time
	span  time.Duration

	mu      sync.Mutex
	samples []Sample
}

// A Sample is one request that was OK.
type Sample struct {
	At   time.Duration // since the trace's start
	Took time.Duration
}

// NewTrace returns a trace that keeps what begins within a span of time from now.
func NewTrace(span time.Duration) *Trace { return &Trace{start: time.Now(), span: span} }

// Since is the time since its start.
func (t *Trace) Since(at time.Time) time.Duration { return at.Sub(t.start) }

// Samples are those that were kept. The trace is not to be used any more.
func (t *Trace) Samples() []Sample { return t.samples }

func (t *Trace) add(at time.Time, took time.Duration) {
	if t == nil {
		return
	}
	s := Sample{t.Since(at), took}
	if s.At < 0 || s.At > t.span {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.samples = append(t.samples, s)
}
