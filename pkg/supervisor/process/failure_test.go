package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func mustFail(t *testing.T, err error, step string, status int, errno syscall.Errno) *StartError {
	t.Helper()
	var e *StartError
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want a StartError", err)
	}
	if e.Step != step || e.Status != status || e.Errno != errno {
		t.Errorf("got step %s, status %d, errno %v (%v), want %s, %d, %v", e.Step, e.Status, e.Errno, e, step, status, errno)
	}
	return e
}

func TestWhatFailsIsNamedExactly(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "plain"), []byte("#!/bin/sh\n"), 0o644)
	os.WriteFile(filepath.Join(dir, "lost"), []byte("#!/no/such/interpreter -x\n"), 0o755)
	os.WriteFile(filepath.Join(dir, "crlf"), []byte("#!/bin/sh\r\nexec true\r\n"), 0o755)
	os.WriteFile(filepath.Join(dir, "itself"), []byte("#! "+filepath.Join(dir, "itself")+"\n"), 0o755)
	os.WriteFile(filepath.Join(dir, "empty"), nil, 0o755)
	os.WriteFile(filepath.Join(dir, "text"), []byte("hello\n"), 0o755)
	os.WriteFile(filepath.Join(dir, "cut"), []byte("\x7fELF\x02\x01\x01"), 0o755)
	os.Mkdir(filepath.Join(dir, "folder"), 0o755)
	unix.Mkfifo(filepath.Join(dir, "fifo"), 0o755)
	os.WriteFile(filepath.Join(dir, "large"), make([]byte, maxFile+1), 0o644)
	os.WriteFile(filepath.Join(dir, "half"), []byte("A="+strings.Repeat("x", maxFile/2)), 0o644)
	foreign := []byte("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\x08\x00" + strings.Repeat("\x00", 44)) // MIPS
	os.WriteFile(filepath.Join(dir, "mips"), foreign, 0o755)
	low := -50
	in := func(name string) func(*unit.Program) {
		return func(p *unit.Program) { p.Path = filepath.Join(dir, name) }
	}
	for _, c := range []struct {
		name   string
		set    func(*unit.Program)
		step   string
		status int
		errno  syscall.Errno
		text   string
		hint   string
	}{
		{"missing", in("missing"), "exec", 203, syscall.ENOENT, "cannot execute DIR/missing: no such file or directory", ""},
		{"not executable", in("plain"), "exec", 203, syscall.EACCES, "cannot execute DIR/plain: permission denied", "chmod +x"},
		{"a directory", in("folder"), "exec", 203, syscall.EACCES, "cannot execute DIR/folder: permission denied", "not a regular file"},
		{"a FIFO", in("fifo"), "exec", 203, syscall.EACCES, "cannot execute DIR/fifo: permission denied", "not a regular file"},
		{"no interpreter", in("lost"), "exec", 203, syscall.ENOENT, "cannot execute DIR/lost: no such file or directory", "/no/such/interpreter"},
		{"lines of another system", in("crlf"), "exec", 203, syscall.ENOENT, "cannot execute DIR/crlf: no such file or directory", "its lines end in CRLF"},
		{"itself", in("itself"), "exec", 203, syscall.ELOOP, "cannot execute DIR/itself: too many levels of symbolic links", "names the file itself"},
		{"empty", in("empty"), "exec", 203, syscall.ENOEXEC, "cannot execute DIR/empty: exec format error", "the file is empty"},
		{"text", in("text"), "exec", 203, syscall.ENOEXEC, "cannot execute DIR/text: exec format error", "neither a program nor"},
		{"cut short", in("cut"), "exec", 203, syscall.ENOEXEC, "cannot execute DIR/cut: exec format error", "still being written"},
		{"another machine", in("mips"), "exec", 203, syscall.ENOEXEC, "cannot execute DIR/mips: exec format error", "another machine (EM_MIPS)"},
		{"found nowhere", func(p *unit.Program) { p.Path, p.Search = "nothing", []string{"/bin", dir, "."} }, "exec", 203, syscall.ENOENT, "cannot execute nothing: no such file or directory", "none of /bin"},
		{"no arguments", func(p *unit.Program) { p.Argv = nil }, "exec", 203, syscall.EINVAL, "cannot execute /bin/sh: invalid argument", "exec_start is empty"},
		{"too long", func(p *unit.Program) { p.Argv = []string{"sh", strings.Repeat("x", 200_000)} }, "exec", 203, syscall.E2BIG, "cannot execute /bin/sh: argument list too long", "128 KiB"},
		{"far too long", func(p *unit.Program) { p.Argv = []string{"sh", strings.Repeat("x", 2_000_000)} }, "exec", 203, syscall.E2BIG, "cannot execute /bin/sh: argument list too long", "too long"},
		{"a NUL", func(p *unit.Program) { p.Argv = []string{"sh", "a\x00b"} }, "exec", 203, syscall.EINVAL, "cannot execute /bin/sh: invalid argument", ""},
		{"no directory", func(p *unit.Program) { p.Dir = "/no/such" }, "chdir", 200, syscall.ENOENT, "cannot change directory to /no/such: no such file or directory", ""},
		{"not a directory", func(p *unit.Program) { p.Dir = "/bin/sh" }, "chdir", 200, syscall.ENOTDIR, "cannot change directory to /bin/sh: not a directory", ""},
		{"bad limit", func(p *unit.Program) { p.Limits = []unit.Limit{{Resource: unix.RLIMIT_CORE, Soft: 2, Hard: 1}} }, "limits", 205, syscall.EINVAL, "cannot set limit limit_core: invalid argument", ""},
		{"bad oom", func(p *unit.Program) { n := 5000; p.OOMScoreAdj = &n }, "oom-adjust", 206, syscall.EINVAL, "cannot set oom_score_adj to 5000: invalid argument", ""},
		{"no such file", func(p *unit.Program) { p.EnvironmentFiles = []string{"-/no/such", dir + "/env"} }, "environment", 255, syscall.ENOENT, "cannot read environment file DIR/env: no such file or directory", ""},
		{"a FIFO as file", func(p *unit.Program) { p.EnvironmentFiles = []string{dir + "/fifo"} }, "environment", 255, syscall.EINVAL, "cannot read environment file DIR/fifo: it is not a regular file", ""},
		{"a large file", func(p *unit.Program) { p.EnvironmentFiles = []string{dir + "/large"} }, "environment", 255, syscall.EFBIG, "cannot read environment file DIR/large: it is larger than 1048576 bytes", ""},
		{"large together", func(p *unit.Program) { p.EnvironmentFiles = []string{dir + "/half", dir + "/half"} }, "exec", 203, syscall.E2BIG, "cannot execute /bin/sh: argument list too long", "together they may have 1048576 bytes"},
		{"low nice is for root", func(p *unit.Program) { p.Nice = &low }, "nice", 201, syscall.EACCES, "cannot set nice to -50: permission denied", "may not raise"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.step == "nice" && os.Geteuid() == 0 {
				t.Skip("needs an ordinary user")
			}
			task := sh("echo ran")
			c.set(task.Program)
			_, err := tryLaunch(t, newTestLauncher(t, Options{}), task, nil)
			e := mustFail(t, err, c.step, c.status, c.errno)
			if want := strings.ReplaceAll(c.text, "DIR", dir); e.Error() != want {
				t.Errorf("error is %q, want %q", e, want)
			}
			if c.hint == "" && e.Hint() != "" || !strings.Contains(e.Hint(), c.hint) {
				t.Errorf("hint is %q, want one with %q", e.Hint(), c.hint)
			}
			if again := NotRun(e.Exit()); again.Error() != e.Error() {
				t.Errorf("as an Exit it says %q", again)
			}
		})
	}
}

// T40: a user with too many processes can still be set; the kernel says so at execve.
func TestTooManyProcessesOfTheUser(t *testing.T) {
	needsRoot(t)
	l := newTestLauncher(t, Options{})
	first := launch(t, l, as(alice, sh("sleep 1000 & echo ready; wait")))
	first.expect("ready")
	task := as(alice, sh("echo ran"))
	task.Program.Limits = []unit.Limit{{Resource: unix.RLIMIT_NPROC, Soft: 1, Hard: 1}}
	_, err := tryLaunch(t, l, task, nil)
	e := mustFail(t, err, "exec", 203, syscall.EAGAIN)
	if !strings.Contains(e.Hint(), "limit_nproc") {
		t.Errorf("hint is %q", e.Hint())
	}
}

// As systemd does: in a container the score cannot be lowered, and that is no
// reason not to start.
func TestScoreThatMayNotBeLowered(t *testing.T) {
	score := -900
	task := sh("echo ran")
	task.Program.OOMScoreAdj = &score
	launch(t, newTestLauncher(t, Options{}), task).expect("ran")
}

// Where /proc is read-only the score stays as well.
func TestScoreThatCannotBeWritten(t *testing.T) {
	needsRoot(t)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("needs unshare(1)")
	}
	cmd := exec.Command(unshare, "--mount", "sh", "-c", `mount -o remount,bind,ro /proc || exit 3; exec "$@"`, "sh",
		selfPath(), "-test.run", "^TestScoreThatMayNotBeLowered$", "-test.v")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 3 {
		t.Skipf("needs to mount: %s", out)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// R14: a file that cp writes over.
func TestFileOpenForWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "busy")
	copyFile(t, path, "/bin/sh", 0o755)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	task := sh("echo ran")
	task.Program.Path = path
	l := newTestLauncher(t, Options{})
	_, err = tryLaunch(t, l, task, nil)
	e := mustFail(t, err, "exec", 203, syscall.ETXTBSY)
	if !strings.Contains(e.Hint(), "install(1)") {
		t.Errorf("hint is %q", e.Hint())
	}
	f.Close()
	launch(t, l, task).expect("ran") // it recovers as soon as the file is whole
}

// Why the kernel denies a file that has all its bits is said.
func TestFileThatMayNotBeExecuted(t *testing.T) {
	needsRoot(t)
	dir := openDir(t)
	if err := unix.Mount("noexec", dir, "tmpfs", unix.MS_NOEXEC, "mode=755"); err != nil {
		t.Skip("needs to mount: ", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	copyFile(t, filepath.Join(dir, "sh"), "/bin/sh", 0o755)
	closed := filepath.Join(openDir(t), "closed")
	os.Mkdir(closed, 0o700)
	os.WriteFile(filepath.Join(closed, "script"), []byte("#!/bin/sh\necho ran\n"), 0o755)
	l := newTestLauncher(t, Options{})
	for path, hint := range map[string]string{
		filepath.Join(dir, "sh"):        "its file system is mounted noexec",
		filepath.Join(closed, "script"): "namei -l " + closed,
	} {
		task := as(alice, sh("echo ran"))
		task.Program.Path = path
		_, err := tryLaunch(t, l, task, nil)
		if e := mustFail(t, err, "exec", 203, syscall.EACCES); !strings.Contains(e.Hint(), hint) {
			t.Errorf("hint is %q", e.Hint())
		}
	}
}

// The kernel says ENOENT for a program whose loader is missing.
func TestProgramWithoutItsLoader(t *testing.T) {
	text, err := os.ReadFile("/bin/sh")
	if err != nil || !strings.Contains(string(text), "/lib64/ld-linux-x86-64.so.2\x00") {
		t.Skip("needs a dynamically linked /bin/sh for x86-64")
	}
	path := filepath.Join(t.TempDir(), "alpine")
	os.WriteFile(path, []byte(strings.Replace(string(text), "/lib64/ld-linux", "/lib64/no-linux", 1)), 0o755)
	task := sh("echo ran")
	task.Program.Path = path
	_, err = tryLaunch(t, newTestLauncher(t, Options{}), task, nil)
	e := mustFail(t, err, "exec", 203, syscall.ENOENT)
	if !strings.Contains(e.Hint(), "loader") {
		t.Errorf("hint is %q", e.Hint())
	}
}

func TestPreflightAgreesWithTheKernel(t *testing.T) {
	for _, path := range []string{"/bin/sh", selfPath()} {
		if _, err := Preflight(&unit.Program{Path: path}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if path, err := Preflight(&unit.Program{Path: "sh", Search: []string{"", ".", "/nowhere", "/bin"}}); path != "/bin/sh" || err != nil {
		t.Errorf("sh is found at %s: %v", path, err)
	}
}

// Nothing must be left of a process whose caller does not want it after all.
func TestCallerThatSaysNo(t *testing.T) {
	each(t, func(t *testing.T, l *Launcher) {
		no := errors.New("the disk is full")
		var staged *Process
		_, err := tryLaunch(t, l, sh("echo ran >&2"), func(p *Process) error { staged = p; return no })
		if !errors.Is(err, no) {
			t.Errorf("got error %v", err)
		}
		select {
		case <-staged.gone:
		default:
			t.Error("the process is still there")
		}
		if staged.Identity().Alive() {
			t.Error("the process is alive")
		}
	})
}

func TestCallerThatDoesNotWait(t *testing.T) {
	each(t, func(t *testing.T, l *Launcher) {
		ctx, cancel := context.WithCancel(t.Context())
		task := sh("echo ran")
		task.Output = -1
		var staged *Process
		_, err := l.Launch(ctx, task, func(p *Process) error {
			staged = p
			p.Signal(syscall.SIGSTOP, unit.ProcessOnly) // it will not answer
			cancel()
			return nil
		})
		e := mustFail(t, err, "start", 255, syscall.ECANCELED)
		if got, want := e.Error(), "cannot start /bin/sh: operation canceled"; got != want {
			t.Errorf("error is %q, want %q", got, want)
		}
		mustGo(t, staged)
		if len(staged.Survivors()) > 0 || staged.Identity().Alive() {
			t.Error("the process is alive")
		}
	})
}

func TestChildThatIsKilled(t *testing.T) {
	each(t, func(t *testing.T, l *Launcher) {
		_, err := tryLaunch(t, l, sh("echo ran"), func(p *Process) error {
			return p.Signal(syscall.SIGKILL, unit.ControlGroup)
		})
		e := mustFail(t, err, "start", 255, 0)
		if want := "cannot start /bin/sh: its process was ended by SIGKILL before the program ran"; e.Error() != want {
			t.Errorf("error is %q, want %q", e, want)
		}
	})
}

// A supervisord that dies before it has stored who the process is leaves none.
func TestChildEndsWithItsSupervisor(t *testing.T) {
	l := newTestLauncher(t, Options{NoCgroups: true})
	r := launch(t, l, fake("fake-supervisor"))
	var pid int
	fmt.Sscan(r.line(), &pid)
	if _, err := readStat(pid); err != nil {
		t.Fatalf("there is no process %d: %v", pid, err)
	}
	p, err := openPidfd(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	r.Signal(syscall.SIGKILL, unit.ProcessOnly)
	if err := p.ended(); err != nil {
		t.Fatal(err)
	}
	mustGo(t, r.Process)
	if out := r.rest(); out != "" {
		t.Errorf("the program ran: %s", out)
	}
}
