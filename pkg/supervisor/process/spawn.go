package process

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/stage"
)

// spawnTimeout is how long the kernel may take to give us a process. One that
// comes later is killed.
const spawnTimeout = 30 * time.Second

// stage starts a stage, which waits for its task. On success the process owns
// file.
func (l *Launcher) stage(ctx context.Context, t *Task, path string, file *Executable) (*Process, control, error) {
	tree, err := l.newTree(t)
	if err != nil {
		return nil, control{}, err
	}
	c, stageEnd, err := newControl(l.self)
	if err != nil {
		tree.remove()
		return nil, control{}, spawnError(err, t)
	}
	b := &birth{launcher: l, tree: tree, stageEnd: stageEnd, output: l.output(t)}
	done := make(chan error, 1)
	go func() { done <- b.start() }() // if it hangs, it hangs alone
	ctx, cancel := context.WithTimeout(ctx, spawnTimeout)
	defer cancel()
	select {
	case err = <-done:
	case <-ctx.Done():
		c.close()
		go b.abandon(done, t)
		return nil, control{}, undone(context.Cause(ctx), path)
	}
	if err != nil {
		c.close()
		tree.remove()
		return nil, control{}, spawnError(err, t)
	}
	p, err := l.adopt(b, t, file)
	if err != nil {
		c.close()
		return nil, control{}, spawnError(err, t)
	}
	return p, c, nil
}

func (l *Launcher) newTree(t *Task) (tree, error) {
	if l.cgroups == nil {
		return newSessionTree(newMarks(t.Account.UID, t.Env, t.Output), l.reaper.owns), nil
	}
	group, err := l.cgroups.Make(t.Service, strconv.FormatUint(uint64(t.ID), 10))
	if err != nil {
		return nil, &StartError{Step: stepCgroup, Errno: errnoOf(err), Detail: t.Service, Status: statusCgroup}
	}
	tree, err := newCgroupTree(group)
	if err != nil {
		group.Remove()
		return nil, &StartError{Step: stepCgroup, Errno: errnoOf(err), Detail: t.Service, Status: statusCgroup}
	}
	return tree, nil
}

func spawnError(err error, t *Task) error {
	var e *StartError
	if errors.As(err, &e) {
		return e
	}
	return &StartError{Step: stepSpawn, Errno: errnoOf(err), Detail: t.Service}
}

// output returns an fd of our own: the start may outlast its caller.
func (l *Launcher) output(t *Task) int {
	from := t.Output
	if from < 0 {
		from = l.null
	}
	fd, err := unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, firstHigh)
	if err != nil {
		return -1
	}
	return fd
}

// A birth is the start of one process.
type birth struct {
	launcher *Launcher
	tree     tree
	stageEnd int // owned
	output   int // owned
	pid      int
	pidfd    int
}

// start starts the stage. It must be followed by adopt, unless it fails.
func (b *birth) start() error {
	defer unix.Close(b.stageEnd)
	if b.output < 0 {
		return unix.EBADF
	}
	defer unix.Close(b.output)
	b.launcher.reaper.begin()
	err := b.startIn()
	if err == nil && b.pidfd < 0 {
		err = unix.ENOSYS // no such kernel has passed becomeParent
	}
	b.launcher.reaper.end(b.pid)
	return err
}

// abandon waits for a start that nobody waits for any more, and undoes it.
func (b *birth) abandon(done <-chan error, t *Task) {
	if <-done != nil {
		b.tree.remove()
		return
	}
	if p, err := b.launcher.adopt(b, t, nil); err == nil {
		p.killTree()
	}
}

// startIn starts the stage in its cgroup, by clone3 if that can be had. Else it is
// moved there, which is as good: it waits for its task.
func (b *birth) startIn() error {
	t, ok := b.tree.(*cgroupTree)
	if !ok {
		return b.clone(-1)
	}
	fd, err := t.group.Open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = b.clone(fd)
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.E2BIG) && !errors.Is(err, unix.EPERM) {
		return err
	}
	if err := b.clone(-1); err != nil {
		return err
	}
	if err := t.group.Add(b.pid); err != nil {
		b.discard()
		return err
	}
	return nil
}

// discard ends a stage that nobody watches.
func (b *birth) discard() {
	unix.PidfdSendSignal(b.pidfd, unix.SIGKILL, nil, 0)
	retry(func() (int, error) { return 0, unix.Waitid(unix.P_PIDFD, b.pidfd, nil, unix.WEXITED, nil) })
	unix.Close(b.pidfd)
	b.pid = 0
}

// clone starts our own binary as a stage. Its path goes through /proc/self/fd, as
// seen by the child: the parent's, /proc/PID/fd, is closed to it when we are not
// dumpable and have no CAP_SYS_PTRACE. syscall.StartProcess moves fds about in the
// child before it executes the path, but only to places above the highest that it
// passes, which is the stage's end: newControl made it above our binary.
func (b *birth) clone(cgroup int) (err error) {
	b.pidfd = -1
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{}, // no variable of ours or of the unit's acts on the stage
		Files: []uintptr{uintptr(b.launcher.null), uintptr(b.output), uintptr(b.output), uintptr(b.stageEnd)},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &b.pidfd, UseCgroupFD: cgroup >= 0, CgroupFD: cgroup},
	}
	b.pid, _, err = syscall.StartProcess("/proc/self/fd/"+strconv.Itoa(b.launcher.self), []string{stage.Name}, attr)
	return err
}

// adopt makes the stage a Process and begins to watch it.
func (l *Launcher) adopt(b *birth, t *Task, file *Executable) (*Process, error) {
	pidfd, err := newPidfd(b.pidfd)
	if err != nil {
		b.launcher.reaper.forget(b.pid)
		b.discard()
		b.tree.remove()
		return nil, err
	}
	p := &Process{
		pidfd: pidfd, tree: b.tree,
		release: func() { l.reaper.forget(b.pid) },
		exited:  make(chan struct{}), gone: make(chan struct{}),
	}
	switch t := b.tree.(type) {
	case *cgroupTree:
		t.main, t.pid = pidfd, b.pid
	case *sessionTree:
		t.leader, t.pid = pidfd, b.pid
	}
	p.identity, err = identify(b.pid, pidfd, t.Account.UID, b.tree.String())
	go p.watch()
	if err != nil {
		p.killTree()
		<-p.gone
		return nil, err
	}
	p.executable.Store(file)
	return p, nil
}
