package supervisor

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Of daemon-reloads at once, what one of them has read counts for all that follows
// from it: services, sockets and metrics.
func TestOneConfigurationCounts(t *testing.T) {
	h := keepHouse(t, t.TempDir(), "")
	go func() {
		for range h.log {
		}
	}()
	var turn atomic.Int64
	h.o.Reload = func() (*config.Config, []config.Problem) {
		n := turn.Add(1) % 5
		text := fmt.Sprintf("[socket.n%[1]d]\nlisten_stream = [\"@outages-n%[1]d\"]\n[service.n%[1]d]\nexec_start = [\"/bin/sleep\", \"1000\"]\nsockets = [\"n%[1]d\"]\nstart = \"manual\"\n", n)
		return config.Decode("test.toml", []byte(text), config.Options{Environ: os.Environ()})
	}
	for range 20 {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { h.DaemonReload(ipc.Caller{}) })
		}
		all.Wait()
		want := []string{h.configuration().Sockets[0].Name}
		if got := h.o.Table.Names(); !slices.Equal(got, want) {
			t.Fatalf("there are the sockets %q; want %q", got, want)
		}
	}
}

// A service that is removed and named again at the same moment is there after, does
// what it is told, and shares nothing with what it was: its sockets are open, its
// number goes on, its output is kept.
func TestNamedAgainWhileItGoes(t *testing.T) {
	h := keepHouse(t, t.TempDir(), "")
	go func() {
		for range h.log {
		}
	}()
	const with = "[socket.n]\nlisten_stream = [\"@outages-again\"]\n[service.n]\nexec_start = [\"/bin/sleep\", \"1000\"]\nsockets = [\"n\"]\nstart = \"manual\"\n[service.n.reload]\nbake = \"1ms\"\n"
	last := unit.Generation(0)
	for range 15 {
		h.takeIn(with)
		h.run("start", "n")
		v := h.find("n").View()
		if v.State.LastGen <= last {
			t.Fatalf("generation %d comes after %d", v.State.LastGen, last)
		}
		last = v.State.LastGen
		if all := h.o.Table.Status("n"); len(all) != 1 || !all[0].Listening {
			t.Fatalf("it runs, and its sockets are %+v", all)
		}
		if !slices.Contains(h.stored(), recordKey+"n") {
			t.Fatal("it runs, and there is no record of it")
		}
		h.takeIn("")
		j, err := h.Submit(ipc.JobRequest{Verb: "stop", Unit: "n"}, ipc.Caller{})
		if err != nil {
			t.Fatal(err)
		}
		h.await(j.ID) // from now on it goes
	}
}

// stored are the keys of what is stored.
func (h *household) stored() []string {
	h.Helper()
	keys, err := h.o.Store.Keys()
	if err != nil {
		h.Fatal(err)
	}
	return keys
}
