package supervisor

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

const noBPF = "steering needs CAP_BPF: run supervisord as root"

// Where steering is not to be had, all whom it concerns are told: who loads the
// configuration, who asks for the state, and who reloads.
func TestWhoIsToldThatASocketIsShared(t *testing.T) {
	h := keepHouse(t, t.TempDir(), "")
	go func() {
		for range h.log {
		}
	}()
	const text = `
[socket.http]
listen_stream = ["127.0.0.1:0", "@who-is-told"]
steer = "connections"
[service.api]
exec_start = ["/bin/sleep", "1000"]
sockets = ["http"]
start = "manual"
[service.api.reload]
bake = "1ms"
canary = "5%"
`
	h.o.Reload = func() (*config.Config, []config.Problem) {
		return config.Decode("test.toml", []byte(text), config.Options{Environ: os.Environ(), Unsteerable: noBPF})
	}
	r, err := h.DaemonReload(ipc.Caller{})
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(r.Warnings, "\n"); strings.Count(all, noBPF) != 1 || !strings.Contains(all, "5% is not possible: [socket.http] is shared") {
		t.Errorf("daemon-reload warns of\n%s", all)
	}

	h.run("start", "api")
	st, err := h.Status(nil)
	if err != nil {
		t.Fatal(err)
	}
	socket, api := st.Sockets[0], st.Services[0]
	tcp, local := socket.Sockets[0], socket.Sockets[1]
	if socket.Unsteered != noBPF || socket.Holders != nil || tcp.Steered || tcp.Note != "shared: "+noBPF || local.Note != "" {
		t.Errorf("the socket is shown as %+v", socket)
	}
	if api.Note != "canary 5% is not possible" || api.Processes[0].Share != 0 {
		t.Errorf("the service is shown as %+v", api)
	}

	j := h.ends("reload", "api")
	if want := "[socket.http] is shared: " + noBPF + "; canary 5% is not possible"; j.State != ipc.JobDone || len(j.Notes) != 1 || j.Notes[0] != want {
		t.Errorf("the reload says %s %q, want %q", j.State, j.Notes, want)
	}
	if j = h.ends("restart", "api"); len(j.Notes) > 0 {
		t.Errorf("a restart says %q", j.Notes)
	}
}

// A socket that was open before it was to be steered stays shared in a reload. Who reloads
// learns that, and status gives nobody a share.
func TestSteeredTooLate(t *testing.T) {
	text := strings.Replace(strings.ReplaceAll(steeredHouse, "$NAME", "steered-too-late"), `steer = "connections"`, `steer = "off"`, 1)
	h := keepHouse(t, t.TempDir(), text)
	go func() {
		for range h.log {
		}
	}()
	h.run("start", "api")
	text = strings.Replace(text, `steer = "off"`, `steer = "connections"`, 1)
	h.takeIn(strings.Replace(text, `bake = "1ms"`, "bake = \"1ms\"\ncanary = \"5%\"", 1))
	j := h.ends("reload", "api")
	if want := "[socket.http] is still shared, as it was when it was opened: canary 5% was not possible"; !slices.Contains(j.Notes, want) || !slices.Contains(j.Hints, "to steer it: superctl restart api") {
		t.Errorf("the reload says %q, %q", j.Notes, j.Hints)
	}
	shares := func() (sum float64) {
		st, err := h.Status([]string{"api"})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range st.Services[0].Processes {
			sum += p.Share
		}
		return sum
	}
	if got := shares(); got != 0 {
		t.Errorf("processes have %v%% at a shared socket", got)
	}
	var e *ipc.Error
	if _, err := h.Try(ipc.TryRequest{Unit: "api"}, ipc.Caller{}); !errors.As(err, &e) || !slices.Contains(e.Hints, "to steer it: superctl restart api") {
		t.Errorf("a trial: %+v", err)
	}
	if j = h.ends("restart", "api"); len(j.Notes) > 0 {
		t.Errorf("the restart says %q", j.Notes)
	}
	if got := shares(); got != 100 {
		t.Errorf("processes have %v%% at a steered socket", got)
	}
	if j = h.ends("reload", "api"); len(j.Notes) > 0 {
		t.Errorf("the next reload says %q", j.Notes)
	}
}
