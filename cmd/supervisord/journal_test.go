package main

import (
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
)

func listenJournal(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func received(t *testing.T, l *net.UnixConn) []string {
	t.Helper()
	b := make([]byte, 64<<10)
	n, err := l.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b[:n]), "\n"), "\n")
}

// Lines get to the journal with their service and their priority; when it is not there,
// that is told once, and when it is back, too.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	var told []error
	j := &journal{path: path, told: func(err error) { told = append(told, err) }}
	for range 3 {
		if j.send("api", logs.Meta{}, []byte("lost")) == nil {
			t.Error("there is no journal, and it takes lines")
		}
	}
	if len(told) != 1 || told[0] == nil {
		t.Errorf("told %v", told)
	}
	l := listenJournal(t, path)
	for line, want := range map[string][]string{
		"hello": {"MESSAGE=hello", "PRIORITY=6"}, "<3>bad": {"MESSAGE=bad", "PRIORITY=3"}, "<9>x": {"MESSAGE=<9>x", "PRIORITY=6"}, "": {"MESSAGE=", "PRIORITY=6"},
	} {
		if err := j.send("api", logs.Meta{Instance: 1, Generation: 7}, []byte(line)); err != nil {
			t.Fatal(err)
		}
		want = append(want, "SYSLOG_IDENTIFIER=api", "SUPERVISORD_SERVICE=api", "SUPERVISORD_INSTANCE=1", "SUPERVISORD_GENERATION=7")
		if got := received(t, l); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	if len(told) != 2 || told[1] != nil {
		t.Errorf("told %v", told)
	}
	l.Close()
	if err := removeAndListen(t, path, j); err != nil {
		t.Errorf("a journal that was started anew: %v", err)
	}
}

func removeAndListen(t *testing.T, path string, j *journal) error {
	l := listenJournal(t, path+"2")
	j.path = path + "2"
	if err := j.send("api", logs.Meta{}, []byte("again")); err != nil {
		return err
	}
	if got := received(t, l); got[0] != "MESSAGE=again" {
		t.Errorf("got %q", got)
	}
	return nil
}

// A field whose value has a newline is written with its length before it.
func TestJournalFieldWithNewline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	l := listenJournal(t, path)
	j := &journal{path: path, told: func(error) {}}
	if err := j.send("api", logs.Meta{}, []byte("a\nb")); err != nil {
		t.Fatal(err)
	}
	if got := received(t, l); got[0] != "MESSAGE" || got[1] != "\x03\x00\x00\x00\x00\x00\x00\x00a" || got[2] != "b" {
		t.Errorf("got %q", got)
	}
}

// Under systemd each line of our own log has its priority, for journalctl -p.
func TestPrioritiesOfOurOwnLog(t *testing.T) {
	r := at(t, "")
	b, _ := binaries()
	cmd := exec.Command("/bin/sh", "-c", `export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec "$@"`, "sh", b.Supervisord(), "-c", r.path("supervisord.toml"))
	r.run(cmd)
	if line := r.line("listen"); !strings.HasPrefix(line, `<6>{"level":"info"`) {
		t.Errorf("it says %q", line)
	}
	r.stop()
	for level, want := range map[zerolog.Level]string{zerolog.DebugLevel: "<7>x", zerolog.WarnLevel: "<4>x", zerolog.ErrorLevel: "<3>x", zerolog.FatalLevel: "<2>x"} {
		var out strings.Builder
		if n, err := (leveled{&out}).WriteLevel(level, []byte("x")); out.String() != want || n != 1 || err != nil {
			t.Errorf("%v: %q, %d, %v", level, &out, n, err)
		}
	}
	if isJournal("", 2) || isJournal("1:2", 2) {
		t.Error("everything is the journal")
	}
}
