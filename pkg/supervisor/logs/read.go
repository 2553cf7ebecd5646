package logs

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Query says which lines are wanted.
type Query struct {
	N          int             // the last N of the past; negative: all of it
	Follow     bool            // and then those that come
	Generation unit.Generation // of this one only; 0: of any
	Tag        Tag             // of this invocation only; 0: of any
	Since      time.Time       // not those before that, or whose time is not known; zero: all
	Until      time.Time       // not those after that, or whose time is not known; zero: all
	Seam       bool            // say where the past ends, also if nothing is to be followed
}

// A Line is one line of output, or the news that some are missing.
type Line struct {
	Time time.Time // when it was read, to the second; zero: not known
	Meta           // zero: not known
	Text []byte    // as it was written, without the newline; at most MaxLine bytes
	Part bool      // its end has not come: what the same process writes next goes on with it
	Seam bool      // nothing but the line between past and future, where [Query.Seam] asks for it
	Lost uint64    // that many lines are missing here: they could not be written, or who follows was too slow. Text is nil
}

func (q Query) wants(m Meta, at time.Time) bool {
	return (q.Generation == 0 || q.Generation == m.Generation) &&
		(q.Tag == 0 || q.Tag == m.Tag) &&
		(q.Since.IsZero() || !at.Before(q.Since)) &&
		(q.Until.IsZero() || !at.IsZero() && !at.After(q.Until))
}

// Read goes through the output of the service: the past from the files, or from
// memory where there are none; then, if it is to follow, all that comes, until
// ctx is done or the sink is closed. Between the two nothing is missing and
// nothing comes twice, whatever is rotated meanwhile. An error says that a part
// of the past cannot be read; what can be comes before it, and what is to be
// followed after it.
//
// Whoever takes the lines slowly holds up nobody. When more than a megabyte
// waits for him, a Line with Lost says how many lines of the service he missed.
func (s *Sink) Read(ctx context.Context, q Query) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		past, at, late := s.enter(ctx, q)
		if q.Follow {
			defer s.part()
		}
		defer past.close()
		going, err := past.lines(ctx, q, yield)
		if err = cmp.Or(late, err); going && err != nil {
			going = yield(Line{}, fmt.Errorf("cannot read all of the log of %s: %w", s.service, err))
		}
		if going && q.Seam {
			going = yield(Line{Seam: true}, nil)
		}
		if going && q.Follow {
			s.follow(ctx, q, at, yield)
		}
	}
}

// enter fixes the line between past and future.
func (s *Sink) enter(ctx context.Context, q Query) (past history, at place, err error) {
	s.mu.Lock()
	if q.Follow {
		at = s.hub.join()
	}
	past.memory = s.tails()
	files := s.spec.File && !s.closed && q.N != 0
	var ready chan history
	if files && s.asking < maxAsking {
		ready = s.ask()
	}
	s.mu.Unlock()
	switch {
	case !files:
		return past, at, nil
	case ready == nil:
		return past, at, errSilent
	}
	got, err := s.wait(ctx, ready)
	past.files = got.files
	return past, at, err
}

// ask has the keeper open what there is, when all before is written. mu is held.
func (s *Sink) ask() chan history {
	ready := make(chan history, 1)
	s.asking++
	s.disk.add(errand{do: func() {
		ready <- s.keep.history()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asking--
	}}, 0)
	return ready
}

// wait takes the answer. One that comes too late is closed.
func (s *Sink) wait(ctx context.Context, ready chan history) (h history, err error) {
	late := time.NewTimer(s.answer())
	defer late.Stop()
	select {
	case h = <-ready:
		return h, nil
	case <-ctx.Done():
	case <-late.C:
		err = errSilent
	}
	go func() { h := <-ready; h.close() }()
	return history{}, err
}

// Knows says whether there is something of an invocation in what can be read.
func (s *Sink) Knows(ctx context.Context, t Tag) bool {
	past, _, _ := s.enter(ctx, Query{N: -1})
	defer past.close()
	return past.knows(t)
}

func (s *Sink) part() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hub.part()
}

// tails are the lines in memory, in the order in which they came. mu is held.
func (s *Sink) tails() []Line {
	var all []Line
	for _, st := range slices.Concat(s.ended, s.live) {
		all = append(all, st.tail.lines(st.by())...)
	}
	slices.SortStableFunc(all, func(a, b Line) int { return a.Time.Compare(b.Time) })
	return all
}

// follow yields what comes from a place on.
func (s *Sink) follow(ctx context.Context, q Query, at place, yield func(Line, error) bool) {
	for {
		s.mu.Lock()
		c, lost, ok := s.hub.next(&at)
		more := s.hub.wait()
		s.mu.Unlock()
		if lost > 0 && !yield(Line{Time: c.time, Lost: lost}, nil) {
			return
		}
		if ok {
			if !c.yield(q, yield) {
				return
			}
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return
		case <-s.gone:
			return
		}
	}
}

func (c chunk) yield(q Query, yield func(Line, error) bool) bool {
	if !q.wants(c.from.meta, c.time) {
		return true
	}
	for text, whole := range lines(c.text) {
		if !yield(Line{Time: c.time, Meta: c.from.by(), Text: text, Part: !whole}, nil) {
			return false
		}
	}
	return true
}
