package socket

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A watch hears at once of what is fatal to a socket: an epoll(7) instance has
// all that listen, edge-triggered and for EPOLLRDHUP only, so ordinary clients
// wake nobody. EPOLLIN is added where no client is to come: shards without
// cards, waiting rooms while others have cards, and sockets that refuse. What becomes of paths an inotify(7) instance
// tells (marks.go). Both lie in the runtime's own poller, and cost no thread.
//
// Its goroutines wait for no unit: each unit has at most one audit in progress, which
// its own file system may hold up for as long as it likes.
type watch struct {
	audit func(name string)

	mu     sync.Mutex
	tell   func(string, Finding)
	news   []news   // to be told
	lately repeats  // and what was
	at     bool     // somebody is telling
	file   *os.File // the epoll instance; nil: nobody has asked yet
	fds    map[int]*watched
	marks  marks
	audits map[string]*audit
	ended  bool
	work   sync.WaitGroup
}

type watched struct {
	name   string
	events uint32
	begun  bool  // the instance has it
	err    error // why it does not, or not for these events
}

// An audit is what goes on for one unit.
type audit struct {
	timer   *time.Timer // the next one is to come; nil: none
	running bool
	again   bool // something happened while it ran
	last    time.Time
}

type news struct {
	name  string
	found Finding
}

// pause is the least time between two audits of a unit: a process that ruins its
// socket again and again shall not have all of a processor.
const pause = 100 * time.Millisecond

// maxNews is how many findings wait for whoever hears them; one that names a dead
// socket is never dropped.
const maxNews = 1000

func newWatch(audits func(name string)) *watch {
	return &watch{audit: audits, fds: map[int]*watched{}, audits: map[string]*audit{}, marks: newMarks(), lately: repeats{}}
}

// Watch makes tell be called with each thing that a process did to a socket, once
// it is mended, until the Table is closed: a listener that is shut down, a path that
// is removed, replaced or moved, a client that comes where nobody was to come, are
// noticed at once; the rest at the next event ([Table.Audit], [Table.Free],
// [Table.Listen]). What is mended again and again is told every 10 seconds, with how
// often it was ([Finding.Again]). tell is called by a goroutine of the Table, in order and under no
// lock, and may call the Table. What waits for it is bounded, but what names a dead
// socket ([Finding.Dead]) is told in any case, even if it was found before Watch.
// A second Watch replaces tell.
//
// Where inotify(7) is not to be had (fs.inotify.max_user_instances) paths are only
// looked at at events. An error is about sockets for which that is so as well
// (fs.epoll.max_user_watches); the others are watched.
func (t *Table) Watch(tell func(name string, f Finding)) error {
	err := t.watch.start(tell)
	t.watch.startMarks()
	if err != nil {
		return fmt.Errorf("cannot watch sockets: %w", err)
	}
	return nil
}

// say has findings told.
func (w *watch) say(name string, found []Finding) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range found {
		if !w.ended && (f.Dead != 0 || w.tell != nil && len(w.news) < maxNews && w.lately.due(name, &f, time.Now())) {
			w.news = append(w.news, news{name, f})
		}
	}
	w.report()
}

// report needs mu.
func (w *watch) report() {
	if !w.at && !w.ended && w.tell != nil && len(w.news) > 0 {
		w.at = true
		w.work.Go(w.reporting)
	}
}

// reporting ends when everything is told.
func (w *watch) reporting() {
	for {
		w.mu.Lock()
		if w.ended || len(w.news) == 0 {
			w.at = false
			w.mu.Unlock()
			return
		}
		n, tell := w.news[0], w.tell
		w.news = w.news[1:]
		w.mu.Unlock()
		tell(n.name, n.found)
	}
}

func (w *watch) start(tell func(string, Finding)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell = tell
	w.report()
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
	file := os.NewFile(uintptr(fd), "epoll")
	conn, err := file.SyscallConn()
	if err == nil {
		err = pollable(file)
	}
	if err != nil {
		file.Close()
		return err
	}
	w.file = file
	for fd, at := range w.fds {
		if failed := w.put(fd, at); failed != nil && err == nil {
			err = failed // the others are worth it
		}
	}
	w.work.Go(func() { w.run(conn) })
	return err
}

// pollable says why the runtime's poller does not wake who reads a file.
func pollable(f *os.File) error {
	if f.SetReadDeadline(time.Time{}) != nil {
		return errors.New("the kernel watches no more files for us (fs.epoll.max_user_watches)")
	}
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

// stir has the unit of a descriptor audited soon.
func (w *watch) stir(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, ok := w.fds[fd]; ok {
		w.soon(at.name, 0)
	}
}

// soon needs mu. It waits at least so long.
func (w *watch) soon(name string, wait time.Duration) {
	if w.ended {
		return
	}
	a := w.audits[name]
	if a == nil {
		w.forget()
		a = &audit{}
		w.audits[name] = a
	}
	switch {
	case a.running:
		a.again = true
	case a.timer == nil:
		w.work.Add(1)
		wait = max(wait, time.Until(a.last.Add(pause)))
		a.timer = time.AfterFunc(wait, func() { w.look(name, a) })
	}
}

// look is one audit, and has another come if something happened meanwhile.
func (w *watch) look(name string, a *audit) {
	defer w.work.Done()
	w.mu.Lock()
	a.timer, a.running, a.last = nil, true, time.Now()
	w.mu.Unlock()
	w.audit(name)
	w.mu.Lock()
	defer w.mu.Unlock()
	a.running = false
	if a.again {
		a.again = false
		w.soon(name, 0)
	}
}

// later has a unit audited after a while.
func (w *watch) later(name string) { w.after(name, pause) }

func (w *watch) after(name string, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.soon(name, wait)
}

// forget is for units of which nothing was heard lately. It needs mu.
func (w *watch) forget() {
	maps.DeleteFunc(w.audits, func(_ string, a *audit) bool {
		return !a.running && a.timer == nil && time.Since(a.last) > pause
	})
}

// add watches a descriptor of a unit, or changes for what.
func (w *watch) add(name string, fd int, events uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.fds[fd]
	if at == nil {
		at = &watched{}
		w.fds[fd] = at
	}
	changed := at.events != events
	at.name, at.events = name, events
	if w.file != nil && (changed || !at.begun) {
		w.put(fd, at) // else events tell, and a status says so
	}
}

// put has the instance watch what at says. It needs mu.
func (w *watch) put(fd int, at *watched) error {
	op := unix.EPOLL_CTL_ADD
	if at.begun {
		op = unix.EPOLL_CTL_MOD
	}
	at.err = w.control(op, fd, at.events)
	at.begun = at.begun || at.err == nil
	return at.err
}

// retry is for a descriptor that could not be watched before.
func (w *watch) retry(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at := w.fds[fd]; at != nil && at.err != nil && w.file != nil {
		w.put(fd, at)
	}
}

// unheard says why nothing is heard of what becomes of a descriptor; nil: it is.
func (w *watch) unheard(fd int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.fds[fd]
	if at == nil || at.err == nil {
		return nil
	}
	return fmt.Errorf("cannot use epoll: %w", at.err)
}

// drop must come before close(2): an epoll instance keeps what another process
// has a copy of.
func (w *watch) drop(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks.drop(fd)
	at := w.fds[fd]
	delete(w.fds, fd)
	if at != nil && at.begun && w.file != nil {
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

// close waits for the audits that have begun.
func (w *watch) close() {
	w.mu.Lock()
	w.ended = true
	for _, a := range w.audits {
		if a.timer != nil && a.timer.Stop() {
			w.work.Done()
		}
	}
	w.marks.close()
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
	w.mu.Unlock()
	w.work.Wait()
}
