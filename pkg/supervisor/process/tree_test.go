package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func needsSetsid(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("needs setsid(1)")
	}
}

// families are programs that make it hard to stop them (R7). Each says "ready"
// when its tree is complete.
//
// No script of a test goes on for ever when the test has died: $T is there for as
// long as the test runs, and who stops itself is killed by somebody who sleeps.
var families = map[string]string{
	"a main process that ignores TERM": `trap '' TERM; echo ready; while [ -d $T ]; do sleep 1000; done`,
	"a child that ignores TERM":        `(trap '' TERM; echo ready; while [ -d $T ]; do sleep 1000; done) & wait`,
	"an escape by setsid":              `setsid sh -c 'trap "" TERM; echo ready; while [ -d $T ]; do sleep 1000; done' & wait`,
	"a double fork":                    `setsid sh -c 'setsid sh -c "trap \"\" TERM; echo ready; while [ -d $T ]; do sleep 1000; done" & exit' ; sleep 1000`,
	"stopped":                          `trap '' TERM; (echo ready; kill -STOP $$; sleep 1000; kill -KILL $$) & wait; while [ -d $T ]; do sleep 1000; done`,
	"stopped children":                 `for i in 1 2 3; do setsid sh -c '(sleep 1000; kill -KILL $$) & kill -STOP $$; sleep 1000' & done; echo ready; trap '' TERM; while [ -d $T ]; do sleep 1000; done`,
}

func TestKillReachesTheWholeTree(t *testing.T) {
	needsSetsid(t)
	each(t, func(t *testing.T, l *Launcher) {
		for name, script := range families {
			t.Run(name, func(t *testing.T) {
				r := launch(t, l, sh(script))
				r.expect("ready")
				if err := r.Signal(syscall.SIGTERM, unit.ControlGroup); err != nil {
					t.Errorf("TERM: %v", err)
				}
				if len(r.Survivors()) == 0 && !strings.HasPrefix(name, "stopped") {
					t.Error("nobody has survived TERM, so this tests nothing")
				}
				if err := r.Signal(syscall.SIGKILL, unit.ControlGroup); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Errorf("KILL: %v", err)
				}
				mustGo(t, r.Process)
				if s := r.Survivors(); len(s) > 0 {
					t.Errorf("survivors: %v", s)
				}
				if r.rest(); r.lines.Err() != nil { // every holder of the pipe is gone
					t.Error(r.lines.Err())
				}
				if err := r.Signal(syscall.SIGTERM, unit.ControlGroup); !errors.Is(err, os.ErrProcessDone) {
					t.Errorf("a signal to nobody says %v", err)
				}
			})
		}
	})
}

// Older kernels have no cgroup.kill, and no clone3 into a cgroup.
func TestCgroupsOfOlderKernels(t *testing.T) {
	needsSetsid(t)
	l := newTestLauncher(t, Options{})
	if l.cgroups == nil {
		t.Skip("needs cgroups: " + l.without)
	}
	l.moves.Store(true)
	for name, script := range families {
		t.Run(name, func(t *testing.T) {
			r := launch(t, l, sh(script))
			r.expect("ready")
			if err := r.tree.(*cgroupTree).killOneByOne(); err != nil {
				t.Error(err)
			}
			mustGo(t, r.Process)
		})
	}
}

// A tree is not gone while anybody is left, and Survivors says who.
func TestTreeOutlivesItsMainProcess(t *testing.T) {
	needsSetsid(t)
	each(t, func(t *testing.T, l *Launcher) {
		var hold [2]int // blocking, unlike those of os.Pipe
		if err := unix.Pipe2(hold[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(hold[0])
		task := sh(`setsid sh -c 'echo $$; read x <&3' & read x <&3`)
		task.Sockets = []File{{hold[0], "hold"}}
		r := launch(t, l, task)
		var escaped int
		fmt.Sscan(r.line(), &escaped)
		r.Survivors() // has seen it while its parent lived
		r.Signal(syscall.SIGTERM, unit.ProcessOnly)
		if exit := r.Wait(); exit.Kind != unit.ByKill || exit.Signal != syscall.SIGTERM {
			t.Errorf("the main process ended by %+v", exit)
		}
		select {
		case <-r.gone:
			t.Error("the tree is said to be gone")
		default:
		}
		if got := r.Survivors(); len(got) != 1 || got[0] != (Survivor{escaped, "sh"}) {
			t.Errorf("survivors are %v, want sh as %d", got, escaped)
		}
		if err := r.Signal(syscall.SIGTERM, unit.ProcessOnly); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("a signal to the main process, which is gone: %v", err)
		}
		unix.Close(hold[1]) // it reads the end of the file
		mustGo(t, r.Process)
	})
}

func TestKillModes(t *testing.T) {
	const script = `exec 2>/dev/null; trap 'echo main; exit' TERM; (trap 'echo child; exit' TERM; echo ready; while [ -d $T ]; do sleep 0.01; done) & while [ -d $T ]; do sleep 0.01; done`
	each(t, func(t *testing.T, l *Launcher) {
		t.Run("process", func(t *testing.T) {
			r := launch(t, l, sh(script))
			r.expect("ready")
			r.Signal(syscall.SIGTERM, unit.ProcessOnly)
			r.expect("main")
			r.Wait()
			if len(r.Survivors()) == 0 {
				t.Error("the child is gone")
			}
		})
		t.Run("mixed", func(t *testing.T) {
			r := launch(t, l, sh(script))
			r.expect("ready")
			r.Signal(syscall.SIGTERM, unit.Mixed)
			r.expect("main")
			r.Wait()
			r.Signal(syscall.SIGKILL, unit.Mixed)
			mustGo(t, r.Process)
			if out := r.rest(); out != "" {
				t.Errorf("the child was signalled: %s", out)
			}
		})
		t.Run("control-group", func(t *testing.T) {
			r := launch(t, l, sh(script))
			r.expect("ready")
			r.Signal(syscall.SIGTERM, unit.ControlGroup)
			mustGo(t, r.Process)
			if out := r.rest(); strings.Count(out, "main") != 1 || strings.Count(out, "child") != 1 {
				t.Errorf("not once each:\n%s", out)
			}
		})
	})
}

// A stopped process gets to see its signal.
func TestSignalWakesWhoIsStopped(t *testing.T) {
	each(t, func(t *testing.T, l *Launcher) {
		r := launch(t, l, sh(`exec 2>/dev/null; trap 'echo bye; exit 3' TERM; echo ready; while [ -d $T ]; do sleep 0.01; done`))
		r.expect("ready")
		r.Signal(syscall.SIGSTOP, unit.ControlGroup)
		r.Signal(syscall.SIGTERM, unit.ControlGroup)
		r.expect("bye")
		if exit := r.Wait(); exit.Code != 3 {
			t.Errorf("it ended with %+v", exit)
		}
	})
}

// Orphans of an invocation come to us and are reaped; nobody's status is stolen.
func TestOrphansAreReaped(t *testing.T) {
	strays := make(chan int, 10)
	l := newTestLauncher(t, Options{OnStray: func(pid int) { strays <- pid }})
	r := launch(t, l, sh(`sh -c '(echo $(exec sh -c "echo \$PPID"); read x <&3) &' ; exit 5`))
	var orphan int
	fmt.Sscan(r.line(), &orphan)
	if exit := r.Wait(); exit.Code != 5 {
		t.Errorf("it ended with %+v", exit)
	}
	for pid := range strays {
		if pid == orphan {
			break
		}
	}
	if _, err := readStat(orphan); err == nil {
		t.Error("the orphan is still a zombie")
	}
}

// What exec.Command starts in this program is not the reaper's.
func TestReaperLeavesOtherChildren(t *testing.T) {
	l := newTestLauncher(t, Options{})
	for range 20 {
		launch(t, l, sh("exit 0"))
		if err := exec.Command("/bin/sh", "-c", "exit 0").Run(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestForkStorm(t *testing.T) {
	needsRoot(t) // the limit of processes binds ordinary users
	needsSetsid(t)
	for name, script := range map[string]string{
		"in one session":    `echo ready; f() { [ -d $T ] && { f & f & wait; } }; f 2>/dev/null`,
		"a session a child": `echo ready; exec 2>/dev/null; f='[ -d $T ] && { setsid sh -c "$f" & setsid sh -c "$f" & wait; }'; export f; while [ -d $T ]; do setsid sh -c "$f"; done`,
	} {
		each(t, func(t *testing.T, l *Launcher) {
			t.Run(name, func(t *testing.T) {
				task := as(alice, sh(script))
				nice := 10
				task.Program.Nice = &nice // the machine is not ours alone
				task.Program.Limits = []unit.Limit{{Resource: unix.RLIMIT_NPROC, Soft: uint64(*storm), Hard: uint64(*storm)}}
				r := launch(t, l, task)
				r.expect("ready")
				for len(r.Survivors()) < *storm/2 {
				}
				r.Signal(syscall.SIGKILL, unit.ControlGroup)
				mustGo(t, r.Process)
				// The kernel calls a cgroup empty, and a process dead, a moment
				// before the last of it shows as a zombie. What escaped would stay.
				for end := time.Now().Add(patience); processesOf(t, alice) > 0; {
					if time.Now().After(end) {
						t.Fatalf("%d processes are left", processesOf(t, alice))
					}
				}
			})
		})
	}
}

// processesOf counts the living processes of a user.
func processesOf(t *testing.T, uid uint32) (n int) {
	t.Helper()
	all, err := snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for pid, s := range all {
		if u, ok := realUID("/proc/" + strconv.Itoa(pid)); ok && u == uid && s.alive() {
			n++
		}
	}
	return n
}
