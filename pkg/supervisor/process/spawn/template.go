package spawn

import (
	"runtime"
	"syscall"
	"unsafe"
)

// A Template is a process that forks at our command: see the package. Its children
// are ours. When it dies, or does not answer, another takes its place.
//
// It has one owner at a time, whom nothing here keeps waiting: [Template.Ask] sends,
// [Template.Answered] is called when [Template.FD] is readable, [Template.Expired]
// when it was not for [Patience]. [Template.Fork] is all of that for one who may
// wait.
type Template struct {
	o      Options
	socket int // -1: there is none
	pid    int
	queue  []*Request // of which the first has been sent
}

// Options of a template.
type Options struct {
	Null int // an open /dev/null, none of the standard files; borrowed

	// Variables says that our binary's variables stay, in which a build for go build
	// -cover counts.
	Variables bool

	// Began and Ended tell of each template's pid. One that has ended, or is about to,
	// is a child that the caller reaps. They may be nil.
	Began, Ended func(pid int)
}

// Patience is how long a template has for an answer, in seconds. It needs a
// millisecond: one that takes longer was stopped.
const Patience = 2

// A Request asks for a child, and has it when it is answered.
type Request struct {
	Cgroup int   // of which the child is born a member (CLONE_INTO_CGROUP); -1: of the template's
	Files  []int // what it has from First on; borrowed until the answer

	Child Child
	Err   error // a syscall.Errno

	tries int
	done  bool
}

// First is the number of the first of a child's files.
func (r *Request) First() int {
	if r.Cgroup >= 0 {
		return firstReceived + 2
	}
	return firstReceived + 1
}

// A Child is a process that waits for programs. It ends when the last copy of
// Control is closed before it has executed something.
type Child struct {
	PID     int
	Control int     // our end of its socket pair; the caller closes it
	Base    uintptr // where it puts its programs
}

// New forks a template off this process. Its owner must not have started any
// program that matters before: what this process has open by now is open in the
// template until that has closed it.
func New(o Options) (*Template, error) {
	t := &Template{o: o, socket: -1}
	if err := t.start(); err != nil {
		return nil, err
	}
	return t, nil
}

// FD is readable when there is an answer, or the template has died; -1: there is
// none, and no request waits for it. It changes with Ask, Answered and Expired.
func (t *Template) FD() int { return t.socket }

// Ask sends a request, or puts it behind those that wait. Answered has it in the
// end, and perhaps at once.
func (t *Template) Ask(r *Request) {
	if t.queue = append(t.queue, r); len(t.queue) == 1 {
		t.send()
	}
}

// Answered returns the next request that is done with, or nil. It is to be called
// until it is nil.
func (t *Template) Answered() *Request {
	if len(t.queue) == 0 {
		return nil
	}
	r := t.queue[0]
	if !r.done {
		t.hear(r)
	}
	if !r.done {
		return nil
	}
	if t.queue = t.queue[1:]; len(t.queue) > 0 {
		t.send()
	}
	return r
}

// Expired puts another template in the place of one that has not answered.
func (t *Template) Expired() {
	if len(t.queue) > 0 && !t.queue[0].done {
		t.stop()
		t.again(syscall.ETIMEDOUT)
	}
}

// Died takes off a template that has ended, if it is of that pid. Without it the next
// request would.
func (t *Template) Died(pid int) {
	if t.PID() != pid {
		return
	}
	t.stop()
	if len(t.queue) > 0 && !t.queue[0].done {
		t.again(syscall.EPIPE)
	}
}

// Fork is Ask and Answered in one. It must not be used beside them.
func (t *Template) Fork(r *Request) {
	for t.Ask(r); t.Answered() == nil; {
		if !readable(t.socket, Patience) {
			t.Expired()
		}
	}
}

// Close ends the template. Its children live on.
func (t *Template) Close() { t.stop() }

// tries is how often a request is sent. A template that dies of it twice would do
// so again.
const tries = 2

// send sends the first request of the queue, or is done with it.
func (t *Template) send() {
	r := t.queue[0]
	r.tries++
	if t.socket < 0 {
		if err := t.start(); err != nil {
			r.fail(err)
			return
		}
	}
	switch err := t.request(r); err {
	case nil:
	case errGone:
		t.stop()
		t.again(syscall.EPIPE)
	default:
		r.fail(err)
	}
}

// again sends the first request to a new template, if this is not the last try. Each
// try has a socket pair of its own: a template that died may have forked, and that
// child ends with its pair.
func (t *Template) again(why syscall.Errno) {
	r := t.queue[0]
	r.drop()
	if r.tries == tries {
		r.fail(why)
		return
	}
	t.send()
}

func (r *Request) fail(err error) {
	r.drop()
	r.Err, r.done = err, true
}

func (r *Request) drop() {
	if r.Child.Control > 0 {
		syscall.Close(r.Child.Control)
	}
	r.Child = Child{}
}

// errGone says that the template is, or that it has heard half of a request.
const errGone = syscall.Errno(1 << 12)

func (t *Template) request(r *Request) error {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(pair[1])
	r.Child = Child{Control: pair[0]}
	ask := request{top: uint32(r.First() + len(r.Files))}
	fds := append(make([]int, 0, len(r.Files)+2), pair[1])
	if r.Cgroup >= 0 {
		ask.intoCgroup = 1
		fds = append(fds, r.Cgroup)
	}
	fds = append(fds, r.Files...)
	if err := syscall.SetNonblock(pair[0], true); err != nil { // our end alone
		return err
	}
	for first := true; len(fds) > 0; first = false {
		n := min(len(fds), maxFiles)
		if ask.more = 0; n < len(fds) {
			ask.more = 1
		}
		err := retry(func() error {
			return syscall.Sendmsg(t.socket, bytesOf(&ask), syscall.UnixRights(fds[:n]...), nil, syscall.MSG_NOSIGNAL)
		})
		switch {
		case err == syscall.EPIPE, err == syscall.ECONNRESET, err == syscall.EAGAIN, err != nil && !first:
			return errGone
		case err != nil: // a file that is none, or too many on their way
			return err
		}
		fds = fds[n:]
	}
	return nil
}

// hear takes the answer to r, if it is there.
func (t *Template) hear(r *Request) {
	var got reply
	var n int
	err := retry(func() (err error) {
		n, err = syscall.Read(t.socket, bytesOf(&got))
		return err
	})
	switch {
	case err == syscall.EAGAIN:
	case err != nil || n != int(unsafe.Sizeof(got)):
		t.stop()
		t.again(syscall.EPIPE)
	case got.errno == uint32(syscall.EMFILE): // our limit may have been raised since the fork
		t.stop()
		t.again(syscall.EMFILE)
	case got.errno != 0:
		r.fail(syscall.Errno(got.errno))
	default:
		r.Child.PID, r.Child.Base, r.done = int(got.pid), uintptr(got.base), true
	}
}

// start forks a template.
func (t *Template) start() error {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(pair[1])
	if err = syscall.SetNonblock(pair[0], true); err == nil {
		t.pid, err = t.fork(pair[1])
	}
	if err != nil {
		syscall.Close(pair[0])
		return err
	}
	t.socket = pair[0]
	if t.o.Began != nil {
		t.o.Began(t.pid)
	}
	return nil
}

func (t *Template) fork(socket int) (int, error) {
	memory, err := syscall.Mmap(-1, 0, int(boardSize+regionSize), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return 0, err
	}
	defer syscall.Munmap(memory)
	b := (*board)(unsafe.Pointer(&memory[0]))
	copy(b.name[:], "superv-template")
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	b.files = filesAtMost(limit.Cur)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		var here byte // on the stack, which must not move until the fork
		if shrinkable {
			b.shrink(uintptr(unsafe.Pointer(&here)), t.o.Variables)
		}
		b.visible = 0
		if syscall.Geteuid() != 0 && b.unmapped > 0 {
			// Where /proc hides what its reader may not trace (hidepid in proc(5)),
			// we see a child only like this. It has nothing of ours.
			b.visible = 1
		}
		pid, e := forkTemplate(b, uintptr(socket), uintptr(t.o.Null))
		switch e {
		case 0:
			return int(pid), nil
		case syscall.ESTALE:
			continue // it has moved
		}
		return 0, e
	}
}

// stop ends the template, which has nothing to lose.
func (t *Template) stop() {
	if t.socket < 0 {
		return
	}
	syscall.Close(t.socket)
	syscall.Kill(t.pid, syscall.SIGKILL) // its number is its own: nobody has reaped it
	t.socket = -1
	if t.o.Ended != nil {
		t.o.Ended(t.pid)
	}
}

// PID is the template's; 0: there is none.
func (t *Template) PID() int {
	if t.socket < 0 {
		return 0
	}
	return t.pid
}

// readable waits until fd is, or its other end is closed.
func readable(fd, seconds int) bool {
	poll := struct {
		fd              int32
		events, revents int16
	}{int32(fd), 1 /* POLLIN */, 0}
	timeout := syscall.Timespec{Sec: int64(seconds)} // the kernel counts it down
	for {
		n, _, e := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
		if e != syscall.EINTR {
			return e == 0 && n > 0
		}
	}
}

func bytesOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }

func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}
