package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/history"
	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/store"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A household is a Manager with real processes, in a directory that the next one
// goes on with.
type household struct {
	*testing.T
	*Manager
	log logLines
	end func()
}

// logLines are the lines of a Manager's own log.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// line waits for the next line of the log with this in it.
func (h *household) line(part string) string {
	h.Helper()
	for {
		select {
		case line := <-h.log:
			if strings.Contains(line, part) {
				return line
			}
		case <-h.Context().Done():
			h.Fatalf("it never says %q", part)
		}
	}
}

// keepHouse runs a Manager by a configuration until end is called.
func keepHouse(t *testing.T, dir, text string) *household {
	t.Helper()
	c, problems := config.Decode(filepath.Join(dir, "test.toml"), []byte(text), config.Options{Environ: os.Environ()})
	if c == nil {
		t.Fatal(problems)
	}
	s, err := store.Open(filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	state, err := safepath.MakeDir(filepath.Join(dir, "state"), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	table := socket.NewTable(nil)
	log := make(logLines, 1000)
	m, err := New(Options{Config: c, Store: s, Table: table, State: state, Log: zerolog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	m.Bind()
	h := &household{T: t, Manager: m, log: log}
	h.end = func() {
		m.Stop()
		m.Close()
		table.Close()
		state.Close()
		s.Close()
		h.end = func() {}
	}
	t.Cleanup(func() { h.end() })
	return h
}

// do has uid 1000 ask for a job of api, and returns when it has ended.
func (h *household) do(v unit.Verb) {
	h.Helper()
	j, err := h.Submit(ipc.JobRequest{Verb: v.String(), Unit: "api"}, ipc.Caller{UID: 1000})
	if err != nil {
		h.Fatal(err)
	}
	h.await(j.ID)
}

func (h *household) await(job string) {
	h.Helper()
	events, err := h.JobEvents(h.Context(), job, 0, false)
	if err != nil {
		h.Fatal(err)
	}
	for range events {
	}
}

// tells compares the history with what is to be in it, a record a line.
func (h *household) tells(want ...string) {
	h.Helper()
	x, err := h.History(ipc.HistoryRequest{N: ipc.MaxRecords})
	if err != nil || len(x.Notes) > 0 {
		h.Error(err, x.Notes)
	}
	var got []string
	for _, r := range x.Records {
		got = append(got, brieflyOf(r))
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		h.Errorf("the history is\n%s\nwant\n%s", g, w)
	}
}

// brieflyOf is r without what differs from run to run.
func brieflyOf(r ipc.Record) string {
	switch r.Kind {
	case ipc.RecordExit:
		return fmt.Sprintf("%s: generation %d %s", r.Unit, r.Generation, r.Text)
	case ipc.RecordLost:
		return fmt.Sprintf("%d lost", r.Lost)
	}
	who := "by itself"
	if r.UID != nil {
		who = fmt.Sprint("by ", *r.UID)
	}
	text := fmt.Sprintf("%s: %s %d -> %d %s %s", r.Unit, r.Verb, r.From, r.Generation, who, r.State)
	if r.Error != nil {
		text += ": " + string(r.Error.Code)
	}
	for _, a := range r.Sockets {
		text += fmt.Sprintf(", %s: %d dropped", a.Unit, a.Drops)
	}
	return text
}

const withSocket = `
[socket.http]
listen_stream = ["127.0.0.1:0"]
[service.api]
exec_start = ["$PROGRAM", "1000"]
sockets = ["http"]
start = "manual"
restart_sec = "1h"
restart_max_delay_sec = "1h"
restart_reset_sec = "1h"
[service.api.reload]
bake = "1ms"
`

// What was asked, what crashed and what was lost is known to the next Manager,
// and is there once.
func TestHistoryOfAService(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "api")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink("/bin/sleep", program))
	configuration := strings.ReplaceAll(withSocket, "$PROGRAM", program)
	h := keepHouse(t, dir, configuration)
	h.do(unit.Start)
	h.do(unit.Reload)
	must(os.Remove(program))
	h.do(unit.Reload) // to nothing
	h.do(unit.Start)  // which it is: done at once
	before := h.ledger.End()
	must(h.Kill(ipc.KillRequest{Unit: "api", Signal: int(syscall.SIGSEGV), Whom: unit.KillMain}, ipc.Caller{}))
	for e := range h.Events(t.Context(), before) {
		if e.Kind == unit.HasExited && e.Generation == 2 {
			break
		}
	}
	first := []string{
		"api: start 0 -> 1 by 1000 done",
		"api: reload 1 -> 2 by 1000 done, http: 0 dropped",
		"api: reload 2 -> 3 by 1000 failed: failed, http: 0 dropped",
		"api: start 0 -> 2 by 1000 done",
		"api: generation 2 was killed by SIGSEGV",
	}
	h.tells(first...)
	h.end()

	stopped := append(first, "api: stop 2 -> 2 by itself done")
	h = keepHouse(t, dir, configuration)
	h.tells(stopped...)
	h.do(unit.Stop) // it is down
	h.tells(append(stopped, "api: stop 0 -> 0 by 1000 done")...)
}

// A history that cannot be kept is said once, in the log and in the status, and
// holds nothing up. What is in memory is told.
func TestHistoryThatCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "state", history.Name), 0o755); err != nil {
		t.Fatal(err)
	}
	h := keepHouse(t, dir, strings.ReplaceAll(withSocket, "$PROGRAM", "/bin/sleep"))
	h.do(unit.Start)
	h.line("cannot keep the history: ")
	st, err := h.Status(nil)
	if err != nil || len(st.Degraded) != 1 || !strings.Contains(st.Degraded[0], "cannot keep the history: ") {
		t.Errorf("%v; degraded: %q", err, st.Degraded)
	}
	h.do(unit.Reload)
	if err := os.Remove(filepath.Join(dir, "state", history.Name)); err != nil {
		t.Fatal(err)
	}
	h.tells("api: start 0 -> 1 by 1000 done", "api: reload 1 -> 2 by 1000 done, http: 0 dropped")
	h.end()
	for len(h.log) > 0 {
		if line := <-h.log; strings.Contains(line, "cannot keep") {
			t.Errorf("it says again: %s", line)
		}
	}
	h = keepHouse(t, dir, strings.ReplaceAll(withSocket, "$PROGRAM", "/bin/sleep"))
	h.tells("api: start 0 -> 1 by 1000 done", "api: reload 1 -> 2 by 1000 done, http: 0 dropped", "api: stop 2 -> 2 by itself done")
}

// Earlier versions counted apart what a steered socket had reset, or had had the client
// try again.
func TestRecordsOfEarlierVersionsAreRead(t *testing.T) {
	h := keepHouse(t, t.TempDir(), strings.ReplaceAll(withSocket, "$PROGRAM", "/bin/sleep"))
	h.history.Add([]byte(`{"kind":"job","unit":"api","verb":"reload","state":"done","from":1,"generation":2,"sockets":[` +
		`{"unit":"http","address":"127.0.0.1:80","drops":1,"retried":4,"lost":2},{"unit":"local","address":"/run/x.sock","drops":3}]}` + "\n"))
	h.tells("api: reload 1 -> 2 by itself done, http: 3 dropped, local: 3 dropped")
}

func TestHistoryOfUnits(t *testing.T) {
	h := keepHouse(t, t.TempDir(), strings.ReplaceAll(withSocket, "$PROGRAM", "/bin/sleep"))
	for i, name := range []string{"api", "gone", "api", "gone"} {
		remember(h.Manager.log, h.history, ipc.Record{Kind: ipc.RecordExit, Unit: name, Generation: uint32(i)})
	}
	h.history.Add([]byte(`{"kind":"from the future","unit":"later","generation":{}}` + "\n"))
	h.history.Add([]byte(`{"kind":"lost","lost":7}` + "\n"))
	h.history.Add([]byte(`{"kind":"exit","unit":"ap` + "\n"))
	for _, c := range []struct {
		n     int
		units []string
		want  string
	}{
		{5, nil, "[0 1 2 3 0]"},
		{2, nil, "[3 0]"},
		{5, []string{"api"}, "[0 2 0]"},
		{2, []string{"gone"}, "[3 0]"},
		{1, []string{"gone", "api"}, "[0]"},
		{5, []string{"later"}, "[0]"}, // it is known, in words that are not
		{5, []string{"nope"}, "cannot show the history of nope: no such service"},
	} {
		x, err := h.History(ipc.HistoryRequest{Units: c.units, N: c.n})
		var numbers []uint32
		for _, r := range x.Records {
			numbers = append(numbers, r.Generation)
		}
		got := fmt.Sprint(numbers)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("the last %d of %q: %s, want %s", c.n, c.units, got, c.want)
		}
		if want := []string{"lines of the history that are damaged, and left out: 1"}; err == nil && !reflect.DeepEqual(x.Notes, want) {
			t.Errorf("notes are %q", x.Notes)
		}
	}
}
