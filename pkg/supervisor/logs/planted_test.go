package logs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func openDir(t testing.TB, path string) *safepath.Dir {
	t.Helper()
	d, err := safepath.OpenDir(path)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// stickyDir is a directory to which everybody may add names, as /tmp is: the
// worst that safepath lets pass.
func stickyDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "logs")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o777|os.ModeSticky))
	return dir
}

func nobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
}

// asNobody runs the test that calls it once more, as an ordinary user.
func asNobody(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "logs")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o777|os.ModeSticky))
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), "LOGS_TEST_DIR="+dir+"/log")
	c.Dir = "/"
	c.SysProcAttr = nobody()
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// T61: what another user has put in the place of a log is neither written nor
// read nor waited for, and it costs lines, not the service.
func TestWhatOthersPlantedIsNotTouched(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it plays another user")
	}
	const secret = "root's own\n"
	for what, plant := range map[string]func(t *testing.T, secret, name string) error{
		"symlink":       func(_ *testing.T, secret, name string) error { return os.Symlink(secret, name) },
		"dangling link": func(_ *testing.T, secret, name string) error { return os.Symlink(secret+".new", name) },
		"hard link":     func(_ *testing.T, secret, name string) error { return os.Link(secret, name) },
		"FIFO":          func(_ *testing.T, _, name string) error { return unix.Mkfifo(name, 0o666) },
		"his own file": func(_ *testing.T, _, name string) error {
			return errors.Join(os.WriteFile(name, nil, 0o666), os.Chown(name, 65534, 65534))
		},
		"directory": func(_ *testing.T, _, name string) error { return os.Mkdir(name, 0o777) },
	} {
		for _, name := range []string{"api.log", "api.log.idx"} {
			t.Run(what+" for "+name, func(t *testing.T) {
				dir := stickyDir(t)
				precious := filepath.Join(t.TempDir(), "precious")
				must(t, os.WriteFile(precious, []byte(secret), 0o600))
				must(t, plant(t, precious, dir+"/"+name))
				os.Lchown(dir+"/"+name, 65534, 65534)
				wantOwner := owner(t, precious)

				s := openSink(openDir(t, dir), plenty)
				st := newStream(t, s, Meta{Invocation: 1})
				say(st, "hello\n")
				settle(t, s)
				for _, l := range read(t, s, all) {
					if string(l.Text) != "hello" {
						t.Errorf("the log tells %q", l.Text)
					}
				}
				_, _, err := s.Stats()
				if err == nil || !strings.Contains(err.Error(), "api.log") {
					t.Errorf("the error is: %v", err)
				}
				st.Finish()
				s.Close()

				wantFile(t, precious, secret)
				if got := owner(t, precious); got != wantOwner {
					t.Errorf("owner and mode became %s, were %s", got, wantOwner)
				}
				if _, err := os.Lstat(precious + ".new"); err == nil {
					t.Error("a file was made through the link")
				}
			})
		}
	}
}

func owner(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return fmt.Sprintf("%d:%d %o", st.Uid, st.Gid, st.Mode)
}

// flip is another user who tries to be there first, at each rotation anew.
func flip(dir string) {
	target := os.Getenv("LOGS_TEST_TARGET")
	plant := []func(name string) error{
		func(name string) error { return os.Symlink(target, name) },
		func(name string) error { return unix.Mkfifo(name, 0o666) },
		func(name string) error { return os.Link(target, name) },
		func(name string) error { return unix.Mknod(name, unix.S_IFREG|0o666, 0) },
	}
	names := []string{"/api.log", "/api.log.idx", "/api.log.1", "/api.log.1.idx", "/api.log.2", "/api.log.gz.tmp"}
	fmt.Println("ready")
	for i := range 20_000 {
		name := dir + names[i%len(names)]
		if plant[i%len(plant)](name) == nil && i%3 > 0 {
			os.Remove(name)
		}
	}
}

// T61: while somebody flips names in a loop, 2000 rotations hang nowhere and
// reach nothing outside.
func TestRotationsWhileAnotherUserFlipsNames(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it plays another user")
	}
	dir := stickyDir(t)
	outside := stickyDir(t)
	must(t, os.WriteFile(outside+"/precious", []byte("root's own\n"), 0o644))
	before := owner(t, outside+"/precious")

	c := program("flip", dir)
	c.Env = append(c.Env, "LOGS_TEST_TARGET="+outside+"/precious")
	c.SysProcAttr = nobody()
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	defer c.Process.Kill()
	out.Read(make([]byte, 10))

	s := openSink(openDir(t, dir), unit.Log{File: true, MaxSize: 150, MaxFiles: 2, Compress: true})
	st := newStream(t, s, Meta{Invocation: 1})
	for i := range 2000 {
		if i%10 == 0 {
			s.Reopen()
		}
		say(st, burst(i))
	}
	settle(t, s)
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	written, dropped, _ := s.Stats()
	t.Logf("%d lines written, %d dropped", written, dropped)
	if written+dropped != 2000 {
		t.Errorf("%d lines written and %d dropped, of 2000", written, dropped)
	}
	st.Finish()
	s.Close()
	wantFile(t, outside+"/precious", "root's own\n")
	if after := owner(t, outside+"/precious"); after != before {
		t.Errorf("owner and mode became %s, were %s", after, before)
	}
	if names, _ := os.ReadDir(outside); len(names) != 1 {
		t.Errorf("outside there is %v", names)
	}
}

// Who may read logs is the group of the directory.
func TestFilesBelongToTheGroupOfTheDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives files to a group")
	}
	_, dir := newDir(t)
	must(t, os.Chown(dir, 0, 4))
	s := openSink(openDir(t, dir), unit.Log{File: true, MaxSize: 150, MaxFiles: 2, Compress: true})
	defer s.Close()
	st := newStream(t, s, Meta{Invocation: 1})
	say(st, bursted(0, 3))
	awaitCompression(s)
	for _, name := range []string{"api.log", "api.log.idx", "api.log.1.gz", "api.log.1.idx"} {
		if got := owner(t, dir+"/"+name); got != "0:4 100640" {
			t.Errorf("%s is %s", name, got)
		}
	}
}
