package notify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A told is a message, and what says that it is stored.
type told struct {
	Message
	stored func()
}

// telling is a socket whose owner stores nothing by itself.
func telling(t *testing.T) (heard, chan told) {
	t.Helper()
	all := make(chan told, 100)
	o := everybody
	o.Receive = func(m Message, stored func()) { all <- told{m, stored} }
	return listen(t, o), all
}

// waiting is the length of the datagram that is next in the socket; -1: there is none.
func (h heard) waiting(t *testing.T) int {
	t.Helper()
	n := -1
	p, _ := h.port()
	must(t, p.raw.Control(func(fd uintptr) {
		if got, _, err := unix.Recvfrom(int(fd), make([]byte, 100), unix.MSG_PEEK); err == nil {
			n = got
		}
	}))
	return n
}

// What changes the state of a service is in its socket until it is stored, and what was
// sent after it comes after it.
func TestWhatMustBeStoredStaysInTheSocketUntilItIs(t *testing.T) {
	for _, text := range []string{
		"READY=1", "STOPPING=1", "RELOADING=1", "ERRNO=5", "MAINPID=1", "FDSTORE=1", "FDSTOREREMOVE=1\nFDNAME=x",
		"EXTEND_TIMEOUT_USEC=5", "STATUS=up\nREADY=1", "MAINPIDFD=1",
	} {
		t.Run(text, func(t *testing.T) {
			h, all := telling(t)
			must(t, send(h.Path(), text))
			must(t, send(h.Path(), "WATCHDOG=1"))
			first := <-all
			if n := h.waiting(t); n != len(text) {
				t.Errorf("%d bytes are next in the socket, not %d", n, len(text))
			}
			if len(all) > 0 {
				t.Error("the next one has overtaken it")
			}
			first.stored()
			first.stored() // twice is once
			if m := <-all; !m.Notice.Ping {
				t.Errorf("got %+v", m)
			}
		})
	}
}

func TestAllElseIsTakenAtOnce(t *testing.T) {
	h, all := telling(t)
	for _, text := range []string{"WATCHDOG=1", "STATUS=x", "WATCHDOG=trigger", "READY=0\nSTATUS=x", "WATCHDOG_USEC=1"} {
		must(t, send(h.Path(), text))
		<-all // and nobody says that it is stored
	}
	barrier(t, h.Path())
	if n := h.waiting(t); n != -1 {
		t.Errorf("%d bytes are in the socket", n)
	}
}

// A refused message is taken, whatever it says.
func TestWhatDoesNotCountIsTaken(t *testing.T) {
	h := listen(t, Options{GID: -1, Access: unit.NotifyMain})
	must(t, send(h.Path(), "READY=1"))
	<-h.refused
	must(t, h.Drain(t.Context()))
	if n := h.waiting(t); n != -1 {
		t.Errorf("%d bytes are in the socket", n)
	}
}

// Drain is done when what it delivers is stored, or when it may wait no longer.
func TestDrainWaitsForTheOwner(t *testing.T) {
	h, all := telling(t)
	must(t, send(h.Path(), "READY=1"))
	first := <-all
	must(t, send(h.Path(), "STOPPING=1"))
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan error)
	go func() { drained <- h.Drain(ctx) }()
	cancel()
	if err := <-drained; !errors.Is(err, context.Canceled) {
		t.Errorf("Drain says %v", err)
	}
	go func() { drained <- h.Drain(t.Context()) }()
	first.stored()
	second := <-all
	if !second.Notice.Stopping {
		t.Errorf("got %+v", second)
	}
	second.stored()
	must(t, <-drained)
	if n := h.waiting(t); n != -1 {
		t.Errorf("Drain has left %d bytes", n)
	}
}

// An owner that never stores holds up its own socket alone, and Close ends that.
func TestOwnerThatStoresNothing(t *testing.T) {
	before := openFDs(t)
	h, all := telling(t)
	other := listen(t, everybody)
	must(t, send(h.Path(), "READY=1"))
	first := <-all
	must(t, send(other.Path(), "READY=1"))
	<-other.messages
	must(t, h.Close())
	<-h.over
	first.stored()
	other.Close()
	<-other.over
	closed(t, before+2) // the tests' directories
}

// Looking at a message leaves nothing behind of the descriptors that came with it, and
// of the sender's pidfd.
func TestLookingLeaksNoDescriptor(t *testing.T) {
	for _, open := range []bool{false, true} {
		var main int
		o := Options{GID: -1, Access: unit.NotifyAll, Open: open}
		h := bound(t, o)
		h.Start(main, func(int, int) bool { return true })
		var pipe [2]int
		must(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
		many := make([]int, maxFDs)
		for i := range many {
			many[i] = pipe[0]
		}
		before := openFDs(t)
		for range 10 {
			must(t, send(h.Path(), "READY=1", many...))
			<-h.messages
		}
		if open && os.Geteuid() == 0 {
			c := sending(h.Path(), "STOPPING=1")
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: 4242}}
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if m := <-h.messages; !m.Notice.Stopping || m.UID != 4242 {
				t.Errorf("got %+v", m)
			}
		}
		must(t, send(h.Path(), "WATCHDOG=1"))
		<-h.messages
		closed(t, before)
		unix.Close(pipe[0])
		unix.Close(pipe[1])
	}
}

// A keeping is a table of descriptors, as of the process that does not die.
type keeping struct {
	t         *testing.T
	kept      []int
	modes     []uint32 // of the path when each was kept
	forgotten int
	path      string
}

func (k *keeping) keep(fd int) (func(), error) {
	var st unix.Stat_t
	must(k.t, unix.Lstat(k.path, &st))
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	must(k.t, err)
	k.kept, k.modes = append(k.kept, own), append(k.modes, st.Mode&0o777)
	return func() { k.forgotten++ }, nil
}

// all are copies of what is kept, for Resume.
func (k *keeping) all() (all []Kept) {
	for _, fd := range k.kept {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		must(k.t, err)
		all = append(all, Kept{FD: own})
	}
	return all
}

// kept is a socket that is kept and never read: its manager has died.
func kept(t *testing.T) (*safepath.Dir, *keeping) {
	t.Helper()
	dir := newDir(t)
	k := &keeping{t: t, path: dir.Path() + "/1"}
	o := everybody
	o.Keep = k.keep
	s, err := Listen(dir, "1", o)
	must(t, err)
	t.Cleanup(func() {
		s.now.file.Close() // not Close, which is for the end of an invocation
		for _, fd := range k.kept {
			unix.Close(fd)
		}
	})
	return dir, k
}

// resume is the socket's next manager.
func resume(t *testing.T, dir *safepath.Dir, k *keeping) heard {
	t.Helper()
	h := heard{messages: make(chan Message, 100), refused: make(chan string, 100)}
	o := everybody
	o.Keep = k.keep
	o.Receive = func(m Message, stored func()) { stored(); h.messages <- m }
	s, err := Resume(dir, "1", o, k.all()...)
	must(t, err)
	h.Socket = s
	t.Cleanup(func() { s.Close(); <-s.over })
	return h
}

func TestSocketIsKeptBeforeAnybodyCanSend(t *testing.T) {
	dir, k := kept(t)
	if len(k.kept) != 1 || k.modes[0] != 0 {
		t.Errorf("kept %d, with modes %o", len(k.kept), k.modes)
	}
	h := resume(t, dir, k)
	must(t, os.Remove(h.Path()))
	if renewed, err := h.Renew(); !renewed || err != nil {
		t.Fatal(renewed, err)
	}
	if len(k.kept) != 2 || k.modes[1] != 0 {
		t.Errorf("kept %d, with modes %o", len(k.kept), k.modes)
	}
}

func TestSocketThatCannotBeKept(t *testing.T) {
	dir := newDir(t)
	before := openFDs(t)
	o := everybody
	o.Keep = func(int) (func(), error) { return nil, unix.EMFILE }
	if _, err := Listen(dir, "1", o); !errors.Is(err, unix.EMFILE) {
		t.Errorf("Listen says %v", err)
	}
	if names, _ := dir.Names(); len(names) > 0 {
		t.Errorf("it left %v", names)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors are open, were %d", after, before)
	}
}

// What is kept is forgotten before it is closed, and only when it is over.
func TestEndedSocketIsForgotten(t *testing.T) {
	forgotten := make(chan bool, 1)
	var fd int
	o := everybody
	o.Keep = func(n int) (func(), error) {
		fd = n
		return func() {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			forgotten <- err == nil
		}, nil
	}
	s, err := Listen(newDir(t), "1", o)
	must(t, err)
	if len(forgotten) > 0 {
		t.Error("it was forgotten too early")
	}
	must(t, s.Close())
	if open := <-forgotten; !open {
		t.Error("it was closed before it was forgotten")
	}
}

func TestNextManagerHearsWhatWaits(t *testing.T) {
	none := func(*testing.T, string) {}
	for name, meanwhile := range map[string]func(t *testing.T, path string){
		"nothing else has happened":     none,
		"the path was removed":          func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"something else is at the path": func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.WriteFile(path, nil, 0o600)) },
		"a dead socket is at the path": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
			unix.Close(fd)
		},
		"it was killed before senders were let in": func(t *testing.T, path string) { must(t, os.Chmod(path, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, k := kept(t)
			must(t, send(k.path, "READY=1"))
			must(t, send(k.path, "STATUS=x"))
			meanwhile(t, k.path)
			h := resume(t, dir, k)
			must(t, send(k.path, "STOPPING=1"))
			h.Start(os.Getpid(), nil)
			if m := <-h.messages; !m.Notice.Ready {
				t.Errorf("got %+v", m)
			}
			if m := <-h.messages; m.Status == nil {
				t.Errorf("got %+v", m)
			}
			if m := <-h.messages; !m.Notice.Stopping {
				t.Errorf("got %+v", m)
			}
			var st unix.Stat_t
			must(t, unix.Lstat(k.path, &st))
			if st.Mode != unix.S_IFSOCK|0o600 {
				t.Errorf("its mode is %o", st.Mode)
			}
			if renewed, err := h.Renew(); renewed || err != nil {
				t.Errorf("Renew says %t, %v", renewed, err)
			}
		})
	}
}

// What a manager has heard and not stored is heard by the next one.
func TestNextManagerHearsWhatWasNotStored(t *testing.T) {
	dir, k := kept(t)
	all := make(chan told, 10)
	o := everybody
	o.Receive = func(m Message, stored func()) { all <- told{m, stored} }
	first, err := Resume(dir, "1", o, k.all()...)
	must(t, err)
	first.Start(1, nil)
	must(t, send(k.path, "READY=1"))
	<-all
	first.end() // it dies: nothing is removed
	<-first.over
	first.now.file.Close()
	h := resume(t, dir, k)
	h.Start(1, nil)
	if m := <-h.messages; !m.Notice.Ready {
		t.Errorf("got %+v", m)
	}
}

// The path was bound again by a former manager: what is in the old socket comes first.
func TestNextManagerHearsBothSockets(t *testing.T) {
	dir, k := kept(t)
	must(t, send(k.path, "STATUS=1"))
	second := resume(t, dir, k)
	must(t, os.Remove(k.path))
	_, err := second.Renew()
	must(t, err)
	must(t, send(k.path, "STATUS=2"))
	h := resume(t, dir, k)
	h.Start(1, nil)
	for _, want := range []string{"1", "2"} {
		if m := <-h.messages; *m.Status != want {
			t.Errorf("got %s, not %s", *m.Status, want)
		}
	}
}

func TestWhatIsNoSocketIsNotResumed(t *testing.T) {
	dir := newDir(t)
	before := openFDs(t)
	var pipe [2]int
	must(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	stream, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	good, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	for _, kept := range [][]Kept{nil, {{FD: pipe[0]}}, {{FD: good}, {FD: stream}}, {{FD: -1}}} {
		if _, err := Resume(dir, "1", everybody, kept...); err == nil || !strings.HasPrefix(err.Error(), "cannot go on with the notify socket ") {
			t.Errorf("%v: %v", kept, err)
		}
	}
	unix.Close(pipe[1])
	closed(t, before)
}

// managers is how many are killed.
const managers = 100

// succeed is a manager: it hears what its predecessor had not stored, stores it, and
// says so. It ends with its stdin.
func succeed(path string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	dir, err := safepath.OpenDir(path)
	fail(err)
	state, err := os.OpenFile(path+"/state", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	fail(err)
	o := everybody
	o.Receive = func(m Message, stored func()) {
		_, err := fmt.Fprintln(state, *m.Status)
		fail(err)
		fmt.Println(*m.Status)
		stored()
	}
	s, err := Resume(dir, "1", o, Kept{FD: 3})
	fail(err)
	s.Start(os.Getppid(), nil)
	io.Copy(io.Discard, os.Stdin)
}

// A manager in the test: its output tells what it has stored.
type manager struct {
	pid         int
	out         *bufio.Reader
	stdin, from *os.File
}

func newManager(t *testing.T, dir string, socket int) *manager {
	t.Helper()
	in, stdin, err := os.Pipe()
	must(t, err)
	from, out, err := os.Pipe()
	must(t, err)
	env := append(os.Environ(), "NOTIFY_TEST_LISTEN="+dir, "GORACE=atexit_sleep_ms=0")
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"manager"}, &syscall.ProcAttr{
		Env: env, Files: []uintptr{in.Fd(), out.Fd(), 2, uintptr(socket)}, // raw numbers: the socket stays non-blocking
	})
	must(t, err)
	in.Close()
	out.Close()
	return &manager{pid, bufio.NewReader(from), stdin, from}
}

// stores waits until it has stored something.
func (m *manager) stores(t *testing.T) int {
	t.Helper()
	line, err := m.out.ReadString('\n')
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(line))
	must(t, err)
	return n
}

func (m *manager) kill(t *testing.T) {
	t.Helper()
	must(t, unix.Kill(m.pid, unix.SIGKILL))
	_, err := unix.Wait4(m.pid, nil, 0, nil)
	must(t, err)
	m.stdin.Close()
	m.from.Close()
}

// Managers are killed at any moment, and the next one goes on with the socket: each
// message is stored, in its order, and stored twice only where the kill came between
// the storing and the taking.
func TestNoMessageIsLostWithItsManager(t *testing.T) {
	if os.Geteuid() == 0 && os.Getenv("NOTIFY_TEST_USER") == "" {
		t.Run("as an ordinary user", asUser)
	}
	dir, k := kept(t)
	stop, sent := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				sent <- n
				return
			default:
			}
			text := []string{"READY=1", "STOPPING=1", "ERRNO=1", "EXTEND_TIMEOUT_USEC=1"}[n%4]
			if err := send(k.path, fmt.Sprintf("%s\nSTATUS=%d", text, n)); err != nil {
				t.Errorf("cannot send: %v", err)
			}
		}
	}()
	for range managers {
		m := newManager(t, dir.Path(), k.kept[0])
		for range rand.IntN(8) {
			m.stores(t)
		}
		m.kill(t)
	}
	close(stop)
	last := newManager(t, dir.Path(), k.kept[0])
	n := <-sent
	must(t, send(k.path, fmt.Sprintf("READY=1\nSTATUS=%d", n)))
	for last.stores(t) < n {
	}
	last.kill(t)
	state, err := os.ReadFile(dir.Path() + "/state")
	must(t, err)
	wantStored(t, string(state), n)
}

func wantStored(t *testing.T, state string, n int) {
	t.Helper()
	next, twice := 0, 0
	for line := range strings.Lines(state) {
		switch got, _ := strconv.Atoi(strings.TrimSpace(line)); got {
		case next:
			next++
		case next - 1:
			twice++
		default:
			t.Fatalf("%d is stored after %d", got, next-1)
		}
	}
	if next != n+1 {
		t.Errorf("%d of %d are stored", next, n+1)
	}
	if twice > managers {
		t.Errorf("%d are stored twice", twice)
	}
}

// asUser runs the test around it once more, as an ordinary user.
func asUser(t *testing.T) {
	name, _, _ := strings.Cut(t.Name(), "/")
	c := exec.Command("/proc/self/exe", "-test.run=^"+name+"$")
	c.Env = append(os.Environ(), "NOTIFY_TEST_USER=1", "TMPDIR=/tmp")
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
