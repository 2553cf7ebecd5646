package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// thisProcess is the [Parent] where there is no other: its template forks for us, we watch
// the children by their pidfds, and the reaper has whatever else comes to us.
type thisProcess struct {
	reaper   *reaper
	template *spawn.Template
	turn     chan struct{} // has room for whoever uses the template

	mu       sync.Mutex
	children map[Name]*ward // nil: it is being forked
}

// A ward is a child that is not reaped.
type ward struct {
	pid   int
	pidfd *pidfd
}

// newThisProcess makes us the parent of all orphans below. null is borrowed.
func newThisProcess(o Options, null int) (*thisProcess, error) {
	if err := becomeParent(); err != nil {
		return nil, err
	}
	softFiles()
	t := &thisProcess{turn: make(chan struct{}, 1), children: map[Name]*ward{}}
	var err error
	if t.template, err = spawn.New(spawn.Options{Null: null, Variables: counts(), Began: own.begunTemplate, Ended: endTemplate}); err != nil {
		return nil, fmt.Errorf("cannot fork the process that starts others: %w", err)
	}
	t.reaper = newReaper(o, t.templateDied)
	t.reaper.begin() // which may call us at once
	return t, nil
}

// becomeParent makes orphans come to us, and looks for what we cannot do without.
func becomeParent() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become a subreaper: %w", err)
	}
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("cannot open a pidfd, which needs Linux 5.4: %w", err)
	}
	return unix.Close(fd)
}

// close ends the reaper and the template. Children live on, and nobody reaps them.
func (t *thisProcess) close() {
	t.reaper.close()
	t.turn <- struct{}{} // and nobody has it any more
	t.template.Close()
}

// templateDied has a template taken off as soon as nobody uses it. The next start forks
// another one.
func (t *thisProcess) templateDied(pid int) {
	go func() {
		select {
		case t.turn <- struct{}{}:
			t.template.Died(pid)
			<-t.turn
		case <-t.reaper.quit:
		}
	}()
}

// endTemplate reaps a template that was killed.
func endTemplate(pid int) {
	go func() {
		reapEnding(pid)
		own.reapedTemplate(pid)
	}()
}

func (t *thisProcess) PID() int { return os.Getpid() }

func (t *thisProcess) Lasts() bool { return false }

func (t *thisProcess) Started(Name) error { return nil }

func (t *thisProcess) Whose(pid, session int) Whose { return own.whose(pid, session) }

func (t *thisProcess) Spawn(b Birth) (Child, error) {
	if !t.reserve(b.Name) {
		return Child{}, unix.EEXIST
	}
	own.begin()
	c, w, err := t.fork(b)
	if own.end(c.PID) {
		t.reaper.look()
	}
	if err != nil {
		t.forget(b.Name)
		return Child{}, err
	}
	c.Ended = t.watch(b.Name, w)
	return c, nil
}

// watch returns where the child's end is told.
func (t *thisProcess) watch(n Name, w *ward) <-chan syscall.WaitStatus {
	t.mu.Lock()
	t.children[n] = w
	t.mu.Unlock()
	ended := make(chan syscall.WaitStatus, 1)
	go func() {
		defer close(ended)
		if s, seen := w.pidfd.status(true); seen {
			ended <- s
		}
	}()
	return ended
}

func (t *thisProcess) Release(n Name) error {
	w := t.forget(n)
	if w == nil {
		return nil
	}
	w.pidfd.reap()
	own.reaped(w.pid)
	w.pidfd.close()
	return nil
}

// reserve says whether the name was free.
func (t *thisProcess) reserve(n Name) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, there := t.children[n]; there {
		return false
	}
	t.children[n] = nil
	return true
}

func (t *thisProcess) forget(n Name) *ward {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.children[n]
	delete(t.children, n)
	return w
}

// fork has the template fork, which takes one request at a time. After an error the
// child's number is 0.
func (t *thisProcess) fork(b Birth) (Child, *ward, error) {
	r := spawn.Request{Cgroup: b.Cgroup, Files: b.Files}
	t.turn <- struct{}{}
	t.template.Fork(&r)
	<-t.turn
	if r.Err != nil {
		return Child{}, nil, r.Err
	}
	held, watched, err := openTwice(r.Child.PID)
	if err != nil {
		discardUnheld(r.Child)
		return Child{}, nil, err
	}
	c := Child{PID: r.Child.PID, PIDFD: held, Control: r.Child.Control, Base: r.Child.Base, First: r.First()}
	p, err := newPidfd(watched)
	if err != nil {
		p.discard()
		unix.Close(held)
		unix.Close(c.Control)
		return Child{}, nil, unwatched(err)
	}
	return c, &ward{c.PID, p}, nil
}

// openTwice opens a pidfd for whoever the child is for, and one for us.
func openTwice(pid int) (held, watched int, err error) {
	if held, err = unix.PidfdOpen(pid, 0); err != nil {
		return -1, -1, err
	}
	if watched, err = unix.PidfdOpen(pid, 0); err != nil {
		unix.Close(held)
	}
	return held, watched, err
}

// discardUnheld ends a process that there is no pidfd of, by the end of its socket. It is
// waited for by its number, which the reaper leaves alone meanwhile.
func discardUnheld(c spawn.Child) {
	own.begun(c.PID)
	unix.Close(c.Control)
	reapEnding(c.PID)
	own.reaped(c.PID)
}

// unwatched is the error of a start whose process cannot be followed.
func unwatched(err error) *StartError {
	e := stepSpawn.failed(0, err.Error(), "")
	if errors.Is(err, errUnwatched) {
		e.hint = "raise fs.epoll.max_user_watches (sysctl)"
	}
	return e
}
