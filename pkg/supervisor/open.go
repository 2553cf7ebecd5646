package supervisor

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/doors"
	"github.com/supervisord-go/supervisord/pkg/supervisor/history"
	"github.com/supervisord-go/supervisord/pkg/supervisor/invocation"
	"github.com/supervisord-go/supervisord/pkg/supervisor/ledger"
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// New makes a Manager of what the store holds and the configuration says. Nothing
// runs yet, and no socket is bound. Processes that a former supervisord left
// running are an [*AliveError].
func New(o Options) (*Manager, error) {
	o.Table.Owners(func(user, group string) (uid, gid int, err error) {
		return process.ResolveOwner(context.Background(), user, group)
	})
	r := newRoster(o.Config)
	m := &Manager{
		o: o, log: o.Log, epoch: cmp.Or(o.Epoch, newEpoch()), began: time.Now(),
		quit: make(chan struct{}), roster: r, sinks: newSinks(o.Logs, elsewhere(o, r)),
	}
	m.doors = doors.New(o.Table, m.doorFault)
	m.metrics = metrics.NewServer(m.snapshot, o.Log)
	if err := m.makeRunner(); err != nil {
		return nil, err
	}
	states, err := m.restore()
	if err != nil {
		return nil, err
	}
	fault := func(err error) { m.log.Error().Msg(err.Error()) }
	m.numbers = openNumbers(o.State, fault)
	m.history = history.Open(o.State, fault)
	m.wire()
	if err := o.Table.Watch(m.found); err != nil {
		m.log.Warn().Msg(err.Error())
	}
	m.adopt(o.Config, states)
	return m, nil
}

// wire gives each part the others that it uses.
func (m *Manager) wire() {
	m.report = &reporter{
		roster: m.roster, log: m.log, table: m.o.Table, doors: m.doors, sinks: m.sinks, runner: m.runner,
		history: m.history, numbers: m.numbers, metrics: m.metrics, looks: &looks{},
	}
	m.ledger = ledger.New(m.numbers.jobs(), ledger.World{
		Account:  m.report.account,
		Queueing: m.report.queueing,
		Shared:   m.report.stillShared,
		Remember: func(r ipc.Record) { remember(m.log, m.history, r) },
		Log:      func(e ipc.Event, c unit.Change) { logEvent(m.log, e, c) },
		Save:     m.saveJobs,
		Reserve:  func(upTo uint64) { go m.reserveEvents(upTo) },
		States:   m.report.states,
	})
	m.ledger.Begin(m.firstEvents())
	m.report.ledger = m.ledger
	m.trier = newTrier(m.o.Table, m.doors, dial(m.o.Table))
	m.actors = &actors{
		log: m.log, store: m.o.Store, doors: m.doors, runner: m.runner, numbers: m.numbers, ledger: m.ledger,
		vanish: m.vanish, running: &sync.WaitGroup{},
	}
}

// newEpoch tells this supervisord from all others.
func newEpoch() string {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (m *Manager) makeRunner() error {
	launcher, err := process.NewLauncher(process.Options{RuntimeDirectory: m.o.Store.Runtime().Path(), Sole: m.o.Sole})
	if err != nil {
		return err
	}
	notifyDir := func() (*safepath.Dir, error) { return m.o.Store.Sub("notify", 0o711) }
	if _, err := notifyDir(); err != nil {
		return err
	}
	m.sayTracking(launcher)
	m.saySteering()
	m.runner = &invocation.Runner{
		Launcher: launcher, Doors: m.doors, Pairs: invocation.NewPairs(), NotifyDir: notifyDir, Sink: m.sinks.of,
		LeftOver: func(name, who string) {
			m.log.Warn().Str("unit", name).Msg(who + " is left over from an earlier run, and left alone (kill_mode = \"process\")")
		},
		Refused: func(name, reason string, pid int, uid uint32) {
			m.log.Warn().Str("unit", name).Int("pid", pid).Uint32("uid", uid).Msg("dropped a notify message: " + reason)
		},
	}
	return nil
}

// sayTracking says how what processes leave behind is found.
func (m *Manager) sayTracking(l *process.Launcher) {
	if cgroup, why := l.Tracking(); cgroup == "" {
		m.log.Warn().Msg("cannot use cgroups (" + why + "): a process that leaves its session may be missed when its service is stopped")
	} else {
		m.log.Debug().Str("cgroup", cgroup).Msg("processes are held together by cgroups")
	}
}

// saySteering says why no socket is steered by default here. Of those that were to be,
// the configuration has warned.
func (m *Manager) saySteering() {
	tcp := func(a unit.Address) bool { return a.Network == "tcp" }
	byDefault := func(s *unit.Socket) bool {
		return !s.Steer && s.Unsteered == "" && slices.ContainsFunc(s.Listen, tcp)
	}
	if why := Unsteerable(); why != "" && slices.ContainsFunc(m.o.Config.Sockets, byDefault) {
		m.log.Info().Msg("processes share their sockets: " + why)
	}
}

// An AliveError says that processes of a former supervisord still run. To start
// the services again beside them would give every one of them a second copy.
type AliveError struct {
	Processes []string // PID of SERVICE
	PIDs      []int
}

func (e *AliveError) Error() string {
	return fmt.Sprintf("cannot start: processes of a former supervisord still run: %s", strings.Join(e.Processes, ", "))
}

// Hint says how to go on.
func (e *AliveError) Hint() string {
	pids := strings.Trim(fmt.Sprint(e.PIDs), "[]")
	return fmt.Sprintf("this version cannot take them over; end them before you start supervisord again: kill %s (if they stay: kill -KILL %[1]s)", pids)
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
		if strings.HasPrefix(key, jobsKey) { // none of them can go on
			m.o.Store.Delete(key)
		}
		name, ok := strings.CutPrefix(key, recordKey)
		if !ok {
			continue
		}
		var r service.Record
		if err := m.o.Store.Get(key, &r); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			m.setAside(key, err)
			continue
		}
		alive.add(name, r)
		states[name] = unit.Service{LastGen: r.Service.LastGen, LastInv: r.Service.LastInv}
	}
	if len(alive.Processes) > 0 {
		slices.Sort(alive.Processes)
		slices.Sort(alive.PIDs)
		return nil, alive
	}
	return states, nil
}

// add names the processes in r that are alive.
func (e *AliveError) add(name string, r service.Record) {
	for _, text := range r.Traces {
		var t invocation.Trace
		if json.Unmarshal(text, &t) == nil && t.Alive() {
			e.Processes = append(e.Processes, fmt.Sprintf("pid %d of %s", t.PID, name))
			e.PIDs = append(e.PIDs, t.PID)
		}
	}
}

const recordKey = "service."

// setAside makes room for a record in place of one that is not to be believed.
func (m *Manager) setAside(key string, why error) {
	m.log.Warn().Msg(why.Error() + ": set aside")
	if err := m.o.Store.SetAside(key); err != nil {
		m.log.Warn().Msg(err.Error())
	}
}

// Bind binds every socket of the configuration, so that clients of those that
// are to be served queue from now on. A socket that cannot be bound is the
// problem of the services that need it: each start tries again. Then it binds the
// address of metrics, if there is to be one.
func (m *Manager) Bind() { m.furnish() }

// socketsOf are the sockets of a configuration, each as often as there are
// instances that have their own.
func socketsOf(c *config.Config) (all []*unit.Socket) {
	for _, s := range c.Sockets {
		for i := range instancesOf(c, s) {
			if of, err := s.Of(i); err == nil { // else a start says that there is no such port
				all = append(all, of)
			}
		}
	}
	return all
}

// instancesOf is how many sets of sockets a socket unit is.
func instancesOf(c *config.Config, s *unit.Socket) int {
	if !s.PerInstance() {
		return 1
	}
	for _, spec := range c.Services {
		if spec.Uses(s.Name) {
			return max(1, spec.Life.Instances)
		}
	}
	return 1
}

// doorFault is told what could not be done to a socket.
func (m *Manager) doorFault(name string, err error) {
	of, _ := unit.SplitSocket(name)
	m.fail(m.log.With().Str("unit", of+".socket").Logger(), err)
}

// fail logs an error with what to do about it, if it knows that.
func (m *Manager) fail(log zerolog.Logger, err error) {
	l := log.Error()
	if hint := process.HintOf(err); hint != "" {
		l = l.Str("hint", hint)
	}
	l.Msg(err.Error())
}
