package service

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A watch is what an actor has asked for about one process that settles.
type watch struct {
	ctx context.Context
	id  unit.Invocation
}

// onSettle has nothing to say of what settles; a test may do that.
func (b *bench) onSettle(ctx context.Context, id unit.Invocation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watches = append(b.watches, watch{ctx, id})
}

func (b *bench) watched() []watch {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.watches)
}

// traffic says how many wait at a process, and for how long nobody was taken.
func (b *bench) traffic(id unit.Invocation, waiting int, still time.Duration) {
	b.Tell(unit.Traffic{ID: id, Waiting: waiting, Taken: b.world.Now() - unit.Time(still)})
}

func (b *bench) saves() int {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.saved)
}

// steered has two processes of a steered service, of which the first settles now.
func steered(t *testing.T, f func(*bench)) {
	bubble(t, func(b *bench) {
		l := &b.spec.Life
		l.Steer, l.Settle, l.Empty = true, 2*time.Second, 10*time.Second
		b.do(unit.Start)
		b.want("reload", b.do(unit.Reload), unit.Done)
		b.want("phase of the old process", b.old().Phase, unit.Settling)
		f(b)
	}, good, good)
}

func (b *bench) old() unit.Proc { return append(b.now().Inst[0].Old, unit.Proc{})[0] }

// Whoever waits at one that hangs waits no longer than it takes to know that.
func TestOneThatHangsIsToldBeforeItHasSettled(t *testing.T) {
	steered(t, func(b *bench) {
		b.traffic(1, 60, unit.HungAfter-time.Millisecond)
		b.want("phase before", b.old().Phase, unit.Settling)
		b.traffic(1, 60, unit.HungAfter)
		b.want("phase", b.old().Phase, unit.Asked)
	})
}

func TestOneWhoseQueueIsEmptyHasItsTimeToSettle(t *testing.T) {
	steered(t, func(b *bench) {
		b.traffic(1, 0, 0)
		time.Sleep(time.Second)
		b.want("phase after a second", b.old().Phase, unit.Settling)
		time.Sleep(time.Second)
		b.want("phase after two", b.old().Phase, unit.Asked)
	})
}

func TestOneWhoseQueueGetsShorterHasMoreTime(t *testing.T) {
	steered(t, func(b *bench) {
		b.traffic(1, 60, 0)
		time.Sleep(2 * time.Second)
		b.want("phase when it has settled", b.old().Phase, unit.Emptying)
		b.traffic(1, 0, 0)
		b.want("phase when nobody waits", b.old().Phase, unit.Asked)
	})
}

func TestOneOfWhichNothingIsKnownGoesInTheEnd(t *testing.T) {
	steered(t, func(b *bench) {
		time.Sleep(12 * time.Second)
		b.want("phase", b.old().Phase, unit.Asked)
	})
}

// What settles is watched once, and as long as it does.
func TestTheWatchEndsWhenItIsTold(t *testing.T) {
	steered(t, func(b *bench) {
		all := b.watched()
		b.want("watches", len(all), 1)
		b.want("who is watched", all[0].id, unit.Invocation(1))
		time.Sleep(2 * time.Second)
		b.want("phase", b.old().Phase, unit.Emptying)
		b.want("the watch has ended", all[0].ctx.Err() != nil, false)
		b.traffic(1, 0, 0)
		b.want("watches", len(b.watched()), 1)
		b.want("the watch has ended", all[0].ctx.Err() != nil, true)
	})
}

func TestTheWatchEndsWhenItIsGone(t *testing.T) {
	steered(t, func(b *bench) {
		all, process := b.watched(), b.View().Runs[1].Handle
		b.Tell(unit.Gone{ID: 1})
		synctest.Wait()
		b.want("the watch has ended", all[0].ctx.Err() != nil, true)
		process.Signal(syscall.SIGTERM, unit.ProcessOnly)
	})
}

func TestTheWatchEndsWithTheActor(t *testing.T) {
	steered(t, func(b *bench) {
		all := b.watched()
		b.Close()
		synctest.Wait()
		b.want("the watch has ended", all[0].ctx.Err() != nil, true)
		for _, r := range b.View().Runs {
			r.Handle.Signal(syscall.SIGTERM, unit.ProcessOnly)
		}
		time.Sleep(time.Minute) // the processes end
	})
}

// News of those who wait come many times a second.
func TestNewsThatChangeNothingAreNotStored(t *testing.T) {
	steered(t, func(b *bench) {
		before := b.saves()
		for range 20 {
			b.traffic(1, 7, 100*time.Millisecond)
		}
		b.want("records", b.saves(), before)
	})
}

// A process has its clients before it is started, and none any more before it is
// told to go.
func TestSteeredBeforeStartedAndBeforeTold(t *testing.T) {
	bubble(t, func(b *bench) {
		b.spec.Life.Steer = true
		start := b.world.Start
		b.world.Start = func(ctx context.Context, o Order) { b.note("start %d", o.ID); start(ctx, o) }
		b.world.Steer = func(to unit.Steer) { b.note("steer %v %v", to.Shares, to.Closed) }
		b.do(unit.Start)
		b.do(unit.Restart)
		b.do(unit.Stop)
		b.want("what was done", b.noted(), []string{
			"steer [{1 100}] false", "start 1",
			"steer [] false", "terminated 1", "steer [{2 100}] false", "start 2",
			"steer [] true", "terminated 2",
		})
	}, good, good)
}

func (b *bench) noted() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.notes)
}

func (b *bench) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}
