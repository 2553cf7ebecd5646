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
	for range 40 {
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
