package ledger

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func TestFollowOneUnit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, quit := New(0, World{}), make(chan struct{})
		j.add(ipc.Event{Unit: "api", Text: "before"})
		var got []string
		go func() {
			for e := range j.Follow(t.Context(), 1, "api", quit) {
				got = append(got, fmt.Sprint(e.Seq, e.Text))
			}
		}()
		synctest.Wait()
		j.add(ipc.Event{Unit: "web", Text: "other"}, ipc.Event{Unit: "api", Text: "one"})
		synctest.Wait()
		j.add(ipc.Event{Unit: "web", Text: "other"})
		j.add(ipc.Event{Unit: "api", Text: "two"})
		synctest.Wait()
		close(quit)
		synctest.Wait()
		if want := "[3one 5two]"; fmt.Sprint(got) != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// What happens last is told, also if that is the end of it all.
func TestFollowTellsTheLast(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			j, quit, got := New(0, World{}), make(chan struct{}), 0
			go func() {
				for range j.Follow(t.Context(), 0, "api", quit) {
					got++
				}
			}()
			synctest.Wait()
			j.add(ipc.Event{Unit: "api"})
			close(quit)
			synctest.Wait()
			if got != 1 {
				t.Fatal("it is not told the last event")
			}
		})
	}
}

// A job has not ended for who waits for it before its followers can know.
func TestTheEndOfAJobIsInTheJournal(t *testing.T) {
	l := New(0, World{})
	id, ended, _ := l.Asked("api", unit.Start, Ask{})
	l.world.Log = func(ipc.Event, unit.Change) {
		select {
		case <-ended:
			t.Error("it has ended before that is in the journal")
		default:
		}
	}
	l.world.Remember = func(ipc.Record) {}
	l.Changed([]unit.Change{{Kind: unit.Finished, Finish: unit.Finish{Jobs: []unit.JobID{id}, Result: unit.Done}}}, unit.Service{}, &service.View{Name: "api"})
	<-ended
}

// Who is slower than the journal is long is told how much is missing, once.
func TestFollowTellsWhatIsLost(t *testing.T) {
	j, quit := New(0, World{}), make(chan struct{})
	const all = 3 * keptEvents
	for range all {
		j.add(ipc.Event{Unit: "api"})
	}
	close(quit)
	var lost, got uint64
	for e := range j.Follow(t.Context(), 0, "api", quit) {
		if e.Type == "lost" {
			lost += e.Lost
		} else {
			got++
		}
	}
	if lost == 0 || lost+got != all {
		t.Errorf("%d lost and %d told of %d", lost, got, all)
	}
}

// A thousand units that start at once have a thousand jobs and many more events
// than the journal keeps. Each job can be asked about, and its follower is told
// of its end although the event is gone.
func TestAThousandJobsAtOnce(t *testing.T) {
	l := New(0, World{})
	var ids []unit.JobID
	for i := range 1000 {
		id, _, _ := l.Asked(fmt.Sprintf("s%d", i), unit.Start, Ask{})
		ids = append(ids, id)
	}
	for _, id := range ids {
		e, _ := l.end(id, unit.Done, nil, func(*job) {})
		l.add(e.finished())
	}
	for range 2 * keptEvents {
		l.add(ipc.Event{Unit: "other"})
	}
	for _, id := range ids {
		var last ipc.Event
		for e := range l.FollowJob(t.Context(), nameOf(id), 0, make(chan struct{}), func() bool { return true }) {
			last = e
		}
		if last.Kind != unit.Finished || last.State != ipc.JobDone || last.Job == nil || last.Job.State != ipc.JobDone {
			t.Fatalf("job %d: the last that its follower is told is %+v", id, last)
		}
	}
}

func TestOldJobsAreForgotten(t *testing.T) {
	l := New(0, World{})
	for range keptJobs + 10 {
		id, _, _ := l.Asked("api", unit.Start, Ask{})
		l.end(id, unit.Done, nil, func(*job) {})
	}
	if _, ok := l.get(10); ok || len(l.jobs.byID) != keptJobs {
		t.Errorf("%d jobs are kept", len(l.jobs.byID))
	}
	if _, ok := l.get(11); !ok {
		t.Error("one is forgotten too early")
	}
}

// Who follows a quiet unit has lost nothing when another one had more events than
// are kept.
func TestAQuietUnitLosesNothing(t *testing.T) {
	l, quit := New(0, World{}), make(chan struct{})
	l.add(ipc.Event{Unit: "quiet"})
	for range 3 * keptEvents {
		l.add(ipc.Event{Unit: "loud"})
	}
	l.add(ipc.Event{Unit: "quiet"})
	close(quit)
	var got []string
	for e := range l.Follow(t.Context(), 1, "quiet", quit) {
		got = append(got, e.Type)
	}
	if fmt.Sprint(got) != "[event]" {
		t.Errorf("it is told %v, want one event", got)
	}
}

// Units that come and go leave no more than there may be events.
func TestUnitsThatComeAndGoAreForgotten(t *testing.T) {
	j := New(0, World{})
	for i := range 4 * keptEvents {
		name := fmt.Sprint("n", i)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range j.Follow(ctx, j.End(), name, nil) {
		}
		j.add(ipc.Event{Unit: "api"}, ipc.Event{Unit: name})
		j.Forget(name)
	}
	if len(j.gone) > keptEvents || len(j.wake) > 1 {
		t.Errorf("%d names of units are kept, and %d are waited for", len(j.gone), len(j.wake))
	}
	if j.gone["api"] == 0 {
		t.Error("what the unit has lost that is always there is not known")
	}
}

// What the ledger asks of others may take its time, so it holds no lock meanwhile.
func TestNobodyIsAskedUnderTheLock(t *testing.T) {
	asked := 0
	var l *Ledger
	free := func() {
		if asked++; !l.mu.TryLock() {
			t.Error("the ledger is locked")
			return
		}
		l.mu.Unlock()
	}
	l = New(0, World{
		Account:  func(*service.View) []ipc.SocketAccount { free(); return nil },
		Queueing: func(*service.View) []string { free(); return nil },
		Remember: func(ipc.Record) { free() },
		Log:      func(ipc.Event, unit.Change) { free() },
	})
	v := &service.View{Name: "api"}
	for _, verb := range []unit.Verb{unit.Stop, unit.Reload} {
		id, _, _ := l.Asked("api", verb, Ask{})
		l.Changed([]unit.Change{{Kind: unit.Begun, Job: unit.Job{ID: id, Verb: verb}}}, unit.Service{}, v)
		l.Changed([]unit.Change{{Kind: unit.Finished, Finish: unit.Finish{Jobs: []unit.JobID{id}, Result: unit.Done}}}, unit.Service{}, v)
	}
	if asked < 8 {
		t.Errorf("others are asked %d times", asked)
	}
}
