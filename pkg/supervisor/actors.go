package supervisor

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/supervisord-go/supervisord/pkg/supervisor/doors"
	"github.com/supervisord-go/supervisord/pkg/supervisor/invocation"
	"github.com/supervisord-go/supervisord/pkg/supervisor/ledger"
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/notify"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/store"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// actors makes the actors, and does what they order. None of it takes a lock of
// the Manager's or the roster's.
type actors struct {
	log     zerolog.Logger
	store   *store.Store
	doors   *doors.Doors
	runner  *invocation.Runner
	numbers *numbers
	ledger  *ledger.Ledger
	vanish  func(service string) // is called when the actor has ended
	running *sync.WaitGroup
}

// wait returns when all have ended.
func (as *actors) wait() { as.running.Wait() }

// add makes the actor of a service, and lets it run.
func (as *actors) add(name string, state unit.Service, counts *metrics.Counters) *service.Actor {
	var a *service.Actor
	a = service.New(name, state, service.World{
		Now:   now,
		Save:  func(r service.Record) error { return as.save(name, r) },
		Doors: func(w []unit.Door) { as.setDoors(name, w) },
		Steer: func(to unit.Steer) { as.steer(name, to) },
		Start: func(ctx context.Context, o service.Order) { as.start(ctx, a, o) },
		Settle: func(ctx context.Context, id unit.Invocation) {
			as.runner.Go(func() { as.settle(ctx, a, id) })
		},
		Changed: func(cs []unit.Change, before unit.Service, v *service.View) {
			if slices.ContainsFunc(cs, func(c unit.Change) bool { return c.Kind == unit.IsReady }) {
				as.doors.Check(name)
			}
			count(counts, cs, as.ledger.Changed(cs, before, v), v)
		},
		Counts: counts.Record,
		Vanish: func() { as.vanish(name) },
	})
	as.running.Go(a.Run)
	return a
}

// save stores what the next supervisord must know.
func (as *actors) save(name string, r service.Record) error {
	as.numbers.note(name, r.Service.LastGen, r.Service.LastInv)
	err := as.store.Put(recordKey+name, r)
	if err != nil {
		as.numbers.unsure(name)
	}
	return err
}

// start starts an invocation of a service.
func (as *actors) start(ctx context.Context, a *service.Actor, o service.Order) {
	pinned, _ := o.Pinned.(program)
	as.runner.Start(ctx, invocation.Order{
		ID: o.ID, Gen: o.Gen, Inst: o.Inst, Spec: o.Spec, Run: o.Invocation, Pinned: pinned.Executable, Fresh: o.Fresh, Failed: o.Failed,
	}, owner{a, o.ID})
}

// An owner tells an actor what becomes of one invocation.
type owner struct {
	*service.Actor
	id unit.Invocation
}

func (o owner) Staged(i *invocation.Invocation) {
	if !o.Tell(service.Staged{ID: o.id, Handle: handle{i}}) {
		i.Proceed(service.ErrEnded)
	}
}

func (o owner) Said(m notify.Message, stored func()) {
	o.Tell(service.Heard{
		ID: o.id, Notice: m.Notice, Status: m.Status, Errno: m.Errno, Reloading: m.Reloading, Stored: stored,
	})
}

func (o owner) Happened(e unit.Event) { o.Tell(e) }

// A handle is an invocation as an actor sees it.
type handle struct{ *invocation.Invocation }

func (h handle) Program() service.Program {
	if e := h.Executable(); e != nil {
		return program{e}
	}
	return nil
}

// A program is an executable as an actor sees it.
type program struct{ *process.Executable }

// Trace is what the next supervisord is to know of the file besides its descriptor.
func (p program) Trace() json.RawMessage {
	text, err := json.Marshal(struct{ Path string }{p.Path()})
	if err != nil {
		panic(err) // it is a string
	}
	return text
}

// setDoors says which sockets a service needs. One that needs none has no process
// that could hand connections on.
func (as *actors) setDoors(name string, wanted []unit.Door) {
	as.doors.Set(name, wanted)
	if len(wanted) == 0 {
		as.runner.Pairs.Drop(name)
	}
}

// steer says who of a service gets new connections.
func (as *actors) steer(name string, to unit.Steer) {
	if err := as.doors.Steer(name, to.Shares, to.Closed); err != nil {
		as.log.Error().Str("unit", name).Msg(err.Error())
	}
}

// settle tells how it stands with who waits for a process that settles.
func (as *actors) settle(ctx context.Context, a *service.Actor, id unit.Invocation) {
	who := doors.Process{Service: a.Name(), ID: id}
	look := func() (int, time.Duration) { return as.doors.Waiting(who) }
	watch(ctx, look, func(waiting int, still time.Duration) {
		a.Tell(unit.Traffic{ID: id, Waiting: waiting, Taken: now() - unit.Time(still)})
	})
}

// lookAgain is how often it is looked at who waits.
const lookAgain = 50 * time.Millisecond

// watch looks until ctx is done, and tells what it sees at first and whenever
// somebody waits where nobody did, nobody does any more, or for how long nobody
// was taken is a matter for the rules.
func watch(ctx context.Context, look func() (waiting int, still time.Duration), tell func(int, time.Duration)) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	told := ""
	for ctx.Err() == nil {
		waiting, still := look()
		if is := standing(waiting, still); is != told {
			tell(waiting, still)
			told = is
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// standing is what the rules make of how many wait, and for how long nobody was taken.
func standing(waiting int, still time.Duration) string {
	switch {
	case waiting == 0:
		return "empty"
	case still >= unit.HungAfter:
		return "hangs"
	}
	return "waits"
}
