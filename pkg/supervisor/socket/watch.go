package socket

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A watch hears at once of what is fatal to a socket: an epoll(7) instance has
// all that listen, edge-triggered and for EPOLLRDHUP only, so ordinary clients
// wake nobody. EPOLLIN is added where no client is to come: seats without a
// share. The instance lies in the runtime's own poller, and costs no thread.
type watch struct {
	audit func(name string)

	mu    sync.Mutex
	tell  func(string, Finding)
	file  *os.File // the epoll instance; nil: nobody has asked yet
	fds   map[int]watched
	soon  map[string]*time.Timer // audits that are to come
	last  map[string]time.Time   // when an audit last began
	ended bool
	work  sync.WaitGroup
}

type watched struct {
	name   string
	events uint32
}

// pause is the least time between two audits of a unit: a process that ruins its
// socket again and again shall not have all of a processor.
const pause = 100 * time.Millisecond

func newWatch(audit func(string)) *watch {
	return &watch{audit: audit, fds: map[int]watched{}, soon: map[string]*time.Timer{}, last: map[string]time.Time{}}
}

// Watch makes tell be called with each thing that a process did to a socket, once
// it is mended, until the Table is closed: a listener that is shut down is noticed
// at once, as is a client that comes to a seat without a share; the rest when
// somebody calls [Table.Audit], [Table.Free] or [Table.Steer]. tell is called by a
// goroutine of the Table or by who called one of these, so it must not wait for
// them. A second Watch replaces tell.
func (t *Table) Watch(tell func(name string, f Finding)) error {
	if err := t.watch.start(tell); err != nil {
		return fmt.Errorf("cannot watch sockets: %w", err)
	}
	return nil
}

func (t *Table) tell(name string, found []Finding) {
	t.watch.mu.Lock()
	tell := t.watch.tell
	t.watch.mu.Unlock()
	if tell == nil {
		return
	}
	for _, f := range found {
		tell(name, f)
	}
}

func (w *watch) start(tell func(string, Finding)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell = tell
	if w.file != nil || w.ended {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for os.NewFile to use the poller
		closeFD(fd)
		return err
	}
	w.file = os.NewFile(uintptr(fd), "epoll")
	conn, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	for fd, at := range w.fds {
		if err := w.control(unix.EPOLL_CTL_ADD, fd, at.events); err != nil {
			return err
		}
	}
	w.work.Go(func() { w.run(conn) })
	return nil
}

// run ends when the epoll instance is closed.
func (w *watch) run(conn syscall.RawConn) {
	events := make([]unix.EpollEvent, 16)
	for {
		var n int
		err := conn.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			w.stir(int(e.Fd))
		}
	}
}

// stir has a unit audited soon.
func (w *watch) stir(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.fds[fd]
	if !ok || w.soon[at.name] != nil || w.ended {
		return
	}
	wait := time.Until(w.last[at.name].Add(pause))
	w.work.Add(1)
	w.soon[at.name] = time.AfterFunc(wait, func() {
		defer w.work.Done()
		w.mu.Lock()
		delete(w.soon, at.name)
		w.last[at.name] = time.Now()
		w.mu.Unlock()
		w.audit(at.name)
	})
}

// add watches a descriptor of a unit, or changes for what.
func (w *watch) add(name string, fd int, events uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, ok := w.fds[fd]
	w.fds[fd] = watched{name, events}
	if w.file == nil || ok && before.events == events {
		return
	}
	op := unix.EPOLL_CTL_ADD
	if ok {
		op = unix.EPOLL_CTL_MOD
	}
	w.control(op, fd, events) // without it the next audit notices
}

// drop must come before close(2): an epoll instance keeps what another process
// has a copy of.
func (w *watch) drop(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.fds[fd]; !ok {
		return
	}
	delete(w.fds, fd)
	if w.file != nil {
		w.control(unix.EPOLL_CTL_DEL, fd, 0)
	}
}

// control needs mu.
func (w *watch) control(op, fd int, events uint32) (err error) {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	e := unix.EpollEvent{Events: events | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1), Fd: int32(fd)}
	failed := conn.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), op, fd, &e) })
	if failed != nil {
		return failed
	}
	return err
}

// forget is for a unit that has no sockets left.
func (w *watch) forget(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.last, name)
}

// close waits for the audits that have begun.
func (w *watch) close() {
	w.mu.Lock()
	w.ended = true
	for _, timer := range w.soon {
		if timer.Stop() {
			w.work.Done()
		}
	}
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
	w.mu.Unlock()
	w.work.Wait()
}
