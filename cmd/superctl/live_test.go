package main

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// A screen is a terminal that remembers all that was written to it, and tells
// when a text has appeared.
type screen struct {
	mu   sync.Mutex
	all  strings.Builder
	want map[string]chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Write(p)
	for text, seen := range s.want {
		if strings.Contains(s.all.String(), text) {
			close(seen)
			delete(s.want, text)
		}
	}
	return len(p), nil
}

// seen is closed when text has been written.
func (s *screen) seen(text string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{})
	if strings.Contains(s.all.String(), text) {
		close(c)
		return c
	}
	if s.want == nil {
		s.want = map[string]chan struct{}{}
	}
	s.want[text] = c
	return c
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

func within30s(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s does not happen", what)
	}
}

// A watch is a superctl that watches a job that does not end.
type watch struct {
	out, errs screen
	stop      func()
	status    chan int
}

func watchSlowStart(t *testing.T, set func(*session), args ...string) *watch {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, "start-api.json", play{Hold: true, Events: []ipc.Event{{Kind: "begun", Text: "start"}, {Kind: "exited", PID: 4, Text: "pid 4 exited with status 1"}}})
	put(t, dir, "status.json", ipc.Status{Services: []ipc.UnitStatus{{Name: "api", Waiting: []string{
		"waiting for READY=1 from pid 5 (type = notify), 87s left", "waiting for pid 4 to end, SIGKILL in " + strings.Repeat("9", 80),
	}}}})
	_, stop, err := serve(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	w := &watch{status: make(chan int, 1)}
	env := map[string]string{"SUPERVISORD_SOCKET": filepath.Join(dir, config.ControlSocket), "COLUMNS": "80"}
	s := newSession(&w.out, &w.errs, func(k string) string { return env[k] })
	s.patience, s.pace = 0, time.Millisecond
	set(s)
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	go func() { w.status <- run(ctx, args, s) }()
	return w
}

// superctl ends with what became of its job, whenever supervisord dies meanwhile.
func TestAVerbOutlivesSupervisord(t *testing.T) {
	failed := &ipc.Error{Code: ipc.Failed, Message: "cannot reload api: no"}
	for _, end := range []play{{Job: ipc.Job{State: ipc.JobDone}}, {Job: ipc.Job{State: ipc.JobFailed, Error: failed}}} {
		for _, where := range []string{"asked", "begun", "started", "finished"} {
			dir, p := t.TempDir(), end
			p.Dies = where
			p.Events = []ipc.Event{{Kind: "begun", Text: "generation 1"}, {Kind: "started", Text: "started pid 4"}, {Kind: "finished", State: p.Job.State, Error: p.Job.Error}}
			put(t, dir, "reload-api.json", p)
			f, stop, err := serve(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			var out, errs screen
			env := map[string]string{"SUPERVISORD_SOCKET": filepath.Join(dir, config.ControlSocket)}
			status := run(t.Context(), []string{"reload", "api"}, newSession(&out, &errs, func(k string) string { return env[k] }))
			if want := map[ipc.JobState]int{ipc.JobDone: exitOK, ipc.JobFailed: 1}[p.Job.State]; status != want || len(f.jobs) != 1 {
				t.Errorf("dies at %s: status %d, want %d, of %d jobs: %s%s", where, status, want, len(f.jobs), out.text(), errs.text())
			}
			if n := strings.Count(out.text(), "started pid 4"); n != 1 {
				t.Errorf("dies at %s: told %d times: %s", where, n, out.text())
			}
		}
	}
}

// What is waited for stands below the progress, no line longer than the
// terminal, and is taken back before anything else is written.
func TestWaitingComesAndGoesOnATerminal(t *testing.T) {
	w := watchSlowStart(t, func(s *session) { s.out.terminal = true }, "start", "api")
	within30s(t, w.out.seen("  pid 4 exited with status 1\n"), "to show what happened")
	within30s(t, w.out.seen("\x1b[2A\x1b[J"), "to take two lines back")
	w.stop()
	if status := <-w.status; status != exitDetached {
		t.Errorf("status = %d", status)
	}
	out := w.out.text()
	for _, want := range []string{"api  start\n", "  waiting for READY=1 from pid 5 (type = notify), 87s left\n  waiting for pid 4 to end, SIGKILL in 999"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not show %q: %q", want, out)
		}
	}
	if !strings.HasSuffix(out, "\x1b[2A\x1b[J") {
		t.Errorf("it leaves a line that should be gone: %q", out[max(0, len(out)-200):])
	}
	for line := range strings.Lines(out) {
		line = strings.ReplaceAll(line, "\x1b[2A\x1b[J", "")
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n >= 80 {
			t.Errorf("a line of %d columns: %q", n, line)
		}
	}
	if got := w.errs.text(); !strings.Contains(got, "the start of api continues as job 1") {
		t.Errorf("stderr: %q", got)
	}
}

// In a pipe a reason is written once, however often it is asked for.
func TestWaitingIsSaidOnceInAPipe(t *testing.T) {
	w := watchSlowStart(t, func(*session) {}, "start", "api")
	within30s(t, w.out.seen("waiting for READY=1"), "to say what is waited for")
	w.stop()
	<-w.status
	if out := w.out.text(); strings.Count(out, "READY=1") != 1 || strings.Contains(out, "\x1b") {
		t.Errorf("it shows %q", out)
	}
}

// The order in which the reason and an event come is anybody's guess: what is still
// waited for is not said again, what is waited for now is.
func TestWaitingIsSaidAgainOnlyIfItChanges(t *testing.T) {
	var out, errs screen
	s := newSession(&out, &errs, func(string) string { return "" })
	x := &task{unit: "api", job: ipc.Job{Verb: "start"}}
	p := newProgress(s, []*task{x})
	waits := func(text string) { p.wait(map[*task][]string{x: {text}}) }
	p.step(x, ipc.Event{Kind: "begun", Text: "start"})
	waits("waiting for READY=1 from pid 5 (type = notify), 1m2s left")
	p.step(x, ipc.Event{Kind: "exited", PID: 4, Text: "pid 4 exited with status 1"})
	waits("waiting for READY=1 from pid 5 (type = notify), 59.5s left")
	waits("waiting for READY=1 from pid 6 (type = notify), 90s left")
	want := "api  start\n  waiting for READY=1 from pid 5 (type = notify), 1m2s left\n  pid 4 exited with status 1\n  waiting for READY=1 from pid 6 (type = notify), 90s left\n"
	if got := out.text(); got != want {
		t.Errorf("it shows %q", got)
	}
}

// -o json says nothing before the end.
func TestNothingButJSON(t *testing.T) {
	w := watchSlowStart(t, func(*session) {}, "start", "api", "-o", "json", "--timeout", "50ms")
	if status := <-w.status; status != 7 {
		t.Errorf("status = %d", status)
	}
	if out := w.out.text(); !strings.HasPrefix(out, `{"id":"1",`) || strings.Count(out, "\n") != 1 {
		t.Errorf("it shows %q", out)
	}
}

// Ctrl-C is Ctrl-C also before supervisord has answered: status 130, and nobody is told
// that something failed.
func TestCtrlCBeforeTheAnswer(t *testing.T) {
	for _, args := range [][]string{{"restart", "api"}, {"kill", "api"}, {"reset-failed", "api"}, {"daemon-reload"}, {"status"}, {"sockets"}, {"history"}, {"logs", "api"}} {
		w := &watch{}
		env := map[string]string{"SUPERVISORD_SOCKET": filepath.Join(t.TempDir(), config.ControlSocket)}
		l, err := net.Listen("unix", env["SUPERVISORD_SOCKET"])
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // nobody answers there
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			if c, err := l.Accept(); err == nil {
				defer c.Close()
				c.Read(make([]byte, 1)) // it asks
				cancel()
				c.Read(make([]byte, 1<<16))
				c.Read(make([]byte, 1<<16))
			}
		}()
		s := newSession(&w.out, &w.errs, func(k string) string { return env[k] })
		if status := run(ctx, args, s); status != exitDetached || strings.Contains(w.errs.text(), "cannot") || strings.Contains(w.errs.text(), "context") {
			t.Errorf("%s: status %d, stderr %q", args, status, w.errs.text())
		}
		cancel()
	}
}
