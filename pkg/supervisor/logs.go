package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Logs yields what services have written.
func (m *Manager) Logs(ctx context.Context, r ipc.LogRequest) (iter.Seq[ipc.LogLine], error) {
	names := r.Units
	if r.Follow && !r.Until.IsZero() {
		return nil, &ipc.Error{Code: ipc.Usage, Message: "cannot follow logs that end: follow and until exclude each other"}
	}
	if len(names) == 0 {
		for _, e := range m.list() {
			names = append(names, e.Name())
		}
	}
	var sources []source
	for _, name := range names {
		e := m.find(name)
		if e.Actor == nil {
			return nil, m.noSuchUnit("show the logs of", name)
		}
		s := source{name, m.sinks.read(e.logSpec()), logs.Query{N: r.N, Follow: r.Follow, Generation: unit.Generation(r.Generation), Since: r.Since, Until: r.Until}}
		if r.Invocation != "" {
			s.query.Tag, _ = logs.TagOf(r.Invocation)
			if !e.View().Has(r.Invocation) && !s.sink.Knows(ctx, s.query.Tag) {
				continue
			}
		}
		sources = append(sources, s)
	}
	if len(sources) == 0 && r.Invocation != "" {
		return nil, &ipc.Error{
			Code: ipc.Usage, Message: fmt.Sprintf("cannot show the logs of %s: there is no output of invocation %s", strings.Join(names, ", "), r.Invocation),
			Notes: []string{"what is older than log.max_files allows is gone"},
		}
	}
	return merge(ctx, sources, r.N, len(r.Units) > 0), nil
}

// logSpec is how a service's output is kept: as its processes were started, or
// as the files say.
func (e entry) logSpec() *unit.Spec {
	v := e.View()
	if b := v.State.Build(v.State.Current); b != nil {
		return b.Spec
	}
	if e.spec != nil {
		return e.spec
	}
	return &unit.Spec{Name: e.Name()}
}

// A source is the output of one service, as somebody wants to read it.
type source struct {
	name  string
	sink  *logs.Sink
	query logs.Query
}

// merge yields the lines of several services: the last n of the past in the order of
// their times, and then those that come as they come. Each service is read in one go, so
// nothing that comes meanwhile is missing or comes twice. Of services that were named
// it is said which have nothing.
func merge(ctx context.Context, sources []source, n int, named bool) iter.Seq[ipc.LogLine] {
	if len(sources) == 1 {
		return sources[0].lines(ctx)
	}
	return func(yield func(ipc.LogLine) bool) {
		ctx, cancel := context.WithCancel(ctx)
		pasts, coming := make(chan past, len(sources)), make(chan ipc.LogLine)
		var all sync.WaitGroup
		for _, s := range sources {
			all.Go(func() { s.feed(ctx, pasts, coming) })
		}
		go func() { all.Wait(); close(coming) }()
		defer func() {
			cancel()
			for range coming { // until all have noticed
			}
		}()
		var lines []ipc.LogLine
		var without []string
		for range sources {
			p := <-pasts
			if lines = append(lines, p.lines...); len(p.lines) == 0 {
				without = append(without, p.unit)
			}
		}
		lines = lastOf(lines, n)
		if n != 0 {
			lines = append(lines, nothing(without, len(lines) == 0, named)...)
		}
		for _, l := range lines {
			if !yield(l) {
				return
			}
		}
		for l := range coming {
			if !yield(l) {
				return
			}
		}
	}
}

// nothing says of which services there is no line. Of those that nobody has named it
// matters only if there is no line at all.
func nothing(without []string, atAll, named bool) (lines []ipc.LogLine) {
	if !named && atAll {
		return []ipc.LogLine{{Type: ipc.LineNone}}
	}
	if named {
		slices.Sort(without)
		for _, name := range without {
			lines = append(lines, ipc.LogLine{Type: ipc.LineNone, Unit: name})
		}
	}
	return lines
}

// lastOf are the last n of lines that come from several services, in order.
func lastOf(past []ipc.LogLine, n int) []ipc.LogLine {
	slices.SortStableFunc(past, func(a, b ipc.LogLine) int {
		if a.Time == nil || b.Time == nil {
			return cmp.Compare(a.Unit, b.Unit)
		}
		return a.Time.Compare(*b.Time)
	})
	if n >= 0 && len(past) > n {
		past = past[len(past)-n:]
	}
	return past
}

// A past is what a service has written before it was asked for.
type past struct {
	unit  string
	lines []ipc.LogLine
}

// feed hands over the past as a whole, once, and then what comes.
func (s source) feed(ctx context.Context, pasts chan<- past, coming chan<- ipc.LogLine) {
	was := past{unit: s.name}
	q, live := s.query, false
	q.Seam = true
	for l, err := range s.sink.Read(ctx, q) {
		switch {
		case l.Seam:
			pasts <- was
			live = true
		case !live:
			was.lines = append(was.lines, s.line(l, err))
		default:
			select {
			case coming <- s.line(l, err):
			case <-ctx.Done():
				return
			}
		}
	}
	if !live {
		pasts <- was
	}
}

func (s source) lines(ctx context.Context) iter.Seq[ipc.LogLine] {
	q := s.query
	q.Seam = true
	return func(yield func(ipc.LogLine) bool) {
		found := q.N == 0 // nothing of the past is wanted
		for l, err := range s.sink.Read(ctx, q) {
			switch {
			case !l.Seam:
				found = true
				if !yield(s.line(l, err)) {
					return
				}
			case !found && !yield(ipc.LogLine{Type: ipc.LineNone, Unit: s.name}):
				return
			}
		}
	}
}

func (s source) line(l logs.Line, err error) ipc.LogLine {
	if err != nil {
		return ipc.LogLine{Type: "error", Unit: s.name, Text: err.Error()}
	}
	if l.Lost > 0 {
		return ipc.LogLine{Type: "lost", Unit: s.name, Lost: l.Lost}
	}
	x := ipc.LogLine{Type: "line", Unit: s.name, Part: l.Part, Instance: l.Instance, Generation: uint32(l.Generation), PID: l.PID, Text: string(l.Text)}
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
	m.sinks.each(func(name string, k *logs.Sink) {
		if err := k.Reopen(); err != nil {
			m.log.Error().Str("unit", name).Msg(err.Error())
		}
	})
}

// RenewNotify binds again what somebody has removed of the sockets on which services say
// that they are alive. The runtime directory must be there.
func (m *Manager) RenewNotify() {
	m.runner.RenewNotify(func(name string, err error) {
		if err != nil {
			m.log.Error().Str("unit", name).Msg(err.Error())
			return
		}
		m.log.Warn().Str("unit", name).Msg("somebody has removed its notify socket: bound it again")
	})
}
