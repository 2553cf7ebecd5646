package ledger

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// keptEvents is how many events can be read again by who comes late.
const keptEvents = 4096

// A journal holds the last events, numbered from 1 in the order in which they
// happened, and wakes those who wait for the next.
type journal struct {
	ring  []ipc.Event
	last  uint64
	begin uint64                   // the number before the first; a lower one is a former supervisord's
	upTo  uint64                   // which numbers are reserved
	gone  map[string]uint64        // by unit: its last event that is not there any more
	wake  map[string]chan struct{} // by unit, closed with its next event; "": of any unit
}

func newJournal() journal {
	return journal{gone: map[string]uint64{}, wake: map[string]chan struct{}{}}
}

// Block is how many numbers of events are reserved at once.
const Block = 1 << 20

// Begin has the first event numbered begin + 1. The numbers up to begin + [Block] are
// reserved already; more are when half of them are gone. It is called before anything
// happens.
func (l *Ledger) Begin(begin uint64) {
	l.begin, l.journal.last, l.upTo = begin, begin, begin+Block
}

func (l *Ledger) reserve() {
	if l.world.Reserve != nil && l.journal.last+Block/2 > l.upTo {
		l.upTo += Block
		l.world.Reserve(l.upTo)
	}
}

// add numbers es and appends them.
func (l *Ledger) add(es ...ipc.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.reserve()
	for _, e := range es {
		l.journal.last++
		e.Type, e.Seq = "event", l.journal.last
		l.ring = append(l.ring, e)
		l.rouse(e.Unit)
		l.rouse("")
	}
	if n := len(l.ring) - keptEvents; n > keptEvents {
		for _, e := range l.ring[:n] {
			l.gone[e.Unit], l.gone[""] = e.Seq, e.Seq
		}
		l.ring = append([]ipc.Event(nil), l.ring[n:]...)
		l.prune()
	}
}

// prune keeps as many names as there may be events, those that had one last: a
// unit that is no more can still be among what goes.
func (j *journal) prune() {
	if len(j.gone) <= keptEvents {
		return
	}
	seqs := slices.Sorted(maps.Values(j.gone))
	first := seqs[len(seqs)-keptEvents]
	maps.DeleteFunc(j.gone, func(_ string, seq uint64) bool { return seq < first })
}

func (j *journal) rouse(unit string) {
	if c := j.wake[unit]; c != nil {
		close(c)
		delete(j.wake, unit)
	}
}

// since returns the events after seq that are still there, those of one unit or
// all (""), how many are not (of one unit: at most), the number up to which this
// tells everything, and if that is nothing, a channel that is closed when there are
// more.
func (l *Ledger) since(seq uint64, unit string) (es []ipc.Event, lost, upTo uint64, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq >= l.journal.last {
		if l.wake[unit] == nil {
			l.wake[unit] = make(chan struct{})
		}
		return nil, 0, seq, l.wake[unit]
	}
	first := l.journal.last - uint64(len(l.ring)) + 1
	from := max(seq+1, first)
	for _, e := range l.ring[from-first:] {
		if unit == "" || e.Unit == unit {
			es = append(es, e)
		}
	}
	if gone := l.gone[unit]; gone > seq {
		lost = gone - seq
	}
	return es, lost, l.journal.last, nil
}

// End is the number of the last event.
func (l *Ledger) End() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.journal.last
}

// missed is for who has seen what a former supervisord told, up to some event: that
// there may have been more, and how things are now.
func (l *Ledger) missed(of string) []ipc.Event {
	at := time.Now()
	es := []ipc.Event{{Kind: ipc.Restarted, Missed: true, Text: "supervisord was restarted: some of what happened may be missing here"}}
	if l.world.States != nil {
		es = append(es, l.world.States(of)...)
	}
	for i := range es {
		es[i].Type, es[i].Seq, es[i].Time = "event", l.begin, &at
	}
	return es
}

// Follow yields the events of a unit, or of all (""), after seq as they come,
// until ctx is done or quit is closed and all are told. If seq is from before this
// supervisord, it first yields that something is missing, and the state of the unit.
func (l *Ledger) Follow(ctx context.Context, seq uint64, unit string, quit <-chan struct{}) iter.Seq[ipc.Event] {
	return func(yield func(ipc.Event) bool) {
		if seq < l.begin {
			for _, e := range l.missed(unit) {
				if !yield(e) {
					return
				}
			}
			seq = l.begin
		}
		for {
			es, lost, upTo, more := l.since(seq, unit)
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
				continue
			case <-ctx.Done():
				return
			case <-quit:
			}
			select {
			case <-more: // that came first
			default:
				return
			}
		}
	}
}

// Forget lets go of what is kept for a unit that is no more. Who follows it waits
// for one of that name.
func (l *Ledger) Forget(unit string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.gone, unit)
	delete(l.savers, unit)
	delete(l.jobs.done, unit)
	l.rouse(unit)
}
