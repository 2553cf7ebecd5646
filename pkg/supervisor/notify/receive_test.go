package notify

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A sender that has exited is heard, and before its exit is known: Drain comes
// in between and delivers everything.
func TestDrainComesBeforeTheExit(t *testing.T) {
	for range 5 {
		var mu sync.Mutex
		var got []string
		o := everybody
		o.Receive = func(m Message, stored func()) {
			defer stored()
			mu.Lock()
			defer mu.Unlock()
			got = append(got, *m.Status)
		}
		h := listen(t, o)
		c := sending(h.Path(), "STATUS=last words")
		must(t, c.Run()) // and reaped
		must(t, h.Drain(t.Context()))
		mu.Lock()
		got = append(got, "exit")
		mu.Unlock()
		if fmt.Sprint(got) != "[last words exit]" {
			t.Fatal(got)
		}
	}
}

// Drain and the socket's own goroutine take turns: nothing is lost, nothing
// comes twice, and the order stays.
func TestDrainBesideTheReader(t *testing.T) {
	h := listen(t, everybody)
	const n = 2000
	stop := make(chan struct{})
	var draining sync.WaitGroup
	draining.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				h.Drain(t.Context())
			}
		}
	})
	for i := range n {
		must(t, send(h.Path(), fmt.Sprintf("STATUS=%d", i)))
	}
	for i := range n {
		if m := <-h.messages; *m.Status != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, *m.Status)
		}
	}
	close(stop)
	draining.Wait()
	if len(h.messages) != 0 {
		t.Errorf("%d came twice", len(h.messages))
	}
}

// drain takes all that a budget has now, and says how much and after which time there
// is more.
func drain(b *budget) (n int, wait time.Duration) {
	for wait == 0 {
		if wait = b.take(time.Now()); wait == 0 {
			n++
		}
	}
	return n, wait
}

// A burst is heard at once. Who goes on gets less and less, down to a rate that does
// not burn a processor; when he pauses he has all of it again.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b budget
		for round := range 10 {
			n, wait := drain(&b)
			if want := window << min(round, maxFull); n != perWindow || wait != want {
				t.Errorf("round %d: %d messages, then a wait for %v, want %v", round, n, wait, want)
			}
			time.Sleep(wait / 4)
			if rest := b.take(time.Now()); rest != wait*3/4 {
				t.Errorf("round %d: %v are left of %v", round, rest, wait)
			}
			time.Sleep(wait * 3 / 4)
		}
		time.Sleep(2 * b.window())
		if n, wait := drain(&b); n != perWindow || wait != window {
			t.Errorf("after a pause: %d messages, then a wait for %v", n, wait)
		}
	})
}

// Descriptors are work as well, whatever the message says.
func TestBudgetOfDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b budget
		n := 0
		for b.take(time.Now()) == 0 {
			b.fds(maxFDs)
			n++
		}
		if n < 2 || n > 3 {
			t.Errorf("%d messages with %d descriptors each in one window", n, maxFDs)
		}
	})
}

// T44: a flood waits in its own socket. All of it is heard in the end, at the
// pace of the budget, and meanwhile others are heard.
func TestFloodWaitsInItsOwnSocket(t *testing.T) {
	h, other := listen(t, everybody), listen(t, everybody)
	const n = 5 * perWindow
	flooded := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < n && err == nil; i++ {
			err = send(h.Path(), "WATCHDOG=1")
		}
		flooded <- err
	}()
	<-h.messages
	must(t, send(other.Path(), "READY=1"))
	<-other.messages
	for range n - 1 {
		<-h.messages
	}
	must(t, <-flooded)
}

// Descriptors that nobody asked for are closed, as many as the kernel lets pass.
func TestForeignDescriptorsAreClosed(t *testing.T) {
	h := listen(t, everybody)
	before := openFDs(t)
	file, err := os.Open("/proc/self/exe")
	must(t, err)
	null, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(t, err)
	var pipe [2]int
	must(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	all := make([]int, maxFDs)
	for i := range all {
		all[i] = []int{int(file.Fd()), null, epoll, pipe[0]}[i%4]
	}
	must(t, send(h.Path(), "READY=1", all...))
	must(t, send(h.Path(), "STATUS=\x00bad", all...))
	file.Close()
	unix.Close(null)
	unix.Close(epoll)
	unix.Close(pipe[0])
	unix.Close(pipe[1])
	must(t, send(h.Path(), "STOPPING=1"))
	<-h.messages
	<-h.messages
	for h.closer.pending() > 0 {
		<-h.closer.freed
	}
	if after := openFDs(t); after > before { // an earlier test's may be closed meanwhile
		t.Errorf("%d descriptors are open, were %d", after, before)
	}
}

// A lingering socket blocks close(2) unless it is told not to linger.
func TestLingeringSocketDoesNotHoldUpAnything(t *testing.T) {
	h := listen(t, everybody)
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(l)
	must(t, unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(l, 10))
	at, err := unix.Getsockname(l)
	must(t, err)
	for range 3 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Connect(c, at))
		must(t, unix.SetsockoptLinger(c, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 3600}))
		unix.SetNonblock(c, true)
		for err = nil; err == nil; { // nobody reads: these bytes never leave
			_, err = unix.Write(c, make([]byte, 64<<10))
		}
		must(t, send(h.Path(), "STATUS=take this", c))
		<-h.messages
		unix.Close(c) // not the last: the message had a copy
	}
	for h.closer.pending() > 0 {
		<-h.closer.freed
	}
}

// T42: with descriptors that cannot be closed, the socket that brought them is
// left alone, and barriers and all others go on.
func TestSocketWithStuckDescriptorsIsLeftAlone(t *testing.T) {
	h, other := listen(t, everybody), listen(t, everybody)
	for range maxClosing { // as if all closers were stuck
		closing <- struct{}{}
	}
	file, err := os.Open("/proc/self/exe")
	must(t, err)
	defer file.Close()
	for range fewFDs {
		must(t, send(h.Path(), "STATUS=x", int(file.Fd())))
		<-h.messages
	}
	must(t, send(h.Path(), "READY=1"))
	if got := <-h.refused; got != string(cannotClose)+" (uid 0)" {
		t.Errorf("refused: %s", got)
	}
	if len(h.messages) != 0 {
		t.Error("it is read on")
	}
	must(t, send(other.Path(), "READY=1"))
	<-other.messages
	barrier(t, other.Path())

	for range maxClosing {
		<-closing
	}
	if m := <-h.messages; !m.Notice.Ready {
		t.Errorf("got %+v", m)
	}
}

// barrier returns when the socket has answered one.
func barrier(t *testing.T, path string) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	must(t, send(path, "BARRIER=1", int(w.Fd())))
	w.Close()
	r.Read(make([]byte, 1))
}

// A barrier is answered after everything before it was delivered.
func TestBarrierComesAfterWhatWasSaidBefore(t *testing.T) {
	h := listen(t, everybody)
	for range 5 {
		must(t, send(h.Path(), "WATCHDOG=1"))
	}
	barrier(t, h.Path())
	if len(h.messages) != 5 {
		t.Errorf("%d messages were delivered before it", len(h.messages))
	}
}

// When our table is full, the descriptors are lost, the message is dropped and
// counted, and none of them stays.
func TestTableFull(t *testing.T) {
	if os.Getenv("NOTIFY_TEST_TABLE") == "" {
		c := exec.Command("/proc/self/exe", "-test.run=^TestTableFull$")
		c.Env = append(os.Environ(), "NOTIFY_TEST_TABLE=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	h := bound(t, everybody)
	var pipe [2]int
	must(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	before := openFDs(t)
	many := make([]int, 100)
	for i := range many {
		many[i] = pipe[0]
	}
	must(t, send(h.Path(), "STATUS=x", many...))
	must(t, send(h.Path(), "STOPPING=1", many...)) // for this one nobody needs them
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}))
	h.Start(0, nil)
	if got := <-h.refused; got != string(cutControl)+" (uid 0)" && os.Getuid() == 0 {
		t.Errorf("refused: %s", got)
	}
	must(t, send(h.Path(), "READY=1"))
	if m := <-h.messages; !m.Notice.Stopping {
		t.Errorf("got %+v", m)
	}
	if m := <-h.messages; !m.Notice.Ready {
		t.Errorf("got %+v", m)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors are open, were %d", after, before)
	}
}
