package notify

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What may come in any order: a stranger's datagrams before there is a main
// process, the owner's calls, and a Receive that does not come back.

// fill sends until the kernel takes no more.
func fill(t *testing.T, path string) (n int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	defer unix.Close(fd)
	for err == nil {
		if err = unix.Sendto(fd, []byte("WATCHDOG=1"), 0, &unix.SockaddrUnix{Name: path}); err == nil {
			n++
		}
	}
	if err != unix.EAGAIN {
		t.Fatal(err)
	}
	return n
}

// A neighbour that sends to 64 sockets, before each has its main process, holds
// up none of their owners; and nobody has heard it before the start.
func TestHostileNeighbourBeforeTheStart(t *testing.T) {
	before := openFDs(t)
	for range 64 {
		t.Run("", func(t *testing.T) {
			hang := make(chan struct{})
			o := everybody
			o.Receive = func(Message, func()) { <-hang }
			h := bound(t, o)
			if n := fill(t, h.Path()); n == 0 {
				t.Fatal("nothing could be sent, so this tests nothing")
			}
			h.SetMain(1)
			h.Start(2, nil)
			h.SetMain(3)
			h.Dropped()
			h.Refusals()
			must(t, h.Close())
			close(hang)
			<-h.over
		})
	}
	closed(t, before)
}

// closed waits until the descriptors that are closed in the background are.
func closed(t *testing.T, want int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); openFDs(t) > want; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors are open, not %d", openFDs(t), want)
		}
	}
}

func TestNothingIsReadBeforeTheStart(t *testing.T) {
	h := bound(t, everybody)
	n := fill(t, h.Path())
	must(t, h.Drain(t.Context()))
	if again := fill(t, h.Path()); again != 0 || len(h.messages) != 0 {
		t.Errorf("%d messages were heard, and there is room for %d", len(h.messages), again)
	}
	h.Start(0, nil)
	h.Start(0, nil) // twice is once
	for range n {
		if m := <-h.messages; !m.Notice.Ping {
			t.Errorf("got %+v", m)
		}
	}
}

func TestCloseBeforeStart(t *testing.T) {
	before := openFDs(t)
	h := bound(t, everybody)
	fill(t, h.Path())
	must(t, h.Close())
	h.Start(1, nil)
	<-h.over
	must(t, h.Drain(t.Context()))
	must(t, h.Close())
	if len(h.messages) > 0 {
		t.Error("a closed socket was heard")
	}
	if names, _ := h.dir.Names(); len(names) > 0 {
		t.Errorf("Close left %v", names)
	}
	closed(t, before+1) // the test's directory
}

// A hung is a socket whose Receive does not return before the test ends.
func hung(t *testing.T) heard {
	t.Helper()
	free, entered := make(chan struct{}), make(chan struct{}, 100)
	o := everybody
	o.Receive = func(Message, func()) { entered <- struct{}{}; <-free }
	h := listen(t, o)
	t.Cleanup(func() { close(free) })
	must(t, send(h.Path(), "READY=1"))
	<-entered
	return h
}

func TestNothingWaitsForAReceiveThatHangs(t *testing.T) {
	t.Run("Close", func(t *testing.T) {
		before := openFDs(t)
		h := hung(t)
		must(t, h.Close())
		closed(t, before+1) // the socket is gone as well, not only its name
		must(t, h.Drain(t.Context()))
	})
	t.Run("Drain", func(t *testing.T) {
		h := hung(t)
		must(t, send(h.Path(), "STOPPING=1"))
		ctx, cancel := context.WithCancel(t.Context())
		drained := make(chan error)
		go func() { drained <- h.Drain(ctx) }()
		select {
		case err := <-drained:
			t.Errorf("Drain has overtaken a message: %v", err)
		default:
		}
		cancel()
		if err := <-drained; !errors.Is(err, context.Canceled) {
			t.Errorf("Drain says %v", err)
		}
	})
	t.Run("Drain that is under way when Close comes", func(t *testing.T) {
		h := hung(t)
		drained := make(chan error)
		go func() { drained <- h.Drain(context.Background()) }()
		must(t, h.Close())
		must(t, <-drained)
	})
	t.Run("SetMain, Dropped and Refusals", func(t *testing.T) {
		h := hung(t)
		h.SetMain(1)
		h.Start(2, nil)
		h.Dropped()
		h.Refusals()
	})
}

// Receive and Refused may ask the socket, and end it.
func TestCallbacksMayCallTheSocket(t *testing.T) {
	var h heard
	called := make(chan string, 10)
	o := everybody
	o.Receive = func(Message, func()) {
		h.SetMain(1)
		h.Start(1, nil)
		h.Dropped()
		h.Refusals()
		h.Close()
		called <- "Receive"
	}
	h = bound(t, o)
	h.o.Refused = func(string, int, uint32) { h.Dropped(); h.Refusals(); called <- "Refused" }
	h.Start(0, nil)
	must(t, send(h.Path(), "\x00"))
	if got := <-called; got != "Refused" {
		t.Error(got)
	}
	must(t, send(h.Path(), "READY=1"))
	if got := <-called; got != "Receive" {
		t.Error(got)
	}
	<-h.over
}
