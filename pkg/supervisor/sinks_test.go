package supervisor

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Who reads the logs during a reload does not change where they go: that is as the
// process was started that came last, not as the build that is to be replaced says.
func TestReadingLogsChangesNothing(t *testing.T) {
	h := keepHouse(t, t.TempDir(), "[service.api]\nexec_start = [\"/bin/sleep\", \"1\"]\nstart = \"manual\"\n")
	out := make(logLines, 10)
	h.sinks = newSinks(nil, logs.Elsewhere{Stdout: out})
	k := h.sinks.of(&unit.Spec{Name: "api", Log: unit.Log{Forward: true}})
	defer k.Close()
	if _, err := h.Logs(t.Context(), ipc.LogRequest{Units: []string{"api"}}); err != nil { // by the files, which say nothing of it
		t.Fatal(err)
	}
	s, err := k.Stream(logs.Meta{}, os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Finish()
	if _, err := unix.Write(s.WriteEnd(), []byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	s.CloseWriteEnd()
	select {
	case line := <-out:
		if fmt.Sprint(line) == "" {
			t.Error("it is empty")
		}
	case <-time.After(10 * time.Second):
		t.Error("what is written is not forwarded any more")
	}
}
