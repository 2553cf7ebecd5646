package supervisor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/history"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// No actor takes the Manager's lock: whoever holds that, for whatever reason and
// however long, a service that crashes is started again.
func TestACrashIsMadeGoodWhoeverHoldsTheManagersLock(t *testing.T) {
	h := keepHouse(t, t.TempDir(), strings.ReplaceAll(withSocket, "$PROGRAM", "/bin/sleep"))
	h.do(unit.Start)
	before, e := h.ledger.End(), h.find("api")
	h.mu.Lock()
	e.Tell(unit.Kills{Signal: syscall.SIGKILL, Whom: unit.KillMain})
	for x := range h.ledger.Follow(t.Context(), before, "api", h.quit) {
		if x.Kind == unit.Began {
			break
		}
	}
	h.mu.Unlock()
}

// A service that was added, started and removed leaves nothing behind.
func TestARemovedServiceLeavesNothing(t *testing.T) {
	h := keepHouse(t, t.TempDir(), strings.ReplaceAll(withSocket, "$PROGRAM", "/bin/sleep"))
	with := strings.ReplaceAll(withSocket, "$PROGRAM", "/bin/sleep") + `
[socket.more]
listen_stream = ["127.0.0.1:0", "@more"]
[service.more]
exec_start = ["/bin/sleep", "1000"]
sockets = ["more"]
start = "manual"
handover = true
[service.more.reload]
bake = "1ms"
`
	without := strings.ReplaceAll(withSocket, "$PROGRAM", "/bin/sleep")
	cycle := func() {
		h.takeIn(with)
		h.run("start", "more")
		h.run("reload", "more")
		h.takeIn(without)
		h.run("stop", "more")
		h.line("forgotten: the configuration no longer names it")
	}
	cycle()
	was := descriptors(t)
	for range 10 {
		cycle()
	}
	now := descriptors(t)
	for end := time.Now().Add(10 * time.Second); len(now) > len(was) && time.Now().Before(end); now = descriptors(t) {
		runtime.Gosched() // the pair of the last is closed in the background
	}
	if len(now) > len(was) {
		t.Errorf("%d descriptors are open, %d were: %s\n%s", len(now), len(was), now, was)
	}
	if x, err := h.Status(nil); err != nil || len(x.Services) != 1 || len(x.Sockets) != 1 {
		t.Errorf("%v, %+v", err, x)
	}
}

// takeIn does a daemon-reload to a configuration.
func (h *household) takeIn(text string) {
	h.Helper()
	h.o.Reload = func() (*config.Config, []config.Problem) {
		return config.Decode("test.toml", []byte(text), config.Options{Environ: os.Environ()})
	}
	if _, err := h.DaemonReload(ipc.Caller{}); err != nil {
		h.Fatal(err)
	}
}

// run has a verb done.
func (h *household) run(verb, name string) {
	h.Helper()
	if j := h.ends(verb, name); j.State != ipc.JobDone {
		h.Fatalf("%s %s: %+v", verb, name, j)
	}
}

// ends asks for a verb and returns what became of it.
func (h *household) ends(verb, name string) ipc.Job {
	h.Helper()
	j, err := h.Submit(ipc.JobRequest{Verb: verb, Unit: name}, ipc.Caller{})
	if err != nil {
		h.Fatal(err)
	}
	h.await(j.ID)
	if j, err = h.Job(j.ID); err != nil {
		h.Fatal(err)
	}
	return j
}

// descriptors are what we have open.
func descriptors(t *testing.T) (all []string) {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		to, _ := os.Readlink("/proc/self/fd/" + n.Name())
		if to != "" && !strings.HasSuffix(to, history.Name) { // which is opened for moments
			all = append(all, to)
		}
	}
	slices.Sort(all)
	return all
}

// Who asks for a unit by another word than its name is told which it is.
func TestUnitsByOtherWords(t *testing.T) {
	h := keepHouse(t, t.TempDir(), strings.ReplaceAll(withSocket, "$PROGRAM", "/bin/sleep"))
	for name, want := range map[string]string{
		"http":        "it is a socket, not a service [its services are named by: superctl status http.socket]",
		"http.socket": "it is a socket, not a service [its services are named by: superctl status http.socket]",
		"api.service": "no such service [did you mean api?]",
		"ftp":         "no such service [known services: api]",
	} {
		err := h.noSuchUnit("reload", name)
		var e *ipc.Error
		if !errors.As(err, &e) || fmt.Sprintf("%s %v", e.Message, e.Hints) != "cannot reload "+name+": "+want {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
