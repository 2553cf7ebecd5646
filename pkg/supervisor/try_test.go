package supervisor

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

const steeredHouse = `
[socket.http]
listen_stream = ["127.0.0.1:0"]
steer = "connections"
[socket.local]
listen_stream = ["@$NAME"]
[service.api]
exec_start = ["/bin/sleep", "1000"]
sockets = ["local", "http"]
start = "manual"
[service.api.reload]
bake = "1ms"
[service.shared]
exec_start = ["/bin/sleep", "1000"]
sockets = ["local"]
start = "manual"
[service.down]
exec_start = ["/bin/sleep", "1000"]
start = "manual"
`

// dialTo is a dialFunc for a server of the test's own.
func dialTo(t *testing.T, h http.HandlerFunc, asked *spot) dialFunc {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return func(name, address string, holder unit.Invocation) (int, error) {
		*asked = spot{name: name, address: address, holder: holder}
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			return -1, err
		}
		defer c.Close()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return -1, err
		}
		fd := -1
		cerr := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) })
		return fd, errors.Join(cerr, err)
	}
}

// One process is asked: the new one if there is one, at the address where it has a queue
// of its own.
func TestTryAsksOneProcess(t *testing.T) {
	h := keepHouse(t, t.TempDir(), strings.ReplaceAll(steeredHouse, "$NAME", "try-asks-one"))
	go func() {
		for range h.log {
		}
	}()
	var asked spot
	h.trier.dial = dialTo(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }, &asked)
	h.run("start", "api")
	h.run("start", "shared")
	address := h.o.Table.Status("http")[0].Address
	main := h.find("api").View().State.Inst[0].Main

	got, err := h.Try(ipc.TryRequest{Unit: "api", Path: "/x"}, ipc.Caller{})
	if err != nil || got.PID != main.PID || got.Role != "main" || got.Address != address || got.Body != "/x" || got.Code != 200 {
		t.Errorf("%+v, %v", got, err)
	}
	if who := h.doors.Who(asked.holder); asked.name != "http" || asked.address != address || who.Service != "api" || who.ID != main.ID {
		t.Errorf("asked for %+v, which is %+v", asked, who)
	}

	one, nine := 1, 9
	for _, c := range []struct {
		r    ipc.TryRequest
		want string
	}{
		{ipc.TryRequest{Unit: "nope"}, "no-such-unit: cannot try nope: no such service"},
		{ipc.TryRequest{Unit: "http.socket"}, "no-such-unit: cannot try http.socket: it is a socket, not a service"},
		{ipc.TryRequest{Unit: "down"}, "not-active: cannot try down: it has no process"},
		{ipc.TryRequest{Unit: "api", Whom: unit.KillNext}, "not-active: cannot try api: no new process is coming up"},
		{ipc.TryRequest{Unit: "api", Instance: &one}, "not-active: cannot try api: it has no instance 1: its only one is 0"},
		{ipc.TryRequest{Unit: "api", Instance: &nine, Whom: unit.KillMain}, "not-active: cannot try api: it has no instance 9: its only one is 0"},
		{ipc.TryRequest{Unit: "api", Address: "127.0.0.1:1"}, fmt.Sprintf("refused: cannot try api: pid %d (main) has no steered socket at 127.0.0.1:1", main.PID)},
		{ipc.TryRequest{Unit: "shared"}, fmt.Sprintf("refused: cannot try shared: pid %d (main) has no steered socket, and at a shared one nobody can choose who gets a connection", h.find("shared").View().State.Inst[0].Main.PID)},
	} {
		var e *ipc.Error
		if _, err := h.Try(c.r, ipc.Caller{}); !errors.As(err, &e) || string(e.Code)+": "+e.Message != c.want {
			t.Errorf("%+v: got %v, want %s", c.r, err, c.want)
		}
	}
}

// During a reload it is the new process that is asked, unless somebody says otherwise.
func TestTryTheNewProcess(t *testing.T) {
	text := strings.ReplaceAll(steeredHouse, "$NAME", "try-the-new")
	h := keepHouse(t, t.TempDir(), text)
	go func() {
		for range h.log {
		}
	}()
	var asked spot
	h.trier.dial = dialTo(t, func(http.ResponseWriter, *http.Request) {}, &asked)
	h.run("start", "api")
	h.takeIn(strings.Replace(text, `bake = "1ms"`, `bake = "1h"`, 1))
	h.bakes("reload", "api")
	in := h.find("api").View().State.Inst[0]
	if in.Next.PID == 0 || in.Next.PID == in.Main.PID {
		t.Fatalf("no new process bakes: %+v", in)
	}
	for whom, want := range map[unit.Whom]unit.Proc{unit.KillMain: in.Main, unit.KillNext: in.Next, "": in.Next} {
		got, err := h.Try(ipc.TryRequest{Unit: "api", Whom: whom}, ipc.Caller{})
		if err != nil || got.PID != want.PID || h.doors.Who(asked.holder).ID != want.ID {
			t.Errorf("whom %q: %+v, %v; want pid %d", whom, got, err, want.PID)
		}
	}
}

// Who ends before it has answered hands its clients to others. Their answer is not its own.
func TestTryWhoEnds(t *testing.T) {
	h := keepHouse(t, t.TempDir(), strings.ReplaceAll(steeredHouse, "$NAME", "try-who-ends"))
	go func() {
		for range h.log {
		}
	}()
	var asked spot
	h.trier.dial = dialTo(t, func(http.ResponseWriter, *http.Request) {
		h.o.Table.Free("http", asked.holder)
	}, &asked)
	h.run("start", "api")
	var e *ipc.Error
	if got, err := h.Try(ipc.TryRequest{Unit: "api"}, ipc.Caller{}); !errors.As(err, &e) || e.Code != ipc.Failed || !strings.Contains(e.Message, "does not listen") {
		t.Errorf("%+v, %v", got, err)
	}
}

// bakes returns when the process that a verb has started is ready.
func (h *household) bakes(verb, name string) {
	h.Helper()
	j, err := h.Submit(ipc.JobRequest{Verb: verb, Unit: name}, ipc.Caller{})
	if err != nil {
		h.Fatal(err)
	}
	events, err := h.JobEvents(h.Context(), j.ID, 0, false)
	if err != nil {
		h.Fatal(err)
	}
	for e := range events {
		if e.Kind == unit.IsReady {
			return
		}
	}
	h.Fatalf("nothing of %s %s is ever ready", verb, name)
}

// Why a process cannot be tried is said so that one knows what to look at.
func TestTryFails(t *testing.T) {
	p := located{unit.Proc{ID: 7, PID: 4711, Gen: 3}, 2, unit.RoleNext}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"refused":   {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "cannot try api: pid 4711 (next, instance 2) refuses connections at 127.0.0.1:80"},
		"full":      {fmt.Errorf("cannot call: %w", syscall.EAGAIN), "cannot try api: pid 4711 (next, instance 2) takes no connection at 127.0.0.1:80: its queue is full"},
		"too late":  {syscall.ETIMEDOUT, "cannot try api: pid 4711 (next, instance 2) did not answer at 127.0.0.1:80 within 5s"},
		"not HTTP":  {&notHTTP{[]byte("SSH-2.0")}, `cannot try api: pid 4711 (next, instance 2) does not answer in HTTP at 127.0.0.1:80: what came begins with "SSH-2.0"`},
		"moved":     {errMoved, "cannot try api: pid 4711 (next, instance 2) does not listen at 127.0.0.1:80 any more: the request may have gone to another process"},
		"otherwise": {errors.New("it is raining"), "cannot try api: pid 4711 (next, instance 2) at 127.0.0.1:80 gave no answer: it is raining"},
	} {
		tr := newTrier(nil, nil, func(string, string, unit.Invocation) (int, error) { return -1, c.err })
		_, err := tr.try(ipc.TryRequest{Unit: "api"}, p, spot{name: "http", address: "127.0.0.1:80", holder: 9})
		if e := new(ipc.Error); !errors.As(err, &e) || e.Code != ipc.Failed || e.Message != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// A connection that nobody takes holds up its caller for seconds, and others not at all;
// however many ask, only a few wait in the kernel.
func TestTriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, began := make(chan struct{}), time.Now()
		tr := newTrier(nil, nil, func(string, string, unit.Invocation) (int, error) {
			<-release
			return -1, syscall.ECONNRESET
		})
		try := func() error {
			_, err := tr.try(ipc.TryRequest{Unit: "api"}, located{}, spot{})
			return err
		}
		late := make(chan error, tryMost)
		for range tryMost {
			go func() { late <- try() }()
		}
		synctest.Wait()
		var e *ipc.Error
		if err := try(); !errors.As(err, &e) || e.Code != ipc.Refused || time.Since(began) > 0 {
			t.Errorf("one too many: %v", err)
		}
		for range tryMost {
			if err := <-late; err == nil || !strings.Contains(err.Error(), "did not answer") {
				t.Errorf("the kernel hangs: %v", err)
			}
		}
		if time.Since(began) > tryTime+time.Second {
			t.Errorf("they waited %v", time.Since(began))
		}
		if err := try(); !errors.As(err, &e) || e.Code != ipc.Refused {
			t.Errorf("all still hang: %v", err)
		}
		close(release)
		synctest.Wait()
		if err := try(); !errors.As(err, &e) || e.Code != ipc.Failed {
			t.Errorf("none hangs any more: %v", err)
		}
	})
}
