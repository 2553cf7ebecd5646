package process

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/cgroup"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Options of a launcher.
type Options struct {
	RuntimeDirectory string // names the cgroups: two supervisords never share one
	NoCgroups        bool   // track processes by their session, also where cgroups could be had
	Parent           Parent // who has the processes as children, and stays its owner's; nil: this process

	// What follows is for this process as the Parent.

	OnStray func(pid int) // an orphan that nobody here has started was reaped; may be nil

	// Sole says that nothing else in this program starts processes or waits for them.
	// Then every child that has ended is reaped, including those that the program had
	// when it was executed, and what ends in our own session while we are PID 1.
	Sole bool
}

// A Launcher starts processes. There is one of a Parent, since the orphans of
// all that it starts come to the Parent itself.
type Launcher struct {
	null    int
	parent  Parent
	own     *thisProcess // if that is the parent
	kin     *kin
	cgroups *cgroup.Tree // nil: there are none
	without string       // why
	moves   atomic.Bool  // processes are moved into their cgroups, since they cannot be started there
	hung    hung

	mu      sync.Mutex
	running map[*Process]struct{} // whose trees are not gone
}

// firstHigh is where fds are put that must not be among those of a child.
const firstHigh = 10

// NewLauncher prepares to start processes. Without a Parent it makes us the parent of all
// orphans below. Only such a launcher should start processes in this program from then
// on: it reaps what it does not know, unless that is in our own session and another
// part of the program may wait for it (see Options.Sole).
func NewLauncher(o Options) (*Launcher, error) {
	null, err := openHigh("/dev/null", unix.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("cannot open /dev/null: %w", err)
	}
	l := &Launcher{null: null, parent: o.Parent, running: map[*Process]struct{}{}}
	if l.parent == nil {
		if l.own, err = newThisProcess(o, null); err != nil {
			unix.Close(null)
			return nil, err
		}
		l.parent = l.own
	}
	l.kin = newKin(l.parent)
	l.findCgroups(o)
	return l, nil
}

// counts says whether this is a build for go build -cover, which counts in variables, or
// one that does not say.
func counts() bool {
	info, ok := debug.ReadBuildInfo()
	return !ok || slices.Contains(info.Settings, debug.BuildSetting{Key: "-cover", Value: "true"})
}

// softFiles is the soft limit of files that this program was started with, and the
// one that package os has made of it. syscall.Exec puts it back before it tries; this
// try is of a file that cannot be.
var softFiles = sync.OnceValue(func() (soft struct{ before, raised uint64 }) {
	var raised, before unix.Rlimit
	if unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &raised) != nil {
		return soft
	}
	syscall.Exec("", []string{""}, nil)
	unix.Prlimit(0, unix.RLIMIT_NOFILE, &raised, &before)
	soft.before, soft.raised = before.Cur, raised.Cur
	return soft
})

func openHigh(path string, flags int) (int, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, 0) })
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstHigh)
}

func (l *Launcher) findCgroups(o Options) {
	if o.NoCgroups {
		l.without = "not wanted"
		return
	}
	cgroups, err := cgroup.Open(o.RuntimeDirectory)
	if err != nil {
		l.without = err.Error()
		return
	}
	l.cgroups = cgroups
}

// Tracking says how the processes of an invocation are held together: by the
// cgroups below the one returned, or not by cgroups, and why.
func (l *Launcher) Tracking() (cgroup, why string) {
	if l.cgroups == nil {
		return "", l.without
	}
	return l.cgroups.Path(), ""
}

// Close releases what the launcher holds. Processes go on; if they are our own children
// nobody reaps orphans any more.
func (l *Launcher) Close() error {
	if l.own != nil {
		l.own.close()
	}
	unix.Close(l.null)
	if l.cgroups != nil {
		return l.cgroups.Close()
	}
	return nil
}

// Launch starts a program and returns when it runs, or when ctx ends. It waits
// for the disk, for the process, and for staged, so it has a goroutine of its own,
// and ctx a deadline.
//
// When the process is there but has yet to run its program, staged is called: it
// stores who that process is. Only if it returns nil does the program run. From
// then on the Process may be signalled, so one that hangs before it has become its
// program can be killed, as its user can make it hang. Launch waits for staged as long as that takes.
//
// If Launch fails, the process is killed, and nothing is left of it unless ctx has
// ended first: then what hangs in the kernel (the opening of a file, a start, a
// process on a disk that does not answer) ends in the background when it can, and
// [Process.WaitGone] tells of the process that staged has seen. It holds no lock,
// but a thread if it is no process. The error is a *StartError, or that of staged.
//
// Where the Parent lasts, whoever was shown a Process says [Process.Started] and
// [Process.Release] when these are stored; whoever comes after us calls Resume.
func (l *Launcher) Launch(ctx context.Context, t Task, staged func(*Process) error) (*Process, error) {
	r, err := l.prepare(ctx, &t)
	if err != nil {
		return nil, err
	}
	p, c, err := l.fork(ctx, &t, r)
	if err != nil {
		r.close()
		return nil, err
	}
	return l.lead(ctx, p, c, staged)
}

// lead leads a conversation to its end: p has become its program, or is killed.
func (l *Launcher) lead(ctx context.Context, p *Process, c *conversation, staged func(*Process) error) (*Process, error) {
	defer c.close()
	known := false
	err := c.born(ctx, p)
	if err == nil && staged != nil {
		known = true
		err = staged(p)
	}
	if err == nil {
		err = c.run(ctx, p)
	}
	if err = l.explain(ctx, p.name.Service, err); err == nil {
		return p, nil
	}
	c.close()
	p.killTree()
	if !known {
		p.Release()
	}
	if p.WaitGone(ctx) != nil {
		l.lingers(p)
	}
	return nil, err
}

// lingers counts a process that was killed and is not gone among what hangs: a file system
// that its user serves may keep it for ever, and the next one as well.
func (l *Launcher) lingers(p *Process) {
	l.hung.add(p.name.Service, 1)
	go func() {
		<-p.gone
		l.hung.add(p.name.Service, -1)
	}()
}

// A ready is what a start needs to know, as it is on the disk now.
type ready struct {
	order *order
	file  *Executable // nil: it is run by its path
	room  room        // -1: the process reads no environment files
	err   error
}

func (r ready) close() {
	r.closeRoom()
	if r.file != nil {
		r.file.Close()
	}
}

// closeRoom may be called twice: a start that fails closes it before it waits.
func (r *ready) closeRoom() {
	if r.room >= 0 {
		unix.Close(int(r.room))
	}
	r.room = -1
}

// prepare reads what the start needs from the disk.
func (l *Launcher) prepare(ctx context.Context, t *Task) (ready, error) {
	r, err := apart(ctx, &l.hung, t.Service, func() ready { return t.ready(l.parent.PID() == 1) }, ready.close)
	if err != nil {
		return ready{}, notAnswered(err, t.Program.Path)
	}
	return r, r.err
}

func (t *Task) ready(first bool) (r ready) {
	r.room = -1
	path, file, err := t.program()
	if err != nil {
		return ready{room: -1, err: err}
	}
	r.file = file
	if r.order, err = t.order(path, first); err == nil && len(r.order.envFiles) > 0 {
		if r.room, err = newRoom(len(r.order.envFiles)); err != nil {
			r.room = -1
			err = stepEnvironment.failed(errnoOf(err), r.order.envFiles[0].path, "")
		}
	}
	if err != nil {
		r.close()
		return ready{room: -1, err: err}
	}
	return r
}

// notAnswered is the error of a disk that was not waited for to the end.
func notAnswered(err error, path string) *StartError {
	e := undone(err, path)
	if e.Errno != syscall.ECANCELED {
		e.hint = "the file system of the program, or of an environment file, does not answer"
	}
	return e
}

// Apart does what may wait for the disk of a service for as long as ctx lasts. What comes
// later is dropped. The error is a *StartError about path.
func Apart[T any](ctx context.Context, l *Launcher, service, path string, do func() T) (T, error) {
	v, err := apart(ctx, &l.hung, service, do, func(T) {})
	if err != nil {
		return v, notAnswered(err, path)
	}
	return v, nil
}

// program opens what is to be run; no file: it is run by its path.
func (t *Task) program() (path string, file *Executable, err error) {
	if t.Executable != nil {
		if file = t.Executable.duplicate(); file == nil {
			return "", nil, stepExec.failed(syscall.EBADF, t.Executable.path, "")
		}
		return file.path, file, nil
	}
	path, file, err = find(t.Program)
	if err != nil {
		return "", nil, err
	}
	kind, err := inspect(file, path)
	if err != nil {
		file.Close()
		return "", nil, err
	}
	if kind != program && kind != unreadable { // an interpreter opens it by path
		file.Close()
		return path, nil, nil
	}
	return path, file, nil
}

// explain looks for the reason of an error that the kernel gave.
func (l *Launcher) explain(ctx context.Context, service string, err error) error {
	e, ok := err.(*StartError)
	if ok && step(e.Step) == stepExec {
		e.hint, _ = apart(ctx, &l.hung, service, e.look, func(string) {})
	}
	return err
}

// undone is the error of a process that was not waited for to the end.
func undone(err error, path string) *StartError {
	e := stepStart.failed(errnoOf(err), path, "")
	switch {
	case errors.Is(err, context.DeadlineExceeded), err == errHung:
		e.Errno = syscall.ETIMEDOUT
	case errors.Is(err, context.Canceled):
		e.Errno = syscall.ECANCELED
	}
	return e
}

// died is the error of a process that ended without a word.
func died(ctx context.Context, p *Process, path string) *StartError {
	select {
	case <-p.exited:
	case <-ctx.Done(): // its end of the pair is closed, and it is not gone yet
		return undone(context.Cause(ctx), path)
	}
	return stepStart.failed(0, fmt.Sprintf("cannot start %s: its process %s before the program ran", path, how(p.Wait())), "")
}

// how is what a process did at its end.
func how(e unit.Exit) string {
	if e.Kind != unit.ByStatus {
		return "was ended by " + unix.SignalName(e.Signal)
	}
	return "ended with status " + strconv.Itoa(e.Code)
}
