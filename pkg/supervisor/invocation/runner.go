package invocation

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/doors"
	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
	"github.com/supervisord-go/supervisord/pkg/supervisor/notify"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Runner has what all invocations share.
type Runner struct {
	Launcher *process.Launcher
	Doors    *doors.Doors
	Pairs    *Pairs
	// NotifyDir is where notify sockets are made. It stays its owner's.
	NotifyDir func() (*safepath.Dir, error)
	// Sink is where the output of a service goes that is started by spec.
	Sink func(spec *unit.Spec) *logs.Sink
	// LeftOver is told who an earlier invocation of a service has left behind, when
	// the next one starts. It must not wait.
	LeftOver func(service, who string)
	// Refused is told of a notify message that does not count. It must not wait.
	Refused func(service, reason string, pid int, uid uint32)

	places places
	going  sync.WaitGroup

	mu        sync.Mutex
	listening map[*notify.Socket]string // of which service
}

// RenewNotify binds the notify sockets again that somebody has removed, and tells which
// services they are of, or why it cannot. The directory must be there.
func (r *Runner) RenewNotify(tell func(service string, err error)) {
	r.mu.Lock()
	all := maps.Clone(r.listening)
	r.mu.Unlock()
	for s, service := range all {
		if renewed, err := s.Renew(); renewed || err != nil {
			tell(service, err)
		}
	}
}

func (r *Runner) listens(s *notify.Socket, service string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listening == nil {
		r.listening = map[*notify.Socket]string{}
	}
	r.listening[s] = service
}

// closeNotify is for a socket of which nobody is to be heard any more.
func (r *Runner) closeNotify(s *notify.Socket) {
	r.mu.Lock()
	delete(r.listening, s)
	r.mu.Unlock()
	s.Close()
}

// Go runs f in the background, and counts it as a part of an invocation.
func (r *Runner) Go(f func()) { r.going.Go(f) }

// Wait returns when no invocation is left.
func (r *Runner) Wait() { r.going.Wait() }

// limit is how long a start may take until the program runs. The rules say when it has
// taken too long, and then either have it given up or signal it; what is still there after
// that cannot be ended.
func (r *Runner) limit(spec *unit.Spec) time.Duration {
	return min(spec.Life.Start, maxLaunch) + behind
}

// behind is how much later we give up than the rules.
const behind = time.Second

// How many processes are on their way to their program at the same time, of all
// services and of one; the others wait. A start that hangs, since the disk does or
// its user makes it, gives its place back after a moment: it needs no processor.
const (
	placesForAll = 64
	placesForOne = 16
	placeFor     = 2 * time.Second
)

// places counts those who start. The zero value has all of them free.
type places struct {
	mu    sync.Mutex
	taken int
	of    map[string]int
	free  chan struct{} // closed when one is
}

// take returns when there is a place, with what gives it back.
func (p *places) take(ctx context.Context, service string) (leave func(), err error) {
	for {
		free, ok := p.try(service)
		if ok {
			break
		}
		select {
		case <-free:
		case <-ctx.Done():
			return nil, errors.New("too many processes are being started, and none of them gets on")
		}
	}
	var once sync.Once
	give := func() { once.Do(func() { p.give(service) }) }
	timer := time.AfterFunc(placeFor, give)
	return func() { timer.Stop(); give() }, nil
}

func (p *places) try(service string) (free <-chan struct{}, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of, p.free = map[string]int{}, make(chan struct{})
	}
	if p.taken >= placesForAll || p.of[service] >= placesForOne {
		return p.free, false
	}
	p.taken++
	p.of[service]++
	return nil, true
}

func (p *places) give(service string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.of[service]--; p.of[service] == 0 {
		delete(p.of, service)
	}
	close(p.free)
	p.free = make(chan struct{})
}
