package supervisor

import (
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Two services share a socket. Each has it until its own process is gone, whatever
// becomes of the other's: who has a socket is known by a number that no process of
// another service has.
func TestServicesThatShareASocketAreToldApart(t *testing.T) {
	h := keepHouse(t, t.TempDir(), `
[socket.n]
listen_stream = ["@shared-apart"]
[service.a]
exec_start = ["/bin/sleep", "1000"]
sockets = ["n"]
start = "manual"
[service.b]
exec_start = ["/bin/sleep", "1000"]
sockets = ["n"]
start = "manual"
`)
	go func() {
		for range h.log {
		}
	}()
	h.run("start", "a")
	h.run("start", "b")
	files, err := h.o.Table.Files(h.configuration().Sockets[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	if all := h.doors.Holders("n", files[0].Cookie); len(all["a"]) != 1 || len(all["b"]) != 1 {
		t.Errorf("the socket is held by %v; want one process of a and one of b", all)
	}
	h.run("stop", "b")
	if all := h.doors.Holders("n", files[0].Cookie); len(all["a"]) != 1 {
		t.Errorf("when b has ended, the socket is held by %v; want a's process", all)
	}
}

// A verb that comes when the files have just lost its service, which has yet to hear
// of it, is refused.
func TestAVerbThatComesWhileItsServiceIsRemoved(t *testing.T) {
	h := keepHouse(t, t.TempDir(), "[service.a]\nexec_start = [\"/bin/sleep\", \"1000\"]\nstart = \"manual\"\n")
	h.mu.Lock()
	h.units["a"].spec = nil
	h.mu.Unlock()
	for _, verb := range []string{"start", "restart", "reload"} {
		j := h.ends(verb, "a")
		if j.Error == nil || j.Error.Message != "cannot "+verb+" a: "+string(unit.WhyRemoved) {
			t.Errorf("%s: %+v", verb, j.Error)
		}
	}
}
