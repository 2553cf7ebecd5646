package supervisor

import (
	"errors"
	"io/fs"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/ledger"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// What is stored besides the records of services: jobs, and which numbers events have.

const (
	jobsKey   = "jobs."
	eventsKey = "events"
)

// saveJobs stores the jobs of a service.
func (m *Manager) saveJobs(name string, r ledger.Record) {
	if err := m.o.Store.Put(jobsKey+name, r); err != nil {
		m.log.Error().Str("unit", name).Msg(err.Error())
	}
}

// firstEvents reserves the first block of numbers for events, and returns what is before
// it. Where that cannot be stored, the clock says a number that nobody has had.
func (m *Manager) firstEvents() uint64 {
	var upTo uint64
	err := m.o.Store.Get(eventsKey, &upTo)
	begin := max(upTo, ledger.Block)
	if errors.Is(err, fs.ErrNotExist) || err == nil {
		err = m.o.Store.Put(eventsKey, begin+ledger.Block)
	}
	if err != nil {
		m.log.Warn().Msg(err.Error())
		return uint64(time.Now().UnixNano())
	}
	return begin
}

func (m *Manager) reserveEvents(upTo uint64) {
	if err := m.o.Store.Put(eventsKey, upTo); err != nil {
		m.log.Warn().Msg(err.Error())
	}
}

// states are the states of a service, or of all (""), for who has missed how they came
// about.
func (rep *reporter) states(name string) (all []ipc.Event) {
	for _, e := range rep.roster.list() {
		if name == "" || e.Name() == name {
			sub := string(e.View().State.SubState())
			all = append(all, ipc.Event{Unit: e.Name(), Kind: unit.State, To: sub, Text: sub})
		}
	}
	return all
}
