package ipc

import (
	"context"
	"errors"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// fake is a supervisor that does as it is told.
type fake struct {
	mu    sync.Mutex
	acted []string // what was asked for that would have changed something

	info      Info
	status    func(units []string) (Status, error)
	submit    func(JobRequest) (Job, error)
	job       func(id string) (Job, error)
	jobEvents func(ctx context.Context, id string, since uint64, drained bool) (iter.Seq[Event], error)
	events    func(ctx context.Context, since uint64) iter.Seq[Event]
	logs      func(ctx context.Context, r LogRequest) (iter.Seq[LogLine], error)
	reload    func() (Reloaded, error)
	history   func(HistoryRequest) (History, error)
}

const socketName = "control.sock"

func (f *fake) act(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acted = append(f.acted, what)
}

func (f *fake) acts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.acted)
}

func (f *fake) Info() Info { return f.info }

func (f *fake) Status(units []string) (Status, error) {
	if f.status == nil {
		return Status{}, nil
	}
	return f.status(units)
}

func (f *fake) Submit(r JobRequest, _ Caller) (Job, error) {
	f.act(r.Verb + " " + r.Unit)
	if f.submit == nil {
		return Job{ID: "1", Unit: r.Unit, Verb: r.Verb, State: JobRunning}, nil
	}
	return f.submit(r)
}

func (f *fake) Job(id string) (Job, error) {
	if f.job == nil {
		return Job{ID: id}, nil
	}
	return f.job(id)
}

func (f *fake) JobEvents(ctx context.Context, id string, since uint64, drained bool) (iter.Seq[Event], error) {
	if f.jobEvents == nil {
		return slices.Values([]Event(nil)), nil
	}
	return f.jobEvents(ctx, id, since, drained)
}

func (f *fake) Events(ctx context.Context, since uint64) iter.Seq[Event] {
	if f.events == nil {
		return slices.Values([]Event(nil))
	}
	return f.events(ctx, since)
}

func (f *fake) Kill(r KillRequest, _ Caller) error {
	f.act("kill " + r.Unit)
	return nil
}

func (f *fake) Try(r TryRequest, _ Caller) (Tried, error) {
	f.act("try " + r.Unit)
	return Tried{Unit: r.Unit, Status: "HTTP/1.1 200 OK", Code: 200, Body: r.Path}, nil
}

func (f *fake) ResetFailed(r UnitRequest, _ Caller) error {
	f.act("reset-failed " + r.Unit)
	return nil
}

func (f *fake) DaemonReload(Caller) (Reloaded, error) {
	f.act("daemon-reload")
	if f.reload == nil {
		return Reloaded{}, nil
	}
	return f.reload()
}

func (f *fake) Logs(ctx context.Context, r LogRequest) (iter.Seq[LogLine], error) {
	if f.logs == nil {
		return slices.Values([]LogLine(nil)), nil
	}
	return f.logs(ctx, r)
}

func (f *fake) History(r HistoryRequest) (History, error) {
	if f.history == nil {
		return History{}, nil
	}
	return f.history(r)
}

// A house is a running server on a real socket.
type house struct {
	*Server
	path   string
	served chan error
}

// open serves f in dir until the test ends. Change the server in set.
func serve(t *testing.T, dir string, f *fake, set ...func(*Server)) *house {
	t.Helper()
	d, err := safepath.MakeDir(dir, 0o711)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(d, socketName)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{Server: NewServer(f, testWriter{t}), path: filepath.Join(dir, socketName), served: make(chan error, 1)}
	for _, s := range set {
		s(h.Server)
	}
	go func() { h.served <- h.Serve(l) }()
	t.Cleanup(func() {
		h.leave(t)
		d.Close()
	})
	return h
}

// leave shuts the server down; once more does no harm.
func (h *house) leave(t *testing.T) {
	t.Helper()
	if h.served == nil {
		return
	}
	if err := h.Shutdown(t.Context()); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cannot shut down: %v", err)
	}
	if err := <-h.served; err != http.ErrServerClosed {
		t.Errorf("Serve = %v", err)
	}
	h.served = nil
}

// letIn makes the socket one that anybody may connect to.
func (h *house) letIn(t *testing.T) {
	t.Helper()
	if err := os.Chmod(h.path, 0o666); err != nil {
		t.Fatal(err)
	}
}

// street is a directory that all users can enter, on a short path.
func street(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ipc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// visit is a client of h.
func (h *house) visit(t *testing.T) *Client {
	c := NewClient(h.path, NoOwner)
	t.Cleanup(c.Close)
	return c
}

// raw is a plain connection to h.
func (h *house) raw(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", h.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("server: %s", p)
	return len(p), nil
}
