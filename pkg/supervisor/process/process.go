// Package process starts programs and follows them to their end.
//
// A [Launcher] has a process forked that waits for what it is to become (package
// spawn), tells its caller the pid before anything of the program has run, and sends
// the process the rest. What runs then is a [Process]: its main process, held by a pidfd, and the tree of
// all that it forks, held together by a cgroup or, where there are none, by its
// session.
//
// Who forks, and whose children they are, is a [Parent]: this process, or one that lives
// on when this process does not. It tells how a main process has ended, and keeps it as a
// zombie until the tree is gone, so that nobody else gets the numbers of its session and
// its group.
//
// A process costs parked goroutines, not a thread: pidfds and cgroup.events are
// in Go's poller. The main process is reaped by its pidfd, orphans by their
// number; nothing ever waits for "any child", which would steal the status of a
// child that another goroutine waits for.
//
// Signals go through pidfds, never to a number that may by now be a stranger's.
//
// It needs Linux 5.4 and a mounted /proc.
package process

import (
	"context"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Process is one invocation of a program: a main process and its tree.
type Process struct {
	name       Name
	parent     Parent
	identity   Identity
	pidfd      *pidfd
	tree       tree
	executable atomic.Pointer[Executable] // nil: not pinned, or gone
	warnings   atomic.Pointer[[]string]

	exited chan struct{} // closed when exit is set
	exit   unit.Exit
	gone   chan struct{} // closed when the whole tree is gone

	store   sync.Once
	stored  chan struct{} // closed when nobody needs the Parent to know how it ended
	freed   sync.Once
	freeing error
}

// A tree is all processes of an invocation, however they were forked.
type tree interface {
	// signal sends sig to every process, and says whether there was any.
	signal(sig syscall.Signal) (found bool, err error)
	// kill kills all, and whatever they fork meanwhile.
	kill() error
	// waitEmpty returns when none is left, after the main process has ended.
	waitEmpty()
	members() []Survivor
	// has says whether a process belongs, and does not wait: see Member.
	has(pidfd, pid int) bool
	// remove says that it is empty. From then on it has no members.
	remove()
	String() string // the cgroup; empty: none
}

// A Survivor is a process that is still there.
type Survivor struct {
	PID  int
	Comm string // its name (proc_pid_comm(5)), of which it is itself the author
}

// PID is the main process, also when it has ended.
func (p *Process) PID() int { return p.identity.PID }

// Identity is what tells the main process from all others.
func (p *Process) Identity() Identity { return p.identity }

// Warnings says what the program did not get as it was asked for, and runs
// without: "limit_nofile: asked 1048576, the hard limit is 524288". It is complete
// when [Launcher.Launch] has returned.
func (p *Process) Warnings() []string {
	if w := p.warnings.Load(); w != nil {
		return *w
	}
	return nil
}

// warn is for the one goroutine that launches p.
func (p *Process) warn(words string) {
	all := append(slices.Clone(p.Warnings()), words)
	p.warnings.Store(&all)
}

// Executable returns a handle on the file that the program was executed from,
// which the caller closes; nil for what runs by way of an interpreter ("#!"), and
// when the process is gone.
func (p *Process) Executable() *Executable {
	e := p.executable.Load()
	if e == nil {
		return nil
	}
	return e.duplicate()
}

// Wait returns how the main process ended, when it has.
func (p *Process) Wait() unit.Exit {
	<-p.exited
	return p.exit
}

// WaitGone returns nil when the whole tree is gone, or the error of ctx.
func (p *Process) WaitGone(ctx context.Context) error {
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Survivors lists the processes of the tree that are alive now, the main one
// among them.
func (p *Process) Survivors() []Survivor {
	select {
	case <-p.gone:
		return nil
	default:
		return p.tree.members()
	}
}

// Signal sends a signal to those whom mode means (systemd.kill(5), KillMode=):
// the main process or the whole tree. SIGCONT follows, so that a stopped process
// gets to see it; not for SIGKILL, which needs no help, nor for what is itself
// about stopping. It returns os.ErrProcessDone if there is nobody.
func (p *Process) Signal(sig syscall.Signal, mode unit.KillMode) error {
	switch {
	case mode == unit.ProcessOnly, mode == unit.Mixed && sig != syscall.SIGKILL:
		return p.signalMain(sig)
	case sig == syscall.SIGKILL:
		return p.killTree()
	}
	found, err := p.tree.signal(sig)
	if err == nil && !found {
		err = os.ErrProcessDone
	}
	return err
}

func (p *Process) killTree() error {
	select {
	case <-p.gone:
		return os.ErrProcessDone
	default:
	}
	if err := p.signalMain(syscall.SIGKILL); err != nil && err != os.ErrProcessDone {
		return err
	}
	return p.tree.kill()
}

func (p *Process) signalMain(sig syscall.Signal) error {
	select {
	case <-p.exited:
		return os.ErrProcessDone
	default:
	}
	return p.pidfd.signal(sig)
}

// Release says that how the process ended is stored. When the tree is gone as well its
// Parent forgets it, at once if it is; a Parent that does not last needs nobody to say so.
// Until then whoever comes after us hears of the end again. It may be called at any time,
// and again.
func (p *Process) Release() error {
	p.store.Do(func() { close(p.stored) })
	select {
	case <-p.gone:
		return p.free()
	default:
		return nil
	}
}

// free has the Parent forget the process.
func (p *Process) free() error {
	p.freed.Do(func() { p.freeing = p.parent.Release(p.name) })
	return p.freeing
}

// Started says that what became of the start is stored: that it runs, and with which
// warnings. Whoever comes after us asks the process itself where nobody has said it.
func (p *Process) Started() error { return p.parent.Started(p.name) }

// watch is the goroutine of a process, until nothing is left of it.
func (p *Process) watch(l *Launcher, ended <-chan syscall.WaitStatus) {
	status, seen := <-ended
	p.exit = exitOf(status, seen)
	close(p.exited)
	p.tree.waitEmpty()
	p.tree.remove()
	if e := p.executable.Swap(nil); e != nil {
		e.Close()
	}
	l.drop(p)
	p.pidfd.close()
	if p.parent.Lasts() {
		close(p.gone)
		<-p.stored
		p.free()
		return
	}
	p.free()
	close(p.gone)
}
