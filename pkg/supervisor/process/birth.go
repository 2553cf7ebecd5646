package process

import (
	"context"
	"errors"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// spawnTimeout is how long the kernel may take to give us a process. One that
// comes later is killed.
const spawnTimeout = 30 * time.Second

// fork makes a process that waits for what it is to become. On success the process
// owns the file of r, and the conversation the rest.
func (l *Launcher) fork(ctx context.Context, t *Task, r ready) (*Process, *conversation, error) {
	tree, err := l.newTree(t)
	if err != nil {
		return nil, nil, err
	}
	b := &birth{launcher: l, tree: tree, files: t.files(l.null, r.file, r.room)}
	p, err := b.begin(ctx, t, r)
	if err != nil {
		return nil, nil, err
	}
	c, err := newConversation(b.child, newLayout(b.first, r.file != nil, r.room >= 0, len(b.files)), r)
	if err != nil {
		p.killTree()
		return nil, nil, spawnError(err, t)
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
		b.tree.remove()
		return nil, undone(err, r.order.path)
	case err != nil:
		return nil, undone(err, r.order.path)
	case failed != nil:
		b.tree.remove()
		return nil, spawnError(failed, t)
	}
	p, err := adopt(ctx, b, t, r.file)
	if err != nil {
		unix.Close(b.child.Control)
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
		return nil, stepCgroup.failed(errnoOf(err), t.Service, "")
	}
	tree, err := newCgroupTree(group)
	if err != nil {
		group.Remove()
		return nil, stepCgroup.failed(errnoOf(err), t.Service, "")
	}
	return tree, nil
}

func spawnError(err error, t *Task) error {
	var e *StartError
	if errors.As(err, &e) {
		return e
	}
	return stepSpawn.failed(errnoOf(err), t.Service, "")
}

// A birth is the start of one process.
type birth struct {
	launcher *Launcher
	tree     tree
	files    []int // the child's; borrowed

	child spawn.Child
	first int // the number of its first file
	pidfd int
}

// start makes the process. It must be followed by adopt, unless it fails.
func (b *birth) start() error {
	own.begin()
	err := b.startIn()
	if own.end(b.child.PID) {
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
	unix.Close(b.child.Control)
	if p, err := adopt(context.Background(), b, t, nil); err == nil {
		p.killTree()
	}
}

// startIn makes the process in its cgroup.
func (b *birth) startIn() error {
	t, ok := b.tree.(*cgroupTree)
	if !ok {
		return b.clone(-1)
	}
	// A child that is frozen would not say that it is there.
	if frozen, _ := t.group.Frozen(); frozen {
		return stepCgroup.failed(0, "cannot start a process in cgroup "+t.group.Path()+": it is frozen",
			"write 0 to cgroup.freeze of the cgroup above it that is")
	}
	if b.launcher.moves.Load() {
		return b.startAndMove(t)
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

// startAndMove is as good: the process waits for its program, and forks nothing.
func (b *birth) startAndMove(t *cgroupTree) error {
	if err := b.clone(-1); err != nil {
		return err
	}
	err := t.group.Add(b.child.PID)
	if err != nil {
		b.discard()
	}
	return err
}

// discard ends a process that nobody watches.
func (b *birth) discard() {
	unix.Close(b.child.Control)
	endChild(b.pidfd)
	unix.Close(b.pidfd)
	b.child.PID = 0
}

// clone has the template fork, which takes one request at a time.
func (b *birth) clone(cgroup int) (err error) {
	r := spawn.Request{Cgroup: cgroup, Files: b.files}
	b.launcher.turn <- struct{}{}
	b.launcher.template.Fork(&r)
	<-b.launcher.turn
	if r.Err != nil {
		return r.Err
	}
	b.child, b.first = r.Child, r.First()
	if b.pidfd, err = unix.PidfdOpen(b.child.PID, 0); err != nil {
		b.discardUnheld()
	}
	return err
}

// discardUnheld ends a process that there is no pidfd of, by the end of its socket. It is
// waited for by its number, which the reaper leaves alone meanwhile.
func (b *birth) discardUnheld() {
	own.begun(b.child.PID)
	unix.Close(b.child.Control)
	reapEnding(b.child.PID)
	own.reaped(b.child.PID)
	b.child.PID = 0
}

// unwatched is the error of a start whose process cannot be followed.
func unwatched(err error) *StartError {
	e := stepSpawn.failed(0, err.Error(), "")
	if errors.Is(err, errUnwatched) {
		e.hint = "raise fs.epoll.max_user_watches (sysctl)"
	}
	return e
}

// adopt makes a Process of it and begins to watch it.
func adopt(ctx context.Context, b *birth, t *Task, file *Executable) (*Process, error) {
	pidfd, err := newPidfd(b.pidfd)
	if err != nil {
		pidfd.discard()
		own.reaped(b.child.PID)
		b.tree.remove()
		return nil, unwatched(err)
	}
	p := &Process{
		id: t.ID, service: t.Service, pidfd: pidfd, tree: b.tree, pinned: file != nil,
		exited: make(chan struct{}), gone: make(chan struct{}),
	}
	switch t := b.tree.(type) {
	case *cgroupTree:
		t.main, t.pid = pidfd, b.child.PID
	case *sessionTree:
		t.leader, t.pid = pidfd, b.child.PID
	}
	p.executable.Store(file)
	p.identity, err = identify(b.child.PID, pidfd, t.Account.UID, b.tree.String())
	b.launcher.add(p)
	go p.watch(b.launcher)
	if err != nil {
		p.killTree()
		p.WaitGone(ctx)
		return nil, err
	}
	return p, nil
}
