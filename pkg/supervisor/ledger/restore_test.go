package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A shelf keeps the records of one ledger for the next, as text.
type shelf map[string][]byte

func (s shelf) world() World {
	return World{
		Account:  func(*service.View) []ipc.SocketAccount { return nil },
		Queueing: func(*service.View) []string { return nil },
		Shared:   func(*service.View) []string { return nil },
		Remember: func(ipc.Record) {},
		Log:      func(ipc.Event, unit.Change) {},
		Save:     func(name string, r Record) { s[name], _ = json.Marshal(r) },
		States: func(name string) []ipc.Event {
			return []ipc.Event{{Unit: "api", Kind: unit.State, To: "running"}}
		},
	}
}

// next is the ledger of the next supervisord.
func (s shelf) next(t *testing.T, begin uint64) (*Ledger, []Unfinished) {
	all := map[string]Record{}
	for name, text := range s {
		var r Record
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatal(err)
		}
		all[name] = r
	}
	l := New(0, s.world())
	l.Begin(begin)
	return l, l.Restore(all)
}

func ends(l *Ledger, id unit.JobID, r unit.JobResult) {
	l.Changed([]unit.Change{{Kind: unit.Finished, Finish: unit.Finish{Jobs: []unit.JobID{id}, Result: r}}}, unit.Service{}, &service.View{Name: "api"})
}

// A request that is sent again gets its job: from the same supervisord and from the next,
// in progress and when it has ended.
func TestARequestGetsOneJob(t *testing.T) {
	s, uid := shelf{}, uint32(1000)
	ask := Ask{By: &uid, Request: "00112233445566778899aabbccddeeff", Size: 3}
	l, _ := s.next(t, Block)
	id, _, asked := l.Asked("api", unit.Scale, ask)
	if !asked || len(s) != 1 {
		t.Fatal("it is not stored when it is asked for")
	}
	for range 2 {
		again, _, asked := l.Asked("api", unit.Scale, ask)
		if known, ok := l.Repeated(ask.Request); again != id || asked || known != id || !ok {
			t.Fatalf("asked again it is %d, and asked: %v", again, asked)
		}
		l, _ = s.next(t, 2*Block)
	}
	if !l.Same(id, "api", unit.Scale, ask) || l.Same(id, "api", unit.Scale, Ask{Request: ask.Request, Size: 3}) || l.Same(id, "web", unit.Scale, ask) {
		t.Error("it is not known who asked for what")
	}
	l, todo := s.next(t, 3*Block)
	if len(todo) != 1 || todo[0].ID != id || todo[0].Unit != "api" || todo[0].Verb != unit.Scale || todo[0].Size != 3 || *todo[0].By != uid {
		t.Errorf("in progress are %+v", todo)
	}
	ends(l, id, unit.Done)
	l, todo = s.next(t, 4*Block)
	if j, ok := l.JobOf(id); !ok || j.State != ipc.JobDone || len(todo) != 0 {
		t.Errorf("it ended, and is %+v", j)
	}
	if again, ended, asked := l.Asked("api", unit.Scale, ask); again != id || asked {
		t.Error("it is begun again when it has ended")
	} else {
		<-ended
	}
	if other, _, _ := l.Asked("api", unit.Stop, Ask{}); other != id+1 {
		t.Errorf("the next job is %d", other)
	}
}

// A job that no actor has taken is asked for anew, not found.
func TestAJobTakenBackIsForgotten(t *testing.T) {
	s := shelf{}
	l, _ := s.next(t, Block)
	ask := Ask{Request: "00112233445566778899aabbccddeeff"}
	id, _, _ := l.Asked("api", unit.Stop, ask)
	l.Unasked(id)
	l, todo := s.next(t, 2*Block)
	if again, _, asked := l.Asked("api", unit.Stop, ask); again == id || !asked || len(todo) > 0 {
		t.Errorf("%d, %v", again, todo)
	}
}

// A job ends once, whoever tells that.
func TestAJobEndsOnce(t *testing.T) {
	s, n := shelf{}, 0
	l, _ := s.next(t, Block)
	id, _, _ := l.Asked("api", unit.Stop, Ask{})
	ends(l, id, unit.Done)
	l, _ = s.next(t, 2*Block)
	l.world.Remember = func(ipc.Record) { n++ }
	ends(l, id, unit.Done)
	if n > 0 {
		t.Error("its end is remembered twice")
	}
}

// What is stored with a unit has a bound, and what is in progress is in it.
func TestRecordsAreBounded(t *testing.T) {
	s := shelf{}
	l, _ := s.next(t, Block)
	first, _, _ := l.Asked("api", unit.Start, Ask{})
	for range 100 {
		id, _, _ := l.Asked("api", unit.Stop, Ask{})
		ends(l, id, unit.Done)
		l.Did("api", fmt.Sprint(id))
	}
	if r := l.record("api"); len(r.Jobs) != keptWithUnit+1 || r.Jobs[0].Job.ID != nameOf(first) || len(r.Done) != keptWithUnit {
		t.Errorf("%d jobs are stored, the first is %s", len(r.Jobs), r.Jobs[0].Job.ID)
	}
	l, _ = s.next(t, 2*Block)
	if !l.HasDone("api", nameOf(first+100)) || l.HasDone("api", nameOf(first+1)) || l.HasDone("api", "") {
		t.Error("what was done is not known")
	}
}

func kindsOf(l *Ledger, since uint64) (kinds []string) {
	quit := make(chan struct{})
	close(quit)
	for e := range l.Follow(context.Background(), since, "", quit) {
		kinds = append(kinds, fmt.Sprint(e.Kind, " ", e.Seq, " ", e.Missed))
	}
	return kinds
}

// Who follows what happens, and has events of a former supervisord, is told that there is
// something missing and how things are. Numbers go on.
func TestFollowersFromBefore(t *testing.T) {
	s := shelf{}
	l, _ := s.next(t, 2*Block)
	l.add(ipc.Event{Unit: "api", Kind: unit.IsReady})
	restarted := []string{fmt.Sprint("restarted ", 2*Block, " true"), fmt.Sprint("state ", 2*Block, " false")}
	ready := fmt.Sprint("ready ", 2*Block+1, " false")
	for since, want := range map[uint64][]string{
		1: append(slices.Clone(restarted), ready), Block + 17: append(slices.Clone(restarted), ready),
		2 * Block: {ready}, 2*Block + 1: nil,
	} {
		if got := kindsOf(l, since); !slices.Equal(got, want) {
			t.Errorf("since %d: %v, want %v", since, got, want)
		}
	}
}

// Who follows a job is told how it ends, whenever that was.
func TestAJobIsFollowedOverARestart(t *testing.T) {
	for _, before := range []bool{true, false} {
		s := shelf{}
		l, _ := s.next(t, Block)
		id, _, _ := l.Asked("api", unit.Stop, Ask{})
		if before {
			ends(l, id, unit.Failed)
		}
		l, _ = s.next(t, 2*Block)
		if !before {
			ends(l, id, unit.Failed)
		}
		var last ipc.Event
		finished := 0
		for e := range l.FollowJob(t.Context(), nameOf(id), Block+1, make(chan struct{}), func() bool { return true }) {
			if last = e; e.Kind == unit.Finished {
				finished++
			}
		}
		if last.Job == nil || last.Job.State != ipc.JobFailed || finished != 1 {
			t.Errorf("ended before: %v; the last that it is told is %+v, and %d ends", before, last, finished)
		}
	}
}

// Numbers of events are reserved before they are used, and ahead of need.
func TestNumbersAreReserved(t *testing.T) {
	upTo := uint64(2 * Block)
	l := New(0, World{Reserve: func(n uint64) { upTo = n }})
	l.Begin(Block)
	for range 5 {
		l.journal.last = upTo - Block/2 - 10
		l.add(make([]ipc.Event, 10)...)
		if l.End()+Block/2 != upTo {
			t.Fatalf("event %d, and %d are reserved", l.End(), upTo)
		}
		if l.add(ipc.Event{}); upTo < l.End()+Block {
			t.Fatalf("after event %d, %d are reserved", l.End(), upTo)
		}
	}
}
