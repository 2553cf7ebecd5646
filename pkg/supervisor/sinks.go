package supervisor

import (
	"maps"
	"slices"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// sinks are where the output of services goes. They have a lock of their own,
// since a start asks for one.
type sinks struct {
	dir *safepath.Dir
	to  logs.Elsewhere

	mu   *sync.Mutex // held for moments
	open map[string]*logs.Sink
}

func newSinks(dir *safepath.Dir, to logs.Elsewhere) sinks {
	return sinks{dir: dir, to: to, mu: &sync.Mutex{}, open: map[string]*logs.Sink{}}
}

// elsewhere is where lines go besides the files.
func elsewhere(o Options, r *roster) logs.Elsewhere {
	return logs.Elsewhere{
		Stdout: o.Forward, Journal: o.Journal,
		Bare: func() bool {
			all := r.configuration().Services
			return len(all) == 1 && all[0].Life.Instances == 1
		},
		Tell: func(service, what string) { o.Log.Warn().Str("unit", service).Msg(what) },
	}
}

// of is the sink of a service, which keeps what is written from now on as spec
// says, by which its process is started.
func (s sinks) of(spec *unit.Spec) *logs.Sink {
	k := s.read(spec)
	k.Configure(spec.Log)
	return k
}

// read is the sink of a service for who reads what it has: it stays as it is. Where
// nothing was started yet, it is made as spec says.
func (s sinks) read(spec *unit.Spec) *logs.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.open[spec.Name]
	if k == nil {
		k = logs.Open(s.dir, spec.Name, spec.Log, s.to, logs.Stage{})
		s.open[spec.Name] = k
	}
	return k
}

// drop closes the sink of a service that is no more.
func (s sinks) drop(service string) {
	s.mu.Lock()
	k := s.open[service]
	delete(s.open, service)
	s.mu.Unlock()
	if k != nil {
		k.Close()
	}
}

// each calls f for every sink at once: a disk that hangs holds up each for
// seconds, and so all for no longer than one.
func (s sinks) each(f func(service string, k *logs.Sink)) {
	var all sync.WaitGroup
	for name, k := range s.all() {
		all.Go(func() { f(name, k) })
	}
	all.Wait()
}

func (s sinks) all() map[string]*logs.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.open)
}

// faults says which logs are not written.
func (s sinks) faults() (faults []string) {
	for _, k := range s.all() {
		if _, _, err := k.Stats(); err != nil {
			faults = append(faults, err.Error())
		}
	}
	slices.Sort(faults)
	return faults
}
