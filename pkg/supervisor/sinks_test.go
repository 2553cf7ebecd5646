package supervisor

import (
	"context"
	"fmt"
	"os"
	"runtime"
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

// Who follows several services misses nothing that comes while the past is shown, and a
// part of the past that cannot be read is no line of a service.
func TestFollowingSeveralServices(t *testing.T) {
	h := keepHouse(t, t.TempDir(), "[service.a]\nexec_start = '/bin/sleep 1'\nstart = 'manual'\n[service.b]\nexec_start = '/bin/sleep 1'\nstart = 'manual'\n")
	streams := map[string]*logs.Stream{}
	for _, name := range []string{"a", "b"} {
		s, err := h.sinks.of(&unit.Spec{Name: name}).Stream(logs.Meta{}, os.Getuid(), os.Getgid())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Finish()
		streams[name] = s
		h.print(t, s, name+" of the past\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	lines, err := h.Logs(ctx, ipc.LogRequest{N: 10, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for l := range lines {
		got = append(got, l.Text)
		switch len(got) {
		case 1:
			h.print(t, streams["b"], "b meanwhile\n")
		case 3:
			cancel()
		}
	}
	if len(got) != 3 || got[2] != "b meanwhile" {
		t.Errorf("it is told %q", got)
	}
	if l := (source{name: "a"}).line(logs.Line{}, os.ErrClosed); l.Type != "error" || l.Unit != "a" {
		t.Errorf("a fault is told as %+v", l)
	}
}

// What there is nothing of is said, of each service that was named, before what comes:
// nobody waits for lines that there never were.
func TestNoLinesAreSaid(t *testing.T) {
	h := keepHouse(t, t.TempDir(), "[service.a]\nexec_start = '/bin/sleep 1'\nstart = 'manual'\n[service.b]\nexec_start = '/bin/sleep 1'\nstart = 'manual'\n")
	s, err := h.sinks.of(&unit.Spec{Name: "a"}).Stream(logs.Meta{Generation: 1}, os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Finish()
	h.print(t, s, "one\n")
	a, b := []string{"a"}, []string{"b"}
	for _, c := range []struct {
		ask  ipc.LogRequest
		want string
	}{
		{ipc.LogRequest{Units: a, N: 9}, "[line a]"},
		{ipc.LogRequest{Units: a, N: 9, Generation: 99}, "[none a]"},
		{ipc.LogRequest{Units: b, N: 9}, "[none b]"},
		{ipc.LogRequest{Units: b, N: 9, Follow: true}, "[none b]"},
		{ipc.LogRequest{Units: b}, "[]"},
		{ipc.LogRequest{Units: []string{"b", "a"}, N: 9}, "[line a none b]"},
		{ipc.LogRequest{Units: []string{"b", "a"}, N: 9, Generation: 99, Follow: true}, "[none a none b]"},
		{ipc.LogRequest{Units: []string{"b", "a"}}, "[]"},
		{ipc.LogRequest{N: 9}, "[line a]"}, // b was not asked for by name
		{ipc.LogRequest{N: 9, Generation: 99}, "[none ]"},
		{ipc.LogRequest{N: 9, Until: time.Now().Add(-time.Hour)}, "[none ]"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		lines, err := h.Logs(ctx, c.ask)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for l := range lines {
			if got = append(got, l.Type+" "+l.Unit); c.ask.Follow && fmt.Sprint(got) == c.want {
				break // it goes on
			}
		}
		cancel()
		if fmt.Sprint(got) != c.want {
			t.Errorf("%+v: %v; want %s", c.ask, got, c.want)
		}
	}
}

// print has a service print, and returns when that has been read.
func (h *household) print(t *testing.T, s *logs.Stream, text string) {
	t.Helper()
	before := len(s.Tail())
	if _, err := unix.Write(s.WriteEnd(), []byte(text)); err != nil {
		t.Fatal(err)
	}
	for len(s.Tail()) < before+len(text) {
		runtime.Gosched()
	}
}
