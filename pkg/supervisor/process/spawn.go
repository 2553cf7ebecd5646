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
// the file of r.
func (l *Launcher) stage(ctx context.Context, t *Task, r ready) (*Process, control, error) {
	tree, err := l.newTree(t)
	if err != nil {
		return nil, control{}, err
	}
	b := &birth{launcher: l, tree: tree, files: l.files(t, r.file)}
	c, err := b.prepare()
	if err != nil {
		b.close()
		tree.remove()
		return nil, control{}, spawnError(err, t)
	}
	p, err := b.begin(ctx, t, r)
	if err != nil {
		c.close()
		return nil, control{}, err
	}
	return p, c, nil
}

// begin waits for the start, which hangs alone if it hangs.
func (b *birth) begin(ctx context.Context, t *Task, r ready) (*Process, error) {
	ctx, cancel := context.WithTimeout(ctx, spawnTimeout)
	defer cancel()
	failed, err := apart(ctx, &b.launcher.hung, t.Service, b.start, func(err error) { b.abandon(err, t) })
	switch {
	case err == errHung:
		b.close()
		b.tree.remove()
		return nil, undone(err, r.path)
	case err != nil:
		return nil, undone(err, r.path)
	case failed != nil:
		b.tree.remove()
		return nil, spawnError(failed, t)
	}
	p, err := adopt(ctx, b, t, r.file)
	if err != nil {
		return nil, spawnError(err, t)
	}
	return p, nil
}

func (l *Launcher) newTree(t *Task) (tree, error) {
	if l.cgroups == nil {
		return newSessionTree(newMarks(t.Account.UID, t.Env, t.Output)), nil
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

// files are the fds that a stage starts with, but for its end of the pair. They
// are borrowed: should the start outlast its caller, and they be other files by
// then, the stage has no task and ends without a look at them.
func (l *Launcher) files(t *Task, file *Executable) []uintptr {
	output := t.Output
	if output < 0 {
		output = l.null
	}
	files := []uintptr{uintptr(l.null), uintptr(output), uintptr(output), 0}
	if file != nil {
		files = append(files, uintptr(file.fd))
	}
	for _, s := range t.Sockets {
		files = append(files, uintptr(s.FD))
	}
	if t.Handover != nil {
		files = append(files, uintptr(t.Handover[0]), uintptr(t.Handover[1]))
	}
	return files
}

// A birth is the start of one process.
type birth struct {
	launcher *Launcher
	tree     tree
	files    []uintptr // the child's
	self     int       // our own binary; owned
	pid      int
	pidfd    int
}

// prepare makes the socket pair, and puts our binary and the stage's end where
// clone needs them.
func (b *birth) prepare() (c control, err error) {
	b.files[stage.Control] = ^uintptr(0) // none yet
	if b.self, err = unix.FcntlInt(uintptr(b.launcher.self), unix.F_DUPFD_CLOEXEC, max(firstHigh, len(b.files))); err != nil {
		b.self = -1
		return control{}, err
	}
	c, stageEnd, err := newControl(b.self)
	if err == nil {
		b.files[stage.Control] = uintptr(stageEnd)
	}
	return c, err
}

func (b *birth) close() {
	if b.self >= 0 {
		unix.Close(b.self)
	}
	if end := b.files[stage.Control]; end != ^uintptr(0) {
		unix.Close(int(end))
	}
}

// start starts the stage. It must be followed by adopt, unless it fails.
func (b *birth) start() error {
	defer b.close()
	own.begin()
	err := b.startIn()
	if err == nil && b.pidfd < 0 {
		err = unix.ENOSYS // no such kernel has passed becomeParent
	}
	if own.end(b.pid) {
		b.launcher.reaper.look()
	}
	return err
}

// abandon undoes a start that nobody has waited for to its end.
func (b *birth) abandon(err error, t *Task) {
	if err != nil {
		b.tree.remove()
		return
	}
	if p, err := adopt(context.Background(), b, t, nil); err == nil {
		p.killTree()
	}
}

// startIn starts the stage in its cgroup.
func (b *birth) startIn() error {
	t, ok := b.tree.(*cgroupTree)
	if !ok {
		return b.clone(-1)
	}
	if b.launcher.moves.Load() {
		return b.startAndMove(t)
	}
	// A child that is born frozen would hold us up, with all that we start.
	if frozen, _ := t.group.Frozen(); frozen {
		return &StartError{
			Step: stepCgroup, Status: statusCgroup,
			Detail: "cannot start a process in cgroup " + t.group.Path() + ": it is frozen",
			hint:   "write 0 to cgroup.freeze of the cgroup above it that is",
		}
	}
	fd, err := t.group.Open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = b.clone(fd)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG) || errors.Is(err, unix.EPERM) {
		b.launcher.moves.Store(true) // before Linux 5.7, or clone3 is filtered
		return b.startAndMove(t)
	}
	return err
}

// startAndMove is as good: the stage waits for its task, and forks nothing.
func (b *birth) startAndMove(t *cgroupTree) error {
	if err := b.clone(-1); err != nil {
		return err
	}
	err := t.group.Add(b.pid)
	if err != nil {
		b.discard()
	}
	return err
}

// discard ends a stage that nobody watches.
func (b *birth) discard() {
	endChild(b.pidfd)
	unix.Close(b.pidfd)
	b.pid = 0
}

// oneProcessor spares the stage, which does one thing after the other, the threads
// for more: a tenth of its time. The program gets its own environment.
const oneProcessor = "GOMAXPROCS=1"

// clone starts our own binary as a stage. Its path goes through /proc/self/fd, as
// seen by the child: the parent's, /proc/PID/fd, is closed to it when we are not
// dumpable and have no CAP_SYS_PTRACE. Before it executes the path, the child has
// moved fds about: to the places from 0 on that they are passed at, and to some
// above the highest that is passed. Our binary is between the two.
func (b *birth) clone(cgroup int) (err error) {
	b.pidfd = -1
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{oneProcessor}, // no variable of ours or of the unit's acts on the stage
		Files: b.files,
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &b.pidfd, UseCgroupFD: cgroup >= 0, CgroupFD: cgroup},
	}
	b.pid, _, err = syscall.StartProcess("/proc/self/fd/"+strconv.Itoa(b.self), []string{stage.Name}, attr)
	return err
}

// unwatched is the error of a start whose process cannot be followed.
func unwatched(err error) *StartError {
	e := &StartError{Step: stepSpawn, Detail: err.Error()}
	if errors.Is(err, errUnwatched) {
		e.hint = "raise fs.epoll.max_user_watches (sysctl)"
	}
	return e
}

// adopt makes the stage a Process and begins to watch it.
func adopt(ctx context.Context, b *birth, t *Task, file *Executable) (*Process, error) {
	pidfd, err := newPidfd(b.pidfd)
	if err != nil {
		pidfd.discard()
		own.reaped(b.pid)
		b.tree.remove()
		return nil, unwatched(err)
	}
	p := &Process{
		id: t.ID, service: t.Service, pidfd: pidfd, tree: b.tree, pinned: file != nil,
		exited: make(chan struct{}), gone: make(chan struct{}),
	}
	switch t := b.tree.(type) {
	case *cgroupTree:
		t.main, t.pid = pidfd, b.pid
	case *sessionTree:
		t.leader, t.pid = pidfd, b.pid
	}
	p.executable.Store(file)
	p.identity, err = identify(b.pid, pidfd, t.Account.UID, b.tree.String())
	b.launcher.add(p)
	go p.watch(b.launcher)
	if err != nil {
		p.killTree()
		p.WaitGone(ctx)
		return nil, err
	}
	return p, nil
}
