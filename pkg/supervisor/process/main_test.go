package process

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/internal/forbid"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// The test binary is also the programs that are started, by the name that they have
// as argv[0].
func TestMain(m *testing.M) {
	if play, ok := fakes[os.Args[0]]; ok {
		play(os.Args[1:])
		os.Exit(0)
	}
	if calls := os.Getenv(filtered); calls != "" {
		if err := forbid.Calls(calls); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	if os.Getenv(hardened) != "" {
		if err := Harden(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// otherParent has all launchers of a test binary have another Parent than this process:
// OtherParent's.
const otherParent = "TEST_PARENT"

// OtherParent is set by tests that may import who can be one.
var OtherParent func(*testing.T) Parent

// needsOwn skips what is about this process as the Parent.
func needsOwn(t *testing.T, l *Launcher) {
	t.Helper()
	if l.own == nil {
		t.Skip("is about this process as the Parent")
	}
}

// hardened makes a test binary that runs as another user begin as supervisord does.
const hardened = "TEST_HARDENED"

// patience ends tests that would hang; no test is right or wrong by it.
const patience = 2 * time.Minute

// Users of our own, so that signals to all of a user's processes hit no other
// test, also none of this package that runs elsewhere.
var (
	alice = uint32(100_000 + 2*os.Getpid())
	bob   = alice + 1
)

// each runs a test with cgroups, where they can be had, and without.
func each(t *testing.T, test func(t *testing.T, l *Launcher)) {
	t.Run("cgroup", func(t *testing.T) {
		l := newTestLauncher(t, Options{})
		if _, why := l.Tracking(); why != "" {
			t.Skip("needs cgroups: " + why)
		}
		test(t, l)
	})
	t.Run("session", func(t *testing.T) { test(t, newTestLauncher(t, Options{NoCgroups: true})) })
}

func newTestLauncher(t *testing.T, o Options) *Launcher {
	t.Helper()
	o.RuntimeDirectory = t.TempDir() // no other test's, also none that runs elsewhere
	if o.Parent == nil && os.Getenv(otherParent) != "" {
		if o.Sole || o.OnStray != nil {
			t.Skip("is about this process as the Parent")
		}
		o.Parent = OtherParent(t)
	}
	l, err := NewLauncher(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		if l.cgroups != nil {
			if _, err := os.Stat("/sys/fs/cgroup/unified" + l.cgroups.Path()); err == nil {
				t.Errorf("cgroup %s is left behind", l.cgroups.Path())
			}
		}
	})
	return l
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it starts programs as other users")
	}
}

var lastInvocation atomic.Uint64

// A run is a program started by a test, with a pipe for its output.
type run struct {
	*Process
	t     *testing.T
	lines *bufio.Scanner
}

// sh is a task that runs a shell script.
func sh(script string, args ...string) Task {
	argv := append([]string{"sh", "-c", script, "sh"}, args...)
	env := []string{"T=" + sign()}
	return Task{Program: &unit.Program{Argv: argv, Path: "/bin/sh", Environment: env}}
}

// sign is a directory that is there for as long as this process lives. It is that
// of a thread: the one of the process stays until somebody reaps it, which may be
// never if the test was killed.
var sign = sync.OnceValue(func() string {
	tid := make(chan int)
	begin := func() {
		go func() {
			runtime.LockOSThread()
			tid <- unix.Gettid()
			select {}
		}()
	}
	begin()
	first := <-tid
	if first == os.Getpid() { // only one thread can be the main one
		begin()
		first = <-tid
	}
	return fmt.Sprintf("/proc/%d/task/%d", os.Getpid(), first)
})

// fake is a task that runs one of the fakes.
func fake(args ...string) Task {
	path, _ := os.Executable()
	return Task{Program: &unit.Program{Argv: args, Path: path}}
}

// as changes a task's user.
func as(uid uint32, t Task) Task {
	t.Account = Account{UID: uid, GID: uid, Groups: []uint32{uid}, Set: true}
	return t
}

func launch(t *testing.T, l *Launcher, task Task) *run {
	t.Helper()
	r, err := tryLaunch(t, l, task, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tryLaunch starts a task whose output the run reads, line by line. Whatever it
// leaves behind is killed with the test.
func tryLaunch(t *testing.T, l *Launcher, task Task, staged func(*Process) error) (*run, error) {
	t.Helper()
	r, w := complete(t, &task)
	defer w.Close()
	var seen *Process
	p, err := l.Launch(t.Context(), task, func(p *Process) error {
		seen = p
		if staged == nil {
			return nil
		}
		return staged(p)
	})
	if err != nil {
		if seen != nil {
			seen.Release()
		}
		return nil, err
	}
	return runOf(t, p, r), nil
}

func runOf(t *testing.T, p *Process, r *os.File) *run {
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL, unit.ControlGroup)
		mustGo(t, p)
	})
	return &run{p, t, bufio.NewScanner(r)}
}

// complete fills in what a test does not ask for, and returns both ends of the pipe.
func complete(t *testing.T, task *Task) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	task.ID = unit.Invocation(lastInvocation.Add(1))
	if task.Service == "" {
		task.Service = "test"
	}
	if !task.Account.Set {
		task.Account.UID, task.Account.GID = uint32(os.Geteuid()), uint32(os.Getegid())
	}
	task.Env = append(task.Env, fmt.Sprintf("INVOCATION_ID=%d-%d", os.Getpid(), task.ID))
	task.Output = rawFd(t, w)
	return r, w
}

func rawFd(t *testing.T, f *os.File) (fd int) {
	t.Helper()
	c, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	c.Control(func(n uintptr) { fd = int(n) })
	return fd
}

// line returns the next line of output.
func (r *run) line() string {
	r.t.Helper()
	if !r.lines.Scan() {
		r.t.Fatalf("the output of process %d ended: %v", r.PID(), r.lines.Err())
	}
	return r.lines.Text()
}

// expect waits for a line.
func (r *run) expect(want string) {
	r.t.Helper()
	if got := r.line(); got != want {
		r.t.Fatalf("got output %q, want %q", got, want)
	}
}

// rest returns what is left of the output, when all who hold it are gone.
func (r *run) rest() string {
	var b strings.Builder
	for r.lines.Scan() {
		b.WriteString(r.lines.Text() + "\n")
	}
	return b.String()
}

func mustGo(t *testing.T, p *Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if p.WaitGone(ctx) != nil {
		t.Fatalf("process %d has survivors: %v", p.PID(), p.Survivors())
	}
	if err := p.Release(); err != nil {
		t.Errorf("process %d is not released: %v", p.PID(), err)
	}
}

// again runs tests of this binary in a process of its own, as another user.
func again(t *testing.T, uid uint32, pattern string, env ...string) {
	t.Helper()
	againIn(t, uid, -1, pattern, env...)
}

func againIn(t *testing.T, uid uint32, cgroup int, pattern string, env ...string) string {
	t.Helper()
	return againAs(t, &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: uid, Gid: uid},
		UseCgroupFD: cgroup >= 0, CgroupFD: cgroup,
	}, pattern, env...)
}

func againAs(t *testing.T, as *syscall.SysProcAttr, pattern string, env ...string) string {
	t.Helper()
	uid := as.Credential.Uid
	dir, err := os.MkdirTemp("", "process")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	binary := filepath.Join(dir, "process.test")
	copyFile(t, binary, "/proc/self/exe", 0o755)
	cmd := exec.Command(binary, "-test.run", pattern, "-test.v")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), env...)
	cmd.SysProcAttr = as
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as user %d: %v\n%s", uid, err, out)
	}
	if !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("as user %d nothing was tested:\n%s", uid, out)
	}
	return string(out)
}

func copyFile(t *testing.T, to, from string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, mode); err != nil {
		t.Fatal(err)
	}
	os.Chmod(to, mode)
}
