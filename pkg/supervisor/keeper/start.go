package keeper

import (
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// A start is a child that the template was asked for. They are answered in their order,
// so what a manager has asked is there before the next manager is.
type start struct {
	spawn.Request
	lent []*files // whose descriptors it has
	own  []int    // closed when it was answered
	done func(*start)
}

func (k *keeper) newTemplate() (template, error) {
	fd := -1
	var t *spawn.Template
	t, err := spawn.New(spawn.Options{
		Null: k.null, Variables: k.Variables,
		Began: func(pid int) {
			fd = -1
			if k.lowered {
				setScore(strconv.Itoa(pid), k.score)
			}
		},
		Ended: func(int) { k.closed(fd) },
	})
	if err != nil {
		return nil, err
	}
	return &heardTemplate{Template: t, k: k, fd: &fd}, nil
}

// A heardTemplate is a template whose answers wake us.
type heardTemplate struct {
	*spawn.Template
	k  *keeper
	fd *int // that is watched; -1: a new one is not yet
}

// listen watches the template that there is now.
func (t *heardTemplate) listen() {
	if fd := t.FD(); fd >= 0 && *t.fd < 0 {
		if t.k.watch(fd, unix.EPOLLIN, t.heard) == nil {
			*t.fd = fd
		}
	}
}

// heard: an answer is collected before the next round. What nobody has asked for is its
// end.
func (t *heardTemplate) heard() {
	if len(t.k.starts) == 0 {
		t.Died(t.PID())
	}
}

// ask asks the template for a child.
func (k *keeper) ask(s *start) {
	if len(k.starts) == 0 {
		k.patience.in(spawn.Patience * time.Second)
	}
	k.starts = append(k.starts, s)
	k.template.Ask(&s.Request)
}

// collect does what is to be done with children that are there. It must not be called
// from there.
func (k *keeper) collect() {
	for k.template.Answered() != nil {
		s := k.starts[0]
		k.starts = k.starts[1:]
		k.answered++
		k.patience.stop()
		if len(k.starts) > 0 {
			k.patience.in(spawn.Patience * time.Second)
		}
		s.done(s)
		k.release(s)
	}
	if t, ok := k.template.(*heardTemplate); ok {
		t.listen()
	}
}

func (k *keeper) expired() {
	if len(k.starts) > 0 {
		k.patience.in(spawn.Patience * time.Second)
		k.template.Expired()
	}
}

// templateEnded is for a child that nobody knows.
func (k *keeper) templateEnded(pid int) bool {
	if k.template.PID() != pid {
		return false
	}
	k.template.Died(pid)
	return true
}

func (k *keeper) release(s *start) {
	for _, f := range s.lent {
		k.table.giveBack(f)
	}
	closeAll(s.own)
	k.table.held -= len(s.own)
}

// A child takes two more descriptors.
const perChild = 2

// spawn asks for a child whose files are named. Its two entries are taken at once, and
// told of when they are there.
func (k *keeper) spawn(m *manager, q *message) error {
	r := q.read()
	key, meta, control, cgroup := r.text(), r.text(), r.text(), r.number(2)
	if r.broken {
		return errBroken
	}
	err := k.mayStart(key, meta, control, len(q.files))
	if err != nil {
		return err
	}
	s := &start{Request: spawn.Request{Cgroup: -1}, own: q.take()}
	k.table.held += len(s.own)
	if err := k.find(s, cgroup != 0, r.fields); err != nil {
		k.release(s)
		return err
	}
	k.table.held += perChild
	process := k.table.add(&entry{key: key, meta: meta, state: spawning})
	line := k.table.add(&entry{key: control, state: spawning})
	s.done = func(s *start) {
		k.table.held -= perChild
		if err := k.born(s, process, line); err != nil {
			k.table.remove(process)
			k.table.remove(line)
			m.done(q.number, err)
			return
		}
		m.say(&about{k, process, q.number})
		m.say(&about{k, line, q.number})
		m.done(q.number, nil)
	}
	k.ask(s)
	return errLater
}

func (k *keeper) mayStart(key, meta, control string, files int) error {
	if err := k.table.free(key, meta); err != nil {
		return err
	}
	if err := k.table.free(control, ""); err != nil {
		return err
	}
	if key == control {
		return unix.EEXIST
	}
	return k.table.room(perChild + files)
}

// find finds the files of a start. One without a name is the next that came.
func (k *keeper) find(s *start, cgroup bool, names []string) error {
	came := s.own
	next := func() (int, error) {
		if len(came) == 0 {
			return -1, errBroken
		}
		fd := came[0]
		came = came[1:]
		return fd, nil
	}
	var err error
	if cgroup {
		if s.Cgroup, err = next(); err != nil {
			return err
		}
	}
	for _, name := range names {
		fd := -1
		if name == "" {
			fd, err = next()
		} else {
			fd, err = k.lend(s, name)
		}
		if err != nil {
			return err
		}
		s.Files = append(s.Files, fd)
	}
	if len(came) > 0 {
		return errBroken
	}
	return nil
}

// lend finds KEY#INDEX.
func (k *keeper) lend(s *start, name string) (int, error) {
	at := strings.LastIndexByte(name, '#')
	if at < 0 {
		return -1, errBroken
	}
	index, err := strconv.Atoi(name[at+1:])
	if err != nil {
		return -1, errBroken
	}
	fd, from, err := k.table.lend(name[:at], index)
	if err == nil {
		s.lent = append(s.lent, from)
	}
	return fd, err
}

// born makes a child that was forked two entries. One that nobody could watch ends
// with its socket, and is reaped as an orphan.
func (k *keeper) born(s *start, process, line *entry) error {
	if s.Err != nil {
		return s.Err
	}
	pidfd, err := unix.PidfdOpen(s.Child.PID, 0)
	if err == nil {
		if err = k.watch(pidfd, unix.EPOLLIN, func() { k.ended(process) }); err != nil {
			unix.Close(pidfd)
		}
	}
	if err != nil {
		unix.Close(s.Child.Control)
		return err
	}
	process.state, process.pid, process.birth = Running, s.Child.PID, born{s.Child.Base, s.First()}
	k.table.fill(process, pidfd)
	k.table.child(process)
	line.state = Kept
	k.table.fill(line, s.Child.Control)
	return nil
}

// ended: a child is a zombie.
func (k *keeper) ended(e *entry) {
	if e.dropped || e.state != Running {
		return
	}
	pidfd := e.files.fds[0]
	status, ok := endOf(pidfd)
	switch {
	case ok:
		k.forget(pidfd)
		k.tellEnd(e, status)
	case exitedAlready(pidfd):
		k.listen(pidfd, 0)
		k.reaper.hide(func() { k.ended(e) })
	}
}

// exitedAlready says whether the process of a pidfd has ended, reaped or not.
func exitedAlready(pidfd int) bool { return events(pidfd)&unix.POLLIN != 0 }

func events(fd int) int16 {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 0); err != nil || n < 1 {
		return 0
	}
	return p[0].Revents
}

func (k *keeper) tellEnd(e *entry, status syscall.WaitStatus) {
	e.state, e.status = Ended, status
	if k.now != nil {
		k.now.say(&news{e})
	}
}

// adopt watches a process that is not our child. That it has ended is told at once;
// how, when its parent has reaped it, if the kernel says so.
func (k *keeper) adopt(m *manager, q *message) error {
	r := q.read()
	key, meta, pid := r.text(), r.text(), r.number(32)
	switch {
	case r.broken || pid <= 0 || len(q.files) != 1:
		return errBroken
	case unix.PidfdSendSignal(q.files[0], 0, nil, 0) == unix.EBADF:
		return unix.EBADF // it is none
	}
	if err := k.table.free(key, meta); err != nil {
		return err
	}
	if err := k.table.room(1); err != nil {
		return err
	}
	e := &entry{key: key, meta: meta, state: Running, pid: pid, foreign: true}
	if err := k.watch(q.files[0], unix.EPOLLIN, func() { k.foreignEnded(e) }); err != nil {
		return err
	}
	k.table.fill(k.table.add(e), q.take()...)
	m.say(&about{k, e, q.number})
	return nil
}

func (k *keeper) foreignEnded(e *entry) {
	if e.dropped {
		return
	}
	pidfd := e.files.fds[0]
	now := events(pidfd)
	reaped := now&unix.POLLHUP != 0
	if !reaped && now&unix.POLLIN == 0 {
		return
	}
	status := Unknown
	if reaped {
		k.forget(pidfd)
		status = foreignStatus(pidfd)
	}
	k.listen(pidfd, 0)
	if e.state == Running || status != e.status {
		k.tellEnd(e, status)
	}
}
