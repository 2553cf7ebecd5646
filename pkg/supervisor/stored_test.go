package supervisor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/ledger"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

const withSleeper = `
[service.api]
type = "exec"
exec_start = ["/bin/sleep", "30"]
start = "manual"
restart = "on-failure"
[service.api.reload]
bake = "100ms"
`

const someRequest = "00112233445566778899aabbccddeeff"

// A request that is sent again begins nothing, and is no other's.
func TestARequestThatIsSentAgain(t *testing.T) {
	h := keepHouse(t, t.TempDir(), withSleeper)
	r := ipc.JobRequest{Verb: "start", Unit: "api", RequestID: someRequest}
	first, err := h.Submit(r, ipc.Caller{UID: 7})
	if err != nil {
		t.Fatal(err)
	}
	var stored ledger.Record
	if err := h.o.Store.Get(jobsKey+"api", &stored); err != nil || len(stored.Jobs) != 1 || stored.Jobs[0].Request != someRequest || *stored.Jobs[0].By != 7 {
		t.Errorf("%+v, %v", stored, err)
	}
	h.await(first.ID)
	if again, err := h.Submit(r, ipc.Caller{UID: 7}); err != nil || again.ID != first.ID || again.State != ipc.JobDone {
		t.Errorf("asked again it is %+v, %v", again, err)
	}
	for _, other := range []ipc.JobRequest{{Verb: "stop", Unit: "api", RequestID: someRequest}, {Verb: "start", Unit: "api", Size: 2, RequestID: someRequest}} {
		if _, err := h.Submit(other, ipc.Caller{UID: 7}); err == nil {
			t.Errorf("%+v is answered", other)
		}
	}
	if _, err := h.Submit(r, ipc.Caller{UID: 8}); err == nil {
		t.Error("somebody else is answered")
	}
}

// A signal is sent once for each request.
func TestASignalIsSentOnce(t *testing.T) {
	h := keepHouse(t, t.TempDir(), withSleeper)
	h.do(unit.Start)
	r := ipc.KillRequest{Unit: "api", Signal: 9, Whom: unit.KillMain, RequestID: someRequest}
	if err := h.Kill(r, ipc.Caller{}); err != nil {
		t.Fatal(err)
	}
	h.line("was killed by SIGKILL")
	if err := errors.Join(h.Kill(r, ipc.Caller{}), h.ResetFailed(ipc.UnitRequest{Unit: "api"}, ipc.Caller{})); err != nil {
		t.Fatal(err)
	}
	for line := range h.log {
		if strings.Contains(line, "asked to send") {
			t.Error("it is sent twice")
		}
		if strings.Contains(line, "asked to forget") {
			break
		}
	}
}

// Numbers of events are another supervisord's never again.
func TestEventsGetNewNumbers(t *testing.T) {
	h := keepHouse(t, t.TempDir(), withSleeper)
	first := h.firstEvents()
	h.reserveEvents(first + 5*ledger.Block)
	if next := h.firstEvents(); next != first+5*ledger.Block || first < 2*ledger.Block {
		t.Errorf("after %d comes %d", first, next)
	}
}

// What two supervisords have told of one event is one line.
func TestHistoryTellsNothingTwice(t *testing.T) {
	at := time.Unix(1e9, 0)
	exit := ipc.Record{Kind: ipc.RecordExit, Unit: "api", PID: 5, Text: "exited with status 1", Time: at}
	later := func(x ipc.Record, d time.Duration) ipc.Record { x.Time = x.Time.Add(d); return x }
	other := exit
	other.PID = 6
	job := ipc.Record{Kind: ipc.RecordJob, Unit: "api", Job: "17", Time: at}
	lost := ipc.Record{Kind: ipc.RecordLost, Time: at}
	told := tellings{}
	for i, x := range []struct {
		ipc.Record
		twice bool
	}{
		{later(exit, time.Hour), false}, {later(exit, time.Second), false}, {exit, true}, {other, false}, {later(job, time.Second), false}, {job, true}, {lost, false}, {lost, false},
	} {
		if got := told.twice(x.Record); got != x.twice {
			t.Errorf("%d is told twice: %v", i, got)
		}
	}
}
