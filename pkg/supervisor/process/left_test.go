package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// kill_mode = "process": what the main process leaves behind lives on, and can be
// named, beside the next invocation.
func TestLeftoversAreNamed(t *testing.T) {
	needsSetsid(t)
	each(t, func(t *testing.T, l *Launcher) {
		task := sh(`setsid sh -c 'echo $$; while [ -d $T ]; do sleep 1000; done' & while [ -d $T ]; do sleep 1000; done`)
		task.Service = "leaves"
		r := launch(t, l, task)
		var left int
		fmt.Sscan(r.line(), &left)
		if got := l.Leftovers("leaves"); len(got) != 0 || len(r.Leftovers()) != 0 {
			t.Errorf("while the main process lives, left over are %v", got)
		}
		r.Survivors() // has seen it while its parent lived
		r.Signal(syscall.SIGKILL, unit.ProcessOnly)
		r.Wait()
		next := sh(`echo next; exec sleep 1000`)
		next.Service = "leaves"
		launch(t, l, next).expect("next")
		id := unit.Invocation(lastInvocation.Load() - 1)
		for _, got := range l.Leftovers("leaves") {
			if got.Invocation != id || got.Comm != "sh" && got.Comm != "dash" && got.Comm != "sleep" {
				t.Errorf("got %+v", got)
			}
		}
		if got := r.Leftovers(); !slices.ContainsFunc(got, func(s Survivor) bool { return s.PID == left }) {
			t.Errorf("left over are %v, without %d", got, left)
		}
		if got := l.Leftovers("another"); len(got) > 0 {
			t.Errorf("another service has %v", got)
		}
		r.Signal(syscall.SIGKILL, unit.ControlGroup)
		mustGo(t, r.Process)
		if got := l.Leftovers("leaves"); len(got) > 0 {
			t.Errorf("they are gone, and named: %v", got)
		}
	})
}

// A process without any mark, whose parent is gone before anybody looked: with
// cgroups it belongs, without it is a stray, and no invocation's.
func TestEscapeWithoutMarks(t *testing.T) {
	needsSetsid(t)
	const script = `setsid sh -c 'exec env -i setsid sh -c "echo \$\$; exec >/dev/null 2>&1 </dev/null; kill -STOP \$\$" & exit' ; exec sleep 1000`
	each(t, func(t *testing.T, l *Launcher) {
		r := launch(t, l, sh(script))
		var escaped int
		fmt.Sscan(r.line(), &escaped)
		stopped(t, l, escaped)
		strays := l.Strays()
		if l.cgroups != nil {
			if len(strays) > 0 {
				t.Errorf("strays: %v", strays)
			}
			r.Signal(syscall.SIGKILL, unit.ControlGroup)
			mustGo(t, r.Process)
			return
		}
		if len(strays) != 1 || strays[0] != (Stray{Survivor{escaped, "sh"}, uint32(os.Geteuid())}) {
			t.Errorf("strays: %+v, want sh as %d", strays, escaped)
		}
		r.Signal(syscall.SIGKILL, unit.ControlGroup)
		mustGo(t, r.Process)
		if strays = l.Strays(); len(strays) != 1 {
			t.Errorf("after the stop: %+v", strays)
		}
		kill(t, escaped)
	})
}

// stopped returns when a process has come to the Parent as an orphan and stands still.
func stopped(t *testing.T, l *Launcher, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d stands still", pid), func() bool {
		s, err := readStat(pid)
		return err == nil && s.state == 'T' && s.parent == l.parent.PID()
	})
}

func kill(t *testing.T, pid int) {
	t.Helper()
	p, err := openPidfd(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.signal(syscall.SIGKILL)
	p.ended()
}

// A daemon that keeps only its pipe, on a high descriptor, or only its
// environment, is found; also one of root's that has become another user.
func TestEscapesWithAMark(t *testing.T) {
	needsSetsid(t)
	needsRoot(t)
	for name, inner := range map[string]string{
		"environment":  `exec >/dev/null 2>&1 </dev/null; kill -STOP $$`,
		"pipe":         `exec 9>&1 >/dev/null 2>&1 </dev/null; exec env -i sh -c "kill -STOP \$\$"`,
		"another user": `exec setpriv --reuid 4242 --regid 4242 --clear-groups env -i sh -c "kill -STOP \$\$"`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath("setpriv"); err != nil && name == "another user" {
				t.Skip("needs setpriv(1)")
			}
			l := newTestLauncher(t, Options{NoCgroups: true})
			r := launch(t, l, sh(`setsid sh -c 'setsid sh -c "$0" & echo $!; exit' "$1"; exec sleep 1000`, "echo $$;"+inner))
			var launcher, escaped int
			fmt.Sscan(r.line(), &launcher)
			fmt.Sscan(r.line(), &escaped)
			if launcher == escaped || escaped == 0 {
				escaped = max(launcher, escaped)
			}
			stopped(t, l, escaped)
			if s := l.Strays(); len(s) > 0 {
				t.Errorf("strays: %+v", s)
			}
			r.Signal(syscall.SIGKILL, unit.ControlGroup)
			mustGo(t, r.Process)
			if s, err := readStat(escaped); err == nil && s.alive() {
				t.Errorf("process %d has escaped", escaped)
			}
		})
	}
}

// E.g. mosquitto: who belongs is told by what the kernel says of it, and a
// neighbour that has become the same user does not.
func TestMembers(t *testing.T) {
	needsSetsid(t)
	each(t, func(t *testing.T, l *Launcher) {
		r := launch(t, l, sh(`sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait`))
		neighbour := launch(t, l, sh(`echo $$; exec sleep 1000`))
		var child, away, other int
		fmt.Sscan(r.line(), &child)
		fmt.Sscan(r.line(), &away)
		fmt.Sscan(neighbour.line(), &other)
		eventually(t, "setsid(1) has done it", func() bool {
			s, err := readStat(away)
			return err == nil && s.session == away
		})
		for _, c := range []struct {
			who  string
			pid  int
			want bool
		}{
			{"main", r.PID(), true},
			{"child", child, true},
			{"child in a session of its own", away, l.cgroups != nil},
			{"neighbour", other, false},
			{"supervisord", os.Getpid(), false},
			{"init", 1, false},
		} {
			fd := pidfdOf(t, c.pid)
			if got := r.Member(fd, c.pid); got != c.want {
				t.Errorf("%s is a member: %t", c.who, got)
			}
			unix.Close(fd)
		}
		// The number of a member does not make another process one.
		fd := pidfdOf(t, other)
		kill(t, other)
		mustGo(t, neighbour.Process)
		if r.Member(fd, r.PID()) {
			t.Error("a dead process has taken a member's number")
		}
		unix.Close(fd)
		// Who has ended had belonged.
		main, dead := pidfdOf(t, r.PID()), pidfdOf(t, child)
		r.Signal(syscall.SIGKILL, unit.ControlGroup)
		mustGo(t, r.Process)
		if got := r.Member(main, r.PID()); got != (r.Identity().PidfdInode != 0) {
			t.Errorf("the main process, ended, is a member: %t", got)
		}
		t.Logf("a child that has ended is a member: %t", r.Member(dead, child))
		unix.Close(main)
		unix.Close(dead)
	})
}

func pidfdOf(t *testing.T, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// An orderly stop leaves no cgroup behind: not the invocation's, not the
// service's, not supervisord's.
func TestNoCgroupStays(t *testing.T) {
	l := newTestLauncher(t, Options{})
	if l.cgroups == nil {
		t.Skip("needs cgroups: " + l.without)
	}
	top := l.cgroups.Dir()
	for range 50 {
		a, b := launch(t, l, sh("echo a; exec sleep 1000")), launch(t, l, sh("echo b; exec sleep 1000"))
		a.expect("a")
		b.expect("b")
		if _, err := os.Stat(top); err != nil {
			t.Fatal("this tests nothing: ", err)
		}
		for _, r := range []*run{a, b} {
			r.Signal(syscall.SIGTERM, unit.ControlGroup)
			mustGo(t, r.Process)
		}
		if _, err := os.Stat(top); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s is left: %v", top, err)
		}
	}
}

// Two hundred starts and stops, and failed starts, leave nothing open.
func TestNothingLeaks(t *testing.T) {
	each(t, func(t *testing.T, l *Launcher) {
		once := func(i int) {
			task := sh("exec sleep 1000")
			task.ID, task.Output, task.Service = unit.Invocation(lastInvocation.Add(1)), -1, fmt.Sprint("leak", i)
			switch i % 4 {
			case 1:
				task.Program.Dir = "/no/such"
			case 2:
				task.Program.Path = "/no/such"
			}
			var seen *Process
			p, err := l.Launch(t.Context(), task, func(p *Process) error {
				seen = p
				if i%4 == 3 {
					return errors.New("no")
				}
				return nil
			})
			if (err == nil) != (i%4 == 0) {
				t.Errorf("%d: %v", i, err)
			}
			switch {
			case err == nil:
				p.Signal(syscall.SIGKILL, unit.ControlGroup)
				mustGo(t, p)
			case seen != nil:
				seen.Release()
			}
		}
		for i := range 8 {
			once(i)
		}
		files, routines := openFDs(t), runtime.NumGoroutine()
		for i := range 200 {
			once(i)
		}
		eventually(t, "nothing has leaked", func() bool { return openFDs(t) <= files && runtime.NumGoroutine() <= routines })
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.running) > 0 || len(l.hung.count) > 0 {
			t.Errorf("kept: %v, %v", l.running, l.hung.count)
		}
	})
}

func openFDs(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// Each wait of a start ends with its context.
func TestEveryWaitEndsWithTheContext(t *testing.T) {
	stuck := make(chan struct{})
	var h hung
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	undone := make(chan int, maxHung)
	for range maxHung {
		_, err := apart(ctx, &h, "disk", func() int { <-stuck; return 7 }, func(n int) { undone <- n })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := apart(t.Context(), &h, "disk", func() int { t.Error("one more"); return 0 }, nil); err != errHung {
		t.Errorf("got %v", err)
	}
	if n, err := apart(t.Context(), &h, "another", func() int { return 1 }, nil); n != 1 || err != nil {
		t.Errorf("another service: %d, %v", n, err)
	}
	close(stuck)
	for range maxHung {
		if n := <-undone; n != 7 {
			t.Errorf("undone is %d", n)
		}
	}
	eventually(t, "it may be tried again", func() bool { return !h.full("disk") })
	if n, err := apart(t.Context(), &h, "disk", func() int { return 1 }, nil); n != 1 || err != nil {
		t.Errorf("after that: %d, %v", n, err)
	}
}

// A cgroup that somebody has frozen: the start fails and says so, others start.
func TestStartInAFrozenCgroup(t *testing.T) {
	needsRoot(t)
	l := newTestLauncher(t, Options{})
	if l.cgroups == nil {
		t.Skip("needs cgroups: " + l.without)
	}
	dir := l.cgroups.Dir() + "/frozen.service"
	for _, moves := range []bool{false, true} { // born there or, where clone3(2) is filtered, moved there
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(dir)
		if err := os.WriteFile(dir+"/cgroup.freeze", []byte("1"), 0); err != nil {
			t.Skip("needs the freezer: ", err)
		}
		l.moves.Store(moves)
		task := sh("echo ran")
		task.ID, task.Service = unit.Invocation(lastInvocation.Add(1)), "frozen"
		task.Account = Account{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := l.Launch(ctx, task, nil)
		cancel()
		e := mustFail(t, err, "cgroup", 219, 0)
		if !strings.Contains(e.Error(), "it is frozen") || !strings.Contains(e.Hint(), "cgroup.freeze") {
			t.Errorf("moves %v: error %q, hint %q", moves, e, e.Hint())
		}
	}
	launch(t, l, sh("echo other")).expect("other")
}
