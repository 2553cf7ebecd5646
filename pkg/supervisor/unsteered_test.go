package supervisor

import (
	"os"
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
