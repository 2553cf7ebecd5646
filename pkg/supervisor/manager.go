// Package supervisor keeps services in the states that their operator asked for.
//
// A [Manager] owns what all services share: sockets, the store, the launcher of
// processes, the configuration that was taken in. Each service is an actor of
// its own (see service), which asks [unit.Step] what to do. Requests go down
// from the Manager to the actors; what happens comes up as entries of a journal
// and as snapshots that anyone may read without waiting for an actor.
package supervisor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/history"
	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/store"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// launchesAtOnce is how many processes are on their way to their program at the
// same time; the others wait. What then only takes its time to be ready does not.
const launchesAtOnce = 64

// Options are what a Manager is given by main.
type Options struct {
	Config  *config.Config
	Store   *store.Store
	Table   *socket.Table
	State   *safepath.Dir // state_directory
	Logs    *safepath.Dir // log_directory; nil: there is none
	Forward io.Writer     // gets the output of services that are to forward it; nil: none
	Log     zerolog.Logger
	// Reload reads the configuration's files anew.
	Reload  func() (*config.Config, []config.Problem)
	Version string
}

// A Manager runs services. Its methods are safe for use by several goroutines.
type Manager struct {
	o         Options
	log       zerolog.Logger
	epoch     string
	began     time.Time
	launcher  *process.Launcher
	notifyDir *safepath.Dir
	doors     *doors
	pairs     *pairs
	journal   *journal
	jobs      *jobs
	numbers   *generations
	history   *history.Log
	places    chan struct{}
	going     sync.WaitGroup // invocations
	actors    sync.WaitGroup
	metrics   *metrics.Server
	quit      chan struct{} // closed when all has ended
	inspects  atomic.Bool   // the sockets are being looked at

	mu       sync.Mutex // guards what follows
	config   *config.Config
	stamps   map[string]stamp // of its files
	services map[string]*service
	sinks    map[string]*logs.Sink
	ending   bool
}

// New makes a Manager of what the store holds and the configuration says, with
// every socket bound. Nothing runs yet. Processes that a former supervisord left
// running are an [*AliveError].
func New(o Options) (*Manager, error) {
	epoch := newInvocationID()[:8]
	m := &Manager{
		o: o, log: o.Log, epoch: epoch, began: time.Now(),
		doors: newDoors(o.Table), pairs: newPairs(), journal: newJournal(), jobs: newJobs(epoch),
		places: make(chan struct{}, launchesAtOnce), quit: make(chan struct{}),
		services: map[string]*service{}, sinks: map[string]*logs.Sink{},
	}
	m.metrics = metrics.NewServer(m.snapshot, o.Log)
	var err error
	if m.launcher, err = process.NewLauncher(process.Options{RuntimeDirectory: o.Store.Runtime().Path()}); err != nil {
		return nil, err
	}
	if m.notifyDir, err = o.Store.Sub("notify", 0o711); err != nil {
		return nil, err
	}
	states, err := m.restore()
	if err != nil {
		return nil, err
	}
	if err := o.Table.Watch(m.found); err != nil {
		m.log.Warn().Msg(err.Error())
	}
	fault := func(err error) { m.log.Error().Msg(err.Error()) }
	m.numbers = openGenerations(o.State, fault)
	m.history = history.Open(o.State, fault)
	m.config = o.Config
	for _, spec := range o.Config.Services {
		m.add(spec.Name, states[spec.Name])
	}
	m.adopt(o.Config)
	return m, nil
}

// An AliveError says that processes of a former supervisord still run. To start
// the services again beside them would give every one of them a second copy.
type AliveError struct{ Processes []string }

func (e *AliveError) Error() string {
	return fmt.Sprintf("cannot start: processes of a former supervisord still run: %s", strings.Join(e.Processes, ", "))
}

// Hint says how to go on.
func (e *AliveError) Hint() string {
	return "this version cannot take them over: end them (kill PID), then start supervisord again"
}

// restore reads what a former supervisord stored. Its processes are gone, or it
// is an [*AliveError]; what remains is the numbers, which are never used again.
func (m *Manager) restore() (map[string]unit.Service, error) {
	states := map[string]unit.Service{}
	keys, err := m.o.Store.Keys()
	if err != nil {
		return nil, err
	}
	alive := &AliveError{}
	for _, key := range keys {
		name, ok := strings.CutPrefix(key, recordKey)
		if !ok {
			continue
		}
		var r record
		if err := m.o.Store.Get(key, &r); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			m.setAside(key, err)
			continue
		}
		for _, t := range r.Traces {
			if t.Alive() {
				alive.Processes = append(alive.Processes, fmt.Sprintf("pid %d of %s", t.PID, name))
			}
		}
		states[name] = unit.Service{LastGen: r.Service.LastGen, LastInv: r.Service.LastInv}
	}
	if len(alive.Processes) > 0 {
		slices.Sort(alive.Processes)
		return nil, alive
	}
	return states, nil
}

const recordKey = "service."

// setAside makes room for a record in place of one that is not to be believed.
func (m *Manager) setAside(key string, why error) {
	m.log.Warn().Msg(why.Error() + ": set aside")
	if err := m.o.Store.SetAside(key); err != nil {
		m.log.Warn().Msg(err.Error())
	}
}

// add makes the actor of a service and lets it run. It needs m.mu.
func (m *Manager) add(name string, state unit.Service) {
	state.Inst = make([]unit.Instance, 1)
	state.LastGen = max(state.LastGen, m.numbers.of(name))
	s := newService(name, state, world{
		now:   now,
		save:  func(r record) error { return m.keep(name, r) },
		start: m.start,
		steer: func(shares []unit.Share) { m.steer(name, shares) },
		settle: func(id unit.Invocation, atMost time.Duration, tell func(unit.Event) bool) {
			m.settle(name, id, atMost, tell)
		},
		publish: m.publish,
		settled: m.settled,
	})
	m.services[name] = s
	m.actors.Go(s.run)
}

// keep stores what the next supervisord must know.
func (m *Manager) keep(name string, r record) error {
	m.numbers.note(name, r.Service.LastGen)
	return m.o.Store.Put(recordKey+name, r)
}

// now is CLOCK_MONOTONIC.
func now() unit.Time {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // there is no Linux without it
	}
	return unit.Time(t.Nano())
}

// Bind binds every socket of the configuration, so that clients of those that
// are to be served queue from now on. A socket that cannot be bound is the
// problem of the services that need it: each start tries again. Then it binds the
// address of metrics, if there is to be one.
func (m *Manager) Bind() {
	for _, s := range m.config.Sockets {
		for i := range m.instancesOf(s) {
			if err := m.bind(s, i); err != nil {
				m.fail(m.log.With().Str("unit", s.Name+".socket").Logger(), err)
			}
		}
	}
	m.serveMetrics(m.config.Manager.MetricsListen)
}

// fail logs an error with what to do about it, if it knows that.
func (m *Manager) fail(log zerolog.Logger, err error) {
	l := log.Error()
	if hint := hintOf(err); hint != "" {
		l = l.Str("hint", hint)
	}
	l.Msg(err.Error())
}

// bind binds the sockets of instance i.
func (m *Manager) bind(s *unit.Socket, i int) error {
	of, err := s.Of(i)
	if err != nil {
		return err
	}
	return m.doors.bind(of)
}

// instancesOf is how many sets of sockets a socket unit is, by the configuration.
func (m *Manager) instancesOf(s *unit.Socket) int {
	if s.PerInstance() {
		for _, spec := range m.config.Services {
			if slices.Contains(spec.Sockets, s.Name) {
				return max(1, spec.Life.Instances)
			}
		}
	}
	return 1
}

// Start starts what is to be started with supervisord. It does not wait.
func (m *Manager) Start() {
	for _, spec := range m.config.Services {
		if spec.Boot {
			s := m.services[spec.Name]
			j := m.jobs.add(spec.Name, unit.Start, nil, m.journal.end())
			go s.tell(unit.Asks{Job: unit.Job{ID: j, Verb: unit.Start}, Build: &unit.Build{Spec: spec}})
		}
	}
}

// Stop stops every service and returns when all are down, or when what is left
// cannot be ended.
func (m *Manager) Stop() {
	m.mu.Lock()
	m.ending = true
	services := m.list()
	m.mu.Unlock()
	var down sync.WaitGroup
	for _, s := range services {
		down.Go(func() { m.stop(s) })
	}
	down.Wait()
}

// KillAll sends SIGKILL to every process of every service.
func (m *Manager) KillAll() {
	m.mu.Lock()
	services := m.list()
	m.mu.Unlock()
	for _, s := range services {
		go s.tell(unit.Kills{Signal: unix.SIGKILL, Whom: unit.KillAll})
	}
}

func (m *Manager) stop(s *service) {
	id := m.jobs.add(s.name, unit.Stop, nil, m.journal.end())
	if s.tell(unit.Asks{Job: unit.Job{ID: id, Verb: unit.Stop}}) {
		j, _ := m.jobs.get(id)
		<-j.ended
	}
}

// Close ends the actors, after Stop. Sockets and store belong to the caller.
func (m *Manager) Close() error {
	m.metrics.Close()
	close(m.quit)
	m.mu.Lock()
	for _, s := range m.services {
		close(s.quit)
	}
	m.mu.Unlock()
	m.actors.Wait()
	m.numbers.close()
	m.history.Close()
	m.eachSink(func(_ string, k *logs.Sink) { k.Close() })
	return nil
}

// list needs m.mu.
func (m *Manager) list() []*service {
	all := make([]*service, 0, len(m.services))
	for _, s := range m.services {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *service) int { return strings.Compare(a.name, b.name) })
	return all
}

// sink is where the output of a service goes, by the configuration that its
// process is started with.
func (m *Manager) sink(spec *unit.Spec) *logs.Sink {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.sinks[spec.Name]
	if k == nil {
		k = logs.Open(m.o.Logs, spec.Name, spec.Log, m.o.Forward)
		m.sinks[spec.Name] = k
	}
	k.Configure(spec.Log)
	return k
}

// socketsOf are the socket units that instance i of a service has.
func (m *Manager) socketsOf(spec *unit.Spec, i int) (sockets []*unit.Socket, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range spec.Sockets {
		for _, s := range m.config.Sockets {
			if s.Name != name {
				continue
			}
			of, err := s.Of(i)
			if err != nil {
				return nil, err
			}
			sockets = append(sockets, of)
		}
	}
	return sockets, nil
}

// settled closes the doors behind a service that is down, and forgets it if the
// configuration has.
func (m *Manager) settled(v *view) {
	if err := m.doors.leaveInstances(v.name, len(v.state.Inst)); err != nil {
		m.log.Error().Str("unit", v.name).Msg(err.Error())
	}
	if sub := v.state.SubState(); sub != "dead" && sub != "failed" {
		return
	}
	if err := m.doors.leave(v.name); err != nil {
		m.log.Error().Str("unit", v.name).Msg(err.Error())
	}
	if !v.busy() {
		m.pairs.drop(v.name)
	}
	if m.specOf(v.name) == nil {
		go m.dropUnused()
	}
}
