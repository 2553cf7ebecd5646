package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// counted counts the walks of /proc from now on.
func counted(t *testing.T) *atomic.Int64 {
	t.Helper()
	var walks atomic.Int64
	take := snapshots.take
	t.Cleanup(func() { snapshots.take = take })
	snapshots.take = func() (map[int]stat, error) {
		walks.Add(1)
		return take()
	}
	return &walks
}

// An end of a process that leaves nobody behind costs no walk of /proc, however many
// processes the machine has. Nor does a kill when all is over.
func TestEndsWithoutAWalk(t *testing.T) {
	l := newTestLauncher(t, Options{NoCgroups: true})
	neighbour := launch(t, l, sh(`sleep 1000 & echo ready; wait`))
	neighbour.expect("ready")
	walks := counted(t)
	for _, script := range []string{"exit 0", "sh -c 'exit 3'; exit 1", "kill -KILL $$"} {
		mustGo(t, launch(t, l, sh(script)).Process)
	}
	if n := walks.Load(); n > 0 {
		t.Errorf("%d walks", n)
	}
}

// A first process of a container that somebody outside has started has session 0, as the
// kernel shows those that are not of the container. Its orphans are strangers all the same.
func TestStrangersWhereTheSessionIsZero(t *testing.T) {
	l := newTestLauncher(t, Options{NoCgroups: true})
	r := launch(t, l, sh("echo ready; sleep 1000"))
	r.expect("ready")
	alive, err := findStrangers(inSessionZero{l.parent})
	if err != nil || !slices.ContainsFunc(alive, func(s stat) bool { return s.pid == r.PID() }) {
		t.Errorf("strangers are %v, %v", alive, err)
	}
}

// inSessionZero is a Parent that has forked nobody.
type inSessionZero struct{ Parent }

func (inSessionZero) Whose(_, session int) Whose {
	if session == 0 {
		return Forked
	}
	return Orphan
}

// A kernel without lists of children (CONFIG_PROC_CHILDREN) has us walk.
func TestEndsWithoutLists(t *testing.T) {
	l := newTestLauncher(t, Options{NoCgroups: true})
	l.kin.strangers.take = func() ([]stat, error) { return nil, errNoLists }
	walks := counted(t)
	mustGo(t, launch(t, l, sh("exit 0")).Process)
	if walks.Load() == 0 {
		t.Error("nobody has looked")
	}
}

// A daemon that has left the session by a double fork is found, waited for, and killed,
// whoever of those above it dies first.
func TestDaemonsAreFoundInAnyOrderOfDeaths(t *testing.T) {
	needsSetsid(t)
	const script = `setsid sh -c 'setsid sh -c "echo daemon \$\$; while [ -d \$T ]; do sleep 1000; done" & echo between $$; wait' & echo main $$; wait`
	each(t, func(t *testing.T, l *Launcher) {
		for _, order := range []string{"between main", "main between", "at once"} {
			for _, how := range []string{"killed", "ends"} {
				t.Run(order+" "+how, func(t *testing.T) {
					r := launch(t, l, sh(script))
					pids := map[string]int{}
					for range 3 {
						var who string
						var pid int
						fmt.Sscan(r.line(), &who, &pid)
						pids[who] = pid
					}
					if order == "at once" {
						unix.Kill(pids["main"], unix.SIGKILL)
						unix.Kill(pids["between"], unix.SIGKILL)
					}
					for who := range strings.FieldsSeq(order) {
						if pid, ok := pids[who]; ok {
							unix.Kill(pid, unix.SIGKILL) // main ends by itself when its child has
							eventually(t, who+" has ended", func() bool { s, err := readStat(pid); return err != nil || !s.alive() })
						}
					}
					r.Wait()
					eventually(t, "it is an orphan", func() bool {
						s, err := readStat(pids["daemon"])
						return err == nil && s.parent == l.parent.PID()
					})
					mustGo(t, launch(t, l, sh("exit 0")).Process) // time for some looks
					if got := r.Survivors(); !slices.ContainsFunc(got, func(s Survivor) bool { return s.PID == pids["daemon"] }) {
						t.Errorf("survivors are %v, without %d", got, pids["daemon"])
					}
					if how == "killed" {
						if err := r.Signal(unix.SIGKILL, unit.ControlGroup); err != nil {
							t.Error(err)
						}
					} else {
						unix.Kill(-pids["daemon"], unix.SIGKILL)
					}
					mustGo(t, r.Process)
					if s, err := readStat(pids["daemon"]); err == nil && s.alive() {
						t.Error("the daemon lives, and the tree is said to be gone")
					}
					r.rest() // every holder of the pipe is gone
				})
			}
		}
	})
}

// Each process of this tree forks the next one and ends. Nobody is there for long.
func TestTreeThatIsOnlyPassingThrough(t *testing.T) {
	needsRoot(t)
	l := newTestLauncher(t, Options{NoCgroups: true})
	for range 4 {
		r := launch(t, l, as(alice, sh(`f() { [ $1 -gt 0 ] && { f $(($1-1)) & } ; [ $1 -gt 0 ] || echo last; }; f 100`)))
		mustGo(t, r.Process)
		if n := processesOf(t, alice); n > 0 {
			t.Errorf("%d processes are left", n)
		}
		if out := r.rest(); out != "last\n" {
			t.Errorf("it has said %q", out)
		}
	}
}

func TestManyEndAtOnceWithoutCgroups(t *testing.T) {
	endAtOnce(t, newTestLauncher(t, Options{NoCgroups: true}), *atOnce/5)
}

// The kernel skips children that come after those that are reaped while it lists them.
// A list is believed when the next one is like it.
func TestListsMissNoChild(t *testing.T) {
	failed := errors.New("out of files")
	for _, c := range []struct {
		name   string
		listed []lists
		err    error
		want   []int
	}{
		{"nothing happens", []lists{{children: []int{1, 2, 3}}, {children: []int{1, 2, 3}}}, nil, []int{1, 2, 3}},
		{"1 is reaped", []lists{{children: []int{1, 3}}, {children: []int{2, 3}}, {children: []int{2, 3}}}, nil, []int{2, 3}},
		{"a thread ends", []lists{{threads: []int{7, 8}}, {threads: []int{7}}, {[]int{7}, []int{1}}, {[]int{7}, []int{1}}}, nil, []int{1}},
		{"it fails", []lists{{children: []int{1}}}, failed, nil},
	} {
		got, err := settledChildren(func() (l lists, err error) {
			if len(c.listed) == 0 {
				return lists{}, c.err
			}
			l, c.listed = c.listed[0], c.listed[1:]
			return l, nil
		})
		if !slices.Equal(got, c.want) || (err != nil) != (c.err != nil) || err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	n := 0
	_, err := settledChildren(func() (lists, error) { n++; return lists{children: []int{n}}, nil })
	if err == nil || n > 2*settleTries {
		t.Errorf("of children that come and go for ever: %v after %d lists", err, n)
	}
}

// A process whose first thread has ended is one as long as it has others: /proc calls
// it a zombie.
func TestFirstThreadEndsFirst(t *testing.T) {
	each(t, func(t *testing.T, l *Launcher) {
		r := launch(t, l, fake("fake-forks-headless"))
		var headless int
		fmt.Sscan(r.line(), &headless)
		eventually(t, "its first thread has ended", func() bool {
			s, err := readStat(headless)
			return err == nil && s.state == 'Z'
		})
		r.Survivors() // has seen it while its parent lived
		r.Signal(unix.SIGKILL, unit.ProcessOnly)
		r.Wait()
		if got := r.Survivors(); len(got) != 1 || got[0].PID != headless {
			t.Errorf("survivors are %v, want %d", got, headless)
		}
		if err := r.Signal(unix.SIGKILL, unit.ControlGroup); err != nil {
			t.Error(err)
		}
		mustGo(t, r.Process)
		r.rest() // it held the pipe
	})
}

func init() {
	fakes["fake-forks-headless"] = func([]string) {
		os.StartProcess("/proc/self/exe", []string{"fake-headless"}, &os.ProcAttr{
			Env: os.Environ(), Files: []*os.File{nil, os.Stdout}, Sys: &syscall.SysProcAttr{Setsid: true},
		})
		time.Sleep(patience) // until it is killed, and not for ever
	}
	fakes["fake-headless"] = func([]string) {
		fmt.Println(os.Getpid())
		time.AfterFunc(patience, func() { os.Exit(1) })
		syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0) // of this thread
	}
	if os.Args[0] == "fake-headless" {
		runtime.LockOSThread() // to the first one
	}
}
