package supervisor

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func TestFollowOneUnit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, quit := newJournal(), make(chan struct{})
		j.add(ipc.Event{Unit: "api", Text: "before"})
		var got []string
		go func() {
			for e := range j.follow(t.Context(), 1, "api", quit) {
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

// Who is slower than the journal is long is told how much is missing, once.
func TestFollowTellsWhatIsLost(t *testing.T) {
	j, quit := newJournal(), make(chan struct{})
	const all = 3 * keptEvents
	for range all {
		j.add(ipc.Event{Unit: "api"})
	}
	close(quit)
	var lost, got uint64
	for e := range j.follow(t.Context(), 0, "api", quit) {
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
	m := &Manager{jobs: newJobs("e"), journal: newJournal(), quit: make(chan struct{}), services: map[string]*service{}}
	var ids []unit.JobID
	for i := range 1000 {
		ids = append(ids, m.jobs.add(fmt.Sprintf("s%d", i), unit.Start, nil, m.journal.end()))
	}
	for _, id := range ids {
		m.jobs.end(id, unit.Done, nil)
		e, _ := m.jobs.get(id)
		m.journal.add(e.finished())
	}
	for range 2 * keptEvents {
		m.journal.add(ipc.Event{Unit: "other"})
	}
	for _, id := range ids {
		events, err := m.JobEvents(t.Context(), m.jobs.name(id), 0, false)
		if err != nil {
			t.Fatal(err)
		}
		var last ipc.Event
		for e := range events {
			last = e
		}
		if last.Kind != unit.Finished || last.State != ipc.JobDone {
			t.Fatalf("job %d: the last that its follower is told is %+v", id, last)
		}
	}
}

func TestOldJobsAreForgotten(t *testing.T) {
	j := newJobs("e")
	for range keptJobs + 10 {
		j.end(j.add("api", unit.Start, nil, 0), unit.Done, nil)
	}
	if _, ok := j.get(10); ok || len(j.byID) != keptJobs {
		t.Errorf("%d jobs are kept", len(j.byID))
	}
	if _, ok := j.get(11); !ok {
		t.Error("one is forgotten too early")
	}
}
