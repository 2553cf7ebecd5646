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
	wake map[string]chan struct{} // by unit, closed with its next event; "": of any unit
}

func newJournal() *journal { return &journal{wake: map[string]chan struct{}{}} }

// add numbers es and appends them.
func (j *journal) add(es ...ipc.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range es {
		j.last++
		e.Type, e.Seq = "event", j.last
		j.ring = append(j.ring, e)
		j.rouse(e.Unit)
		j.rouse("")
	}
	if len(j.ring) > 2*keptEvents {
		j.ring = append([]ipc.Event(nil), j.ring[len(j.ring)-keptEvents:]...)
	}
}

func (j *journal) rouse(unit string) {
	if c := j.wake[unit]; c != nil {
		close(c)
		delete(j.wake, unit)
	}
}

// since returns the events after seq that are still there, those of one unit or
// all (""), how many of any unit are not, the number up to which this tells
// everything, and a channel that is closed when there are more.
func (j *journal) since(seq uint64, unit string) (es []ipc.Event, lost, upTo uint64, more <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.wake[unit] == nil {
		j.wake[unit] = make(chan struct{})
	}
	if seq >= j.last {
		return nil, 0, seq, j.wake[unit]
	}
	first := j.last - uint64(len(j.ring)) + 1
	from := max(seq+1, first)
	for _, e := range j.ring[from-first:] {
		if unit == "" || e.Unit == unit {
			es = append(es, e)
		}
	}
	return es, from - seq - 1, j.last, j.wake[unit]
}

// end is the number of the last event.
func (j *journal) end() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// follow yields the events of a unit, or of all (""), after seq as they come,
// until ctx is done or quit is closed and all are told.
func (j *journal) follow(ctx context.Context, seq uint64, unit string, quit <-chan struct{}) iter.Seq[ipc.Event] {
	return func(yield func(ipc.Event) bool) {
		for {
			es, lost, upTo, more := j.since(seq, unit)
			if lost > 0 && !yield(ipc.Event{Type: "lost", Lost: lost}) {
				return
			}
			for _, e := range es {
				if !yield(e) {
					return
				}
			}
			if seq < upTo {
				seq = upTo
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
