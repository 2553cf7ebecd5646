package keeper

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// A child takes two more descriptors.
const perChild = 2

// A child to be is told of when it is there. Its keys are taken before.
type child struct {
	process, line *entry
	by            *manager // that has asked for it
	number        uint32   // and when
}

// spawn asks for a child whose files are named.
func (k *keeper) spawn(m *manager, q *message) error {
	r := q.read()
	key, meta, control, cgroup := r.text(), r.text(), r.text(), r.number(2)
	if r.broken {
		return errBroken
	}
	if err := k.mayStart(key, meta, control, len(q.files)); err != nil {
		return err
	}
	s := &start{Request: spawn.Request{Cgroup: -1}, own: k.table.hold(q.take()...)}
	if err := k.find(s, cgroup != 0, r.fields); err != nil {
		k.release(s)
		return err
	}
	k.table.held += perChild
	c := child{by: m, number: q.number}
	c.process = k.table.add(&entry{key: key, meta: meta, state: spawning})
	c.line = k.table.add(&entry{key: control, state: spawning})
	s.done = func(s *start) { k.spawned(s, c) }
	k.ask(s)
	return errLater
}

// spawned tells of a child that is there, or why there is none.
func (k *keeper) spawned(s *start, c child) {
	k.table.held -= perChild
	err := k.born(s, c.process, c.line)
	if err != nil {
		k.table.remove(c.process)
		k.table.remove(c.line)
	} else {
		c.by.say(&about{k, c.process, c.number})
		c.by.say(&about{k, c.line, c.number})
	}
	c.by.done(c.number, err)
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
func (k *keeper) find(s *start, cgroup bool, names []string) (err error) {
	rest := came(s.own)
	if cgroup {
		if s.Cgroup, err = rest.next(); err != nil {
			return err
		}
	}
	for _, name := range names {
		fd := -1
		if name == "" {
			fd, err = rest.next()
		} else {
			fd, err = k.lend(s, name)
		}
		if err != nil {
			return err
		}
		s.Files = append(s.Files, fd)
	}
	if len(rest) > 0 {
		return errBroken
	}
	return nil
}

// came are files that came with a message and are not used yet.
type came []int

func (c *came) next() (int, error) {
	if len(*c) == 0 {
		return -1, errBroken
	}
	fd := (*c)[0]
	*c = (*c)[1:]
	return fd, nil
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
	case r.broken || len(q.files) != 1:
		return errBroken
	case pid <= 0:
		return unix.EINVAL
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
