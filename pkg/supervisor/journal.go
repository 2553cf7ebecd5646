package supervisor

import (
	"context"
	"iter"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// keptEvents is how many events can be read again by who comes late.
const keptEvents = 4096

// A journal holds the last events, numbered from 1 in the order in which they
// happened, and wakes those who wait for the next. Whoever follows supervisord
// reads it; nobody polls.
type journal struct {
	mu   sync.Mutex
	ring []ipc.Event
	last uint64
	wake chan struct{} // closed and made anew with each event
}

func newJournal() *journal { return &journal{wake: make(chan struct{})} }

// add numbers es and appends them.
func (j *journal) add(es ...ipc.Event) {
	if len(es) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range es {
		j.last++
		e.Type, e.Seq = "event", j.last
		j.ring = append(j.ring, e)
	}
	if len(j.ring) > 2*keptEvents {
		j.ring = append([]ipc.Event(nil), j.ring[len(j.ring)-keptEvents:]...)
	}
	close(j.wake)
	j.wake = make(chan struct{})
}

// since returns the events after seq that are still there, how many are not, and
// a channel that is closed when there are more.
func (j *journal) since(seq uint64) (es []ipc.Event, lost uint64, more <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if seq >= j.last {
		return nil, 0, j.wake
	}
	first := j.last - uint64(len(j.ring)) + 1
	from := max(seq+1, first)
	return append(es, j.ring[from-first:]...), from - seq - 1, j.wake
}

// end is the number of the last event.
func (j *journal) end() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// follow yields the events after seq as they come, until ctx is done or quit is
// closed and all are told.
func (j *journal) follow(ctx context.Context, seq uint64, quit <-chan struct{}) iter.Seq[ipc.Event] {
	return func(yield func(ipc.Event) bool) {
		for {
			es, lost, more := j.since(seq)
			if lost > 0 && !yield(ipc.Event{Type: "lost", Lost: lost}) {
				return
			}
			for _, e := range es {
				if !yield(e) {
					return
				}
				seq = e.Seq
			}
			if len(es) > 0 {
				continue
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			case <-quit:
				return
			}
		}
	}
}
