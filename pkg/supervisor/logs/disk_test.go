package logs

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// alone runs the test that calls it once more, in a mount namespace of its own
// where dir is an empty tmpfs of 64 kB. It says whether this is that run.
func alone(t *testing.T) (dir string, inside bool) {
	if dir := os.Getenv("LOGS_TEST_TMPFS"); dir != "" {
		must(t, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0750"))
		return dir, true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a small tmpfs in a namespace of its own")
	}
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), "LOGS_TEST_TMPFS="+t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	if err != nil && strings.Contains(err.Error(), "operation not permitted") {
		t.Skip("needs root with CAP_SYS_ADMIN: it mounts a small tmpfs in a namespace of its own")
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return "", false
}

// R9: a full disk costs log lines, counted, and nothing else; when there is
// space again the log goes on, and says what is missing.
func TestDiskFull(t *testing.T) {
	dir, inside := alone(t)
	if !inside {
		return
	}
	d := openDir(t, dir)
	s := openSink(d, plenty)
	defer s.Close()
	ballast := dir + "/ballast"
	must(t, os.WriteFile(ballast, make([]byte, 32<<10), 0o600))

	st := newStream(t, s, Meta{Invocation: 1, Generation: 7})
	const n = 2000
	run(t, st, program("bursts", fmt.Sprint(n))) // 200 kB: it must get to its end
	settle(t, s)
	written, dropped, err := s.Stats()
	if written+dropped != n || written == 0 || dropped == 0 {
		t.Errorf("%d lines written and %d dropped, of %d", written, dropped, n)
	}
	if err == nil || err.Error() != "cannot write "+dir+"/api.log: no space left on device" {
		t.Errorf("the error is: %v", err)
	}
	wantFile(t, dir+"/api.log", bursted(0, int(written)))
	if !strings.HasSuffix(string(st.Tail()), burst(n-1)) {
		t.Error("the tail lacks the last line")
	}

	must(t, os.Remove(ballast))
	say(newStream(t, s, Meta{Invocation: 2, Generation: 8}), "well again\n")
	settle(t, s)
	wantLines(t, read(t, s, Query{N: 2})[1:], fmt.Sprintf("(%d lost)", dropped), "well again")
	if got := len(read(t, s, Query{N: -1, Generation: 7})); got != int(written) {
		t.Errorf("the index finds %d lines of generation 7, want %d", got, written)
	}
	if _, _, err := s.Stats(); err != nil {
		t.Error(err)
	}
}

// R9: the same with a file system that becomes read-only.
func TestDiskReadOnly(t *testing.T) {
	dir, inside := alone(t)
	if !inside {
		return
	}
	s := openSink(openDir(t, dir), unit.Log{File: true, MaxSize: 1000, MaxFiles: 3})
	defer s.Close()
	now := time.Unix(1e9, 0)
	s.keep.now = func() time.Time { return now }
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=64k"))
	st := newStream(t, s, Meta{Invocation: 1})
	say(st, "one\n")
	settle(t, s)
	if _, dropped, err := s.Stats(); dropped != 1 || err == nil || err.Error() != "cannot open "+dir+"/api.log: read-only file system" {
		t.Errorf("%d dropped, %v", dropped, err)
	}
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "size=64k"))
	now = now.Add(time.Minute)
	say(st, "two\n")
	settle(t, s)
	wantFile(t, dir+"/api.log", "two\n")
	if _, _, err := s.Stats(); err != nil {
		t.Error(err)
	}
	wantLines(t, read(t, s, all), "(1 lost)", "two")
}

// R9: a directory that we may not write to, as an ordinary user sees it.
func TestDirectoryWithoutPermission(t *testing.T) {
	if os.Getenv("LOGS_TEST_TMPFS") != "" {
		return
	}
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	dir := os.Getenv("LOGS_TEST_DIR")
	if dir == "" {
		dir = t.TempDir() + "/log"
	}
	must(t, os.MkdirAll(dir, 0o700))
	s := openSink(openDir(t, dir), plenty)
	defer s.Close()
	now := time.Unix(1e9, 0)
	s.keep.now = func() time.Time { return now }
	must(t, os.Chmod(dir, 0o500))
	st := newStream(t, s, Meta{Invocation: 1})
	say(st, "one\n")
	say(st, "two\n")
	settle(t, s)
	if _, dropped, err := s.Stats(); dropped != 2 || err == nil || !strings.HasSuffix(err.Error(), "api.log: permission denied") {
		t.Errorf("%d dropped, %v", dropped, err)
	}
	must(t, os.Chmod(dir, 0o700))
	now = now.Add(time.Minute)
	say(st, "three\n")
	settle(t, s)
	wantLines(t, read(t, s, all), "(2 lost)", "three")
}
