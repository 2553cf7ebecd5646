package process

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/internal/forbid"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// filtered makes a test binary begin with system calls that fail, see forbid.Calls.
const filtered = "TEST_FILTER"

const cloneParent = 0x8000

// What a container's profile may not know of is done otherwise.
func TestCallsThatAreFiltered(t *testing.T) {
	needsRoot(t)
	const all = "^Test(Orphans|FortySockets|Pinned|EnvironmentFilesIn|ChildEnds)"
	for name, calls := range map[string]string{
		"clone3":            forbid.Call(unix.SYS_CLONE3, unix.ENOSYS),
		"close_range":       forbid.Call(unix.SYS_CLOSE_RANGE, unix.ENOSYS),
		"what is made anew": forbid.Call(unix.SYS_KEYCTL, unix.ENOSYS) + "," + forbid.Call(unix.SYS_IOPRIO_SET, unix.ENOSYS) + "," + forbid.Call(unix.SYS_SCHED_GETSCHEDULER, unix.EPERM),
	} {
		t.Run(name, func(t *testing.T) { again(t, 0, all, filtered+"="+calls) })
	}
}

// What cannot be done without is an error of that start, and the next one works.
func TestCallsThatAreForbidden(t *testing.T) {
	needsRoot(t)
	for name, c := range map[string]struct{ calls, want string }{
		"no memory for a child": {
			forbid.Call(unix.SYS_CLONE3, unix.ENOSYS) + "," + forbid.Call(unix.SYS_CLONE, unix.ENOMEM, cloneParent),
			"spawn: cannot start a process for test: cannot allocate memory; the machine, or supervisord's cgroup, has no memory left",
		},
		"no memory for a file": {
			forbid.Call(unix.SYS_MEMFD_CREATE, unix.ENOSYS),
			"environment: cannot read environment file /etc/hostname: function not implemented; ",
		},
		"no sockets": {
			forbid.Call(unix.SYS_SOCKETPAIR, unix.EMFILE, unix.AF_UNIX),
			"none: cannot fork the process that starts others: too many open files",
		},
		"no template": {
			forbid.Call(unix.SYS_CLONE, unix.EAGAIN, int(unix.SIGCHLD)),
			"none: cannot fork the process that starts others: resource temporarily unavailable",
		},
	} {
		t.Run(name, func(t *testing.T) {
			again(t, 0, "^TestErrorIs$", filtered+"="+c.calls, "TEST_ERROR="+c.want)
		})
	}
}

// A process that cannot be held by a pidfd is not left: neither itself nor its cgroup.
func TestNoPidfdForAStart(t *testing.T) {
	needsRoot(t)
	again(t, 0, "^TestStartWithoutPidfd$", "TEST_PIDFD=1")
}

func TestStartWithoutPidfd(t *testing.T) {
	if os.Getenv("TEST_PIDFD") == "" {
		t.Skip("runs within another test")
	}
	l, err := NewLauncher(Options{RuntimeDirectory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := forbid.Calls(forbid.Call(unix.SYS_PIDFD_OPEN, unix.EMFILE)); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		_, err := tryLaunch(t, l, sh("echo ran"), nil)
		mustFail(t, err, "spawn", 0, unix.EMFILE)
		if pids, err := children(); err != nil || len(pids) != 1 {
			t.Fatalf("children are left besides the template: %v, %v", pids, err)
		}
		if l.cgroups == nil {
			continue
		}
		if _, err := os.Stat(l.cgroups.Dir() + "/test.service"); !os.IsNotExist(err) {
			t.Fatalf("the cgroup of the start is left: %v", err)
		}
	}
}

func TestErrorIs(t *testing.T) {
	want := os.Getenv("TEST_ERROR")
	if want == "" {
		t.Skip("runs within another test")
	}
	l, err := NewLauncher(Options{RuntimeDirectory: t.TempDir(), NoCgroups: true})
	if err != nil {
		if got := "none: " + err.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		return
	}
	defer l.Close()
	task := sh("echo ran")
	task.Account = Account{UID: 65534, GID: 65534, Groups: []uint32{65534}, Set: true}
	if strings.HasPrefix(want, "environment") {
		task.Program.EnvironmentFiles = []string{"/etc/hostname"}
		os.Setenv("PATH", "/bin")
		chownedFile(t, &task)
	}
	_, err = tryLaunch(t, l, task, nil)
	e, ok := err.(*StartError)
	if !ok {
		t.Fatalf("got %v", err)
	}
	got := fmt.Sprintf("%s: %s; %s", e.Step, e, e.Hint())
	if len(task.Program.EnvironmentFiles) > 0 {
		got = strings.ReplaceAll(got, task.Program.EnvironmentFiles[0], "/etc/hostname")
	}
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// chownedFile gives the task an environment file that is its user's, which the
// process itself reads.
func chownedFile(t *testing.T, task *Task) {
	t.Helper()
	f, err := os.CreateTemp("", "environment")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() { os.Remove(f.Name()) })
	if err := os.Chown(f.Name(), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	task.Program.EnvironmentFiles = []string{f.Name()}
}

// manyStarts has n callers start eight programs each.
func manyStarts(t *testing.T, l *Launcher, n int) (ran int64) {
	t.Helper()
	var all sync.WaitGroup
	var good atomic.Int64
	fds, _ := listen(t, 1)
	for i := range n {
		all.Go(func() {
			for range 8 {
				task := sh(`test "$LISTEN_PID" = $$ && test -e /proc/self/fd/3 && ! test -e /proc/self/fd/4 && exit 42`)
				task.ID, task.Service, task.Sockets = unit.Invocation(lastInvocation.Add(1)), "many", fds
				task.Account = Account{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
				if os.Geteuid() == 0 {
					task = as(alice+uint32(i%2), task)
				}
				p, err := l.Launch(t.Context(), task, nil)
				if err != nil {
					continue
				}
				if e := p.Wait(); e != (unit.Exit{Kind: unit.ByStatus, Code: 42}) {
					t.Errorf("it ended with %+v", e)
				}
				mustGo(t, p)
				good.Add(1)
			}
		})
	}
	all.Wait()
	return good.Load()
}

// meanwhile does something again and again until the test goes on.
func meanwhile(t *testing.T, do func()) (stop func()) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-quit:
				return
			default:
				do()
			}
		}
	})
	return func() { close(quit); done.Wait() }
}

func TestManyStartsUnderCollection(t *testing.T) {
	l := newTestLauncher(t, Options{})
	var keep [][]byte
	stop := meanwhile(t, func() {
		if keep = append(keep, make([]byte, 1<<16)); len(keep) > 100 {
			keep = nil
		}
		runtime.GC()
	})
	defer stop()
	if n := manyStarts(t, l, 8); n != 8*8 {
		t.Errorf("%d of %d ran", n, 8*8)
	}
}

func TestManyStartsUnderSignals(t *testing.T) {
	l := newTestLauncher(t, Options{})
	needsOwn(t, l)
	was := l.own.template.PID()
	stop := meanwhile(t, func() {
		for _, sig := range []unix.Signal{unix.SIGURG, unix.SIGCHLD, unix.SIGWINCH, unix.SIGCONT} {
			unix.Kill(os.Getpid(), sig)
		}
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGTSTP, unix.SIGUSR1, unix.SIGSEGV, unix.SIGURG} {
			unix.Kill(was, sig)
		}
		runtime.Gosched()
	})
	n := manyStarts(t, l, 8)
	stop()
	if n != 8*8 || l.own.template.PID() != was {
		t.Errorf("%d of %d ran, of template %d, which was %d", n, 8*8, l.own.template.PID(), was)
	}
}

// Each time that somebody kills the template the start that it was killed in works,
// unless the next one is killed in it as well.
func TestManyStartsOfTemplatesThatAreKilled(t *testing.T) {
	l := newTestLauncher(t, Options{})
	needsOwn(t, l)
	kills := 0
	stop := meanwhile(t, func() {
		l.own.turn <- struct{}{}                  // so that its number is its own
		if pid := l.own.template.PID(); pid > 0 { // or it was taken off, and the next start forks one
			unix.Kill(pid, unix.SIGKILL)
			kills++
		}
		<-l.own.turn
		for range 100 { // some starts get through
			runtime.Gosched()
		}
	})
	n := manyStarts(t, l, 8)
	stop()
	if n != 8*8 {
		t.Errorf("%d of %d ran, with %d kills", n, 8*8, kills)
	}
	launch(t, l, sh("echo ran")).expect("ran")
}
