// Package supervisor keeps services in the states that their operator asked for.
//
// A [Manager] owns what all services share and wires it: the configuration that was
// loaded, sockets (package doors), starts (invocation), what was asked and what
// happened (ledger). Each service is an actor of its own (service), which asks
// [unit.Step] what to do. Requests go down from the Manager to the actors; what
// happens comes up as entries of the ledger, and as snapshots that anyone may read
// without waiting for an actor. No actor calls the Manager.
package supervisor

import (
	"io"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/doors"
	"github.com/supervisord-go/supervisord/pkg/supervisor/history"
	"github.com/supervisord-go/supervisord/pkg/supervisor/invocation"
	"github.com/supervisord-go/supervisord/pkg/supervisor/ledger"
	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/store"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Options are what a Manager is given by main.
type Options struct {
	Config  *config.Config
	Store   *store.Store
	Table   *socket.Table
	State   *safepath.Dir // state_directory
	Logs    *safepath.Dir // log_directory; nil: there is none
	Forward io.Writer     // gets the output of services that are to forward it; nil: none
	Journal logs.Journal  // the same for systemd's journal
	Epoch   string        // of event numbers; "": a new one
	Log     zerolog.Logger
	// Reload reads the configuration's files anew.
	Reload  func() (*config.Config, []config.Problem)
	Version string
	// Sole: every child of this program that nobody here has started is reaped, see
	// [process.Options].
	Sole bool
}

// A Manager runs services. Its methods are safe for use by several goroutines.
type Manager struct {
	*roster
	actors  *actors
	report  *reporter
	o       Options
	log     zerolog.Logger
	epoch   string
	began   time.Time
	doors   *doors.Doors
	runner  *invocation.Runner
	ledger  *ledger.Ledger
	numbers *numbers
	trier   *trier
	history *history.Log
	metrics *metrics.Server
	sinks   sinks
	quit    chan struct{} // closed when all has ended
	ended   sync.Once     // of which
	closing sync.Once
}

// now is CLOCK_MONOTONIC.
func now() unit.Time {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // there is no Linux without it
	}
	return unit.Time(t.Nano())
}

// Start starts what is to be started with supervisord. It does not wait for it.
func (m *Manager) Start() {
	for _, e := range m.list() {
		if e.spec != nil && e.spec.Boot {
			id, _, _ := m.ledger.Asked(e.Name(), unit.Start, ledger.Ask{})
			m.give(e, id, unit.Asks{Job: unit.Job{ID: id, Verb: unit.Start}, Build: &unit.Build{Spec: e.spec}})
		}
	}
}

// give gives a job to its actor, and takes it back where there is none.
func (m *Manager) give(e entry, id unit.JobID, a unit.Asks) bool {
	if e.Tell(a) {
		return true
	}
	m.ledger.Unasked(id)
	return false
}

// Stop ends every service, and returns when all are down, or when what is left
// cannot be ended. No verb starts one from then on. Who follows what happens is told
// the rest of it, and that there is no more.
func (m *Manager) Stop() {
	m.roster.end()
	var down sync.WaitGroup
	for _, e := range m.list() {
		down.Go(func() { m.endOne(e) })
	}
	down.Wait()
	m.tellEnd()
}

func (m *Manager) tellEnd() { m.ended.Do(func() { close(m.quit) }) }

func (m *Manager) endOne(e entry) {
	id, ended, _ := m.ledger.Asked(e.Name(), unit.End, ledger.Ask{})
	if m.give(e, id, unit.Asks{Job: unit.Job{ID: id, Verb: unit.End}}) {
		<-ended
	}
}

// KillAll sends SIGKILL to every process of every service.
func (m *Manager) KillAll() {
	for _, e := range m.list() {
		go e.Tell(unit.Kills{Signal: unix.SIGKILL, Whom: unit.KillAll})
	}
}

// Close ends the actors, after Stop. Sockets and store belong to the caller.
func (m *Manager) Close() { m.closing.Do(m.close) }

func (m *Manager) close() {
	m.metrics.Close()
	m.tellEnd()
	for _, e := range m.list() {
		e.Close()
	}
	m.actors.wait()
	m.numbers.close(m.ledger.Last())
	m.history.Close()
	m.sinks.each(func(_ string, k *logs.Sink) { k.Close() })
	m.runner.Launcher.Close() // with the cgroups that are empty
}
