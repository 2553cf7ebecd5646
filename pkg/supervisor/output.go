package supervisor

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
)

// A source is the output of one service, as somebody wants to read it.
type source struct {
	name  string
	sink  *logs.Sink
	query logs.Query
}

// merge yields the lines of several services: the last n of the past in the
// order of their times, and then those that come as they come.
func merge(ctx context.Context, sources []source, n int) iter.Seq[ipc.LogLine] {
	if len(sources) == 1 {
		return sources[0].lines(ctx)
	}
	return func(yield func(ipc.LogLine) bool) {
		var past []ipc.LogLine
		for _, s := range sources {
			s.query.Follow = false
			past = slices.AppendSeq(past, s.lines(ctx))
		}
		slices.SortStableFunc(past, func(a, b ipc.LogLine) int {
			if a.Time == nil || b.Time == nil {
				return cmp.Compare(a.Unit, b.Unit)
			}
			return a.Time.Compare(*b.Time)
		})
		if n >= 0 && len(past) > n {
			past = past[len(past)-n:]
		}
		for _, l := range past {
			if !yield(l) {
				return
			}
		}
		if sources[0].query.Follow {
			together(ctx, sources)(yield)
		}
	}
}

// together yields the lines of several services as they come.
func together(ctx context.Context, sources []source) iter.Seq[ipc.LogLine] {
	return func(yield func(ipc.LogLine) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		lines := make(chan ipc.LogLine)
		var all sync.WaitGroup
		for _, s := range sources {
			s.query.N = 0
			all.Go(func() {
				for l := range s.lines(ctx) {
					select {
					case lines <- l:
					case <-ctx.Done():
						return
					}
				}
			})
		}
		go func() { all.Wait(); close(lines) }()
		for l := range lines {
			if !yield(l) {
				cancel()
				for range lines { // until all have noticed
				}
				return
			}
		}
	}
}

func (s source) lines(ctx context.Context) iter.Seq[ipc.LogLine] {
	return func(yield func(ipc.LogLine) bool) {
		for l, err := range s.sink.Read(ctx, s.query) {
			if err != nil {
				l.Text = []byte("supervisord: " + err.Error())
			}
			if !yield(s.line(l)) {
				return
			}
		}
	}
}

func (s source) line(l logs.Line) ipc.LogLine {
	if l.Lost > 0 {
		return ipc.LogLine{Type: "lost", Unit: s.name, Lost: l.Lost}
	}
	x := ipc.LogLine{Type: "line", Unit: s.name, Instance: l.Instance, Generation: uint32(l.Generation), PID: l.PID, Text: string(l.Text)}
	if !l.Time.IsZero() {
		x.Time = &l.Time
	}
	if !utf8.Valid(l.Text) {
		x.Raw = l.Text
	}
	return x
}

// Reopen opens every log file anew (SIGUSR1), after somebody has moved them.
func (m *Manager) Reopen() {
	m.eachSink(func(name string, k *logs.Sink) {
		if err := k.Reopen(); err != nil {
			m.log.Error().Str("unit", name).Msg(err.Error())
		}
	})
}

// eachSink calls f for every service's sink at once: a disk that hangs holds up
// each for seconds, and so all for no longer than one.
func (m *Manager) eachSink(f func(name string, k *logs.Sink)) {
	m.mu.Lock()
	sinks := maps.Clone(m.sinks)
	m.mu.Unlock()
	var all sync.WaitGroup
	for name, k := range sinks {
		all.Go(func() { f(name, k) })
	}
	all.Wait()
}

// logFaults says which logs are not written.
func (m *Manager) logFaults() (faults []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.sinks {
		if _, _, err := k.Stats(); err != nil {
			faults = append(faults, err.Error())
		}
	}
	slices.Sort(faults)
	return faults
}
