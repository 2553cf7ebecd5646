package process

import (
	"context"
	"errors"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
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
	files := t.files(l.null, r.file, r.room)
	b := &birth{
		launcher: l, tree: tree, uid: t.Account.UID, ready: r, lent: r.lent(),
		Birth: Birth{Name: t.name(), Cgroup: -1, Files: files, Keys: t.Keys},
	}
	p, err := b.begin(ctx, t, r)
	if err != nil {
		return nil, nil, err
	}
	c, err := newConversation(b.child, newLayout(b.child.First, r.file != nil, r.room >= 0, len(files)), r)
	if err != nil {
		p.end()
		return nil, nil, spawnError(err, t)
	}
	return p, c, nil
}

// begin waits for the start, which hangs alone if it hangs.
func (b *birth) begin(ctx context.Context, t *Task, r ready) (*Process, error) {
	ctx, cancel := context.WithTimeout(ctx, spawnTimeout)
	defer cancel()
	failed, err := apart(ctx, &b.launcher.hung, t.Service, b.start, b.abandon)
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
	who, err := identify(b.child.PID, inodeOf(b.child.PIDFD), b.uid, b.tree.String())
	if err != nil {
		p := b.adopt(nil, who)
		unix.Close(b.child.Control)
		p.end()
		p.WaitGone(ctx)
		return nil, spawnError(err, t)
	}
	return b.adopt(r.file, who), nil
}

func (l *Launcher) newTree(t *Task) (tree, error) {
	if l.cgroups == nil {
		return newSessionTree(l.kin, newMarks(t.Account.UID, t.Env, t.Output)), nil
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
	Birth
	launcher *Launcher
	tree     tree
	uid      uint32
	ready    ready // of which it uses no file: the start may outlast its caller
	lent     []int // see Birth.Start, and Task.files

	child Child
}

// start makes the process. It must be followed by adopt, unless it fails.
func (b *birth) start() (err error) {
	t, ok := b.tree.(*cgroupTree)
	if !ok {
		return b.spawn(false)
	}
	// A child that is frozen would not say that it is there.
	if frozen, _ := t.group.Frozen(); frozen {
		return stepCgroup.failed(0, "cannot start a process in cgroup "+t.group.Path()+": it is frozen",
			"write 0 to cgroup.freeze of the cgroup above it that is")
	}
	if b.launcher.moves.Load() {
		return b.startAndMove(t)
	}
	if b.Cgroup, err = t.group.Open(); err != nil {
		return err
	}
	err = b.spawn(false)
	unix.Close(b.Cgroup)
	b.Cgroup = -1
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG) || errors.Is(err, unix.EPERM) {
		b.launcher.moves.Store(true) // before Linux 5.7, or clone3 is filtered
		return b.startAndMove(t)
	}
	return err
}

// spawn has the Parent fork. moves: the process comes into its cgroup later.
func (b *birth) spawn(moves bool) (err error) {
	if b.launcher.parent.Lasts() {
		if err := b.note(moves); err != nil {
			return err
		}
		defer unix.Close(b.Start[0])
	}
	b.child, err = b.launcher.parent.Spawn(b.Birth)
	return err
}

// startAndMove is as good: the process waits for its program, and forks nothing.
func (b *birth) startAndMove(t *cgroupTree) error {
	if err := b.spawn(true); err != nil {
		return err
	}
	err := t.group.Add(b.child.PID)
	if err != nil {
		b.discard()
	}
	return err
}

// discard ends a process that is in no tree.
func (b *birth) discard() {
	unix.Close(b.child.Control)
	unix.PidfdSendSignal(b.child.PIDFD, unix.SIGKILL, nil, 0)
	<-b.child.Ended
	unix.Close(b.child.PIDFD)
	b.launcher.parent.Release(b.Name)
}

// abandon undoes a start that nobody has waited for to its end.
func (b *birth) abandon(err error) {
	if err != nil {
		b.tree.remove()
		return
	}
	unix.Close(b.child.Control)
	b.adopt(nil, Identity{PID: b.child.PID}).end()
}

// adopt makes a Process of it and begins to watch it.
func (b *birth) adopt(file *Executable, who Identity) *Process {
	p := &Process{
		name: b.Name, parent: b.launcher.parent, identity: who, pidfd: holdPidfd(b.child.PIDFD), tree: b.tree,
		exited: make(chan struct{}), gone: make(chan struct{}), stored: make(chan struct{}),
	}
	switch t := b.tree.(type) {
	case *cgroupTree:
		t.main, t.pid = p.pidfd, b.child.PID
	case *sessionTree:
		t.leader, t.pid = p.pidfd, b.child.PID
	}
	p.executable.Store(file)
	b.launcher.add(p)
	go p.watch(b.launcher, b.child.Ended)
	return p
}

// end kills a process that nobody else knows of.
func (p *Process) end() {
	p.killTree()
	p.Release()
}
