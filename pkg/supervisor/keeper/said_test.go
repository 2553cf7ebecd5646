package keeper

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A manager that cannot be told something would wait for it for ever. The next one is told
// anew.
func TestWhatCannotBeSaidEndsTheManager(t *testing.T) {
	k, m, _ := alone(t)
	ours := m.line
	defer unix.Close(ours)
	k.forget(ours)
	m.line = openNull(t) // no socket
	m.say(&fixed{k.hello()})
	if !strings.HasPrefix(m.why, "it could not be told") {
		t.Errorf("it is ended because %q", m.why)
	}
}

// connected is a client, and the keeper's end of its line.
func connected(t *testing.T, h Handler) (c *Client, line int) {
	t.Helper()
	theirs, ours, err := newLine()
	if err != nil {
		t.Fatal(err)
	}
	hello := message{verb: sayHello, fields: []string{decimal(Wire), "", decimal(os.Getpid()), "1024", "0"}}
	if err := send(ours, &hello); err != nil {
		t.Fatal(err)
	}
	if c, err = Connect(theirs, h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); unix.Close(ours) })
	return c, ours
}

// asked is the next question, or nothing when there is nobody who could ask.
func asked(line int) (q message) {
	in := receiver{refuse: refuse}
	for err := syscall.EAGAIN; err == unix.EAGAIN; {
		unix.Poll([]unix.PollFd{{Fd: int32(line), Events: unix.POLLIN}}, -1)
		m, e := in.receive(line)
		q, err = m, errnoOf(e)
	}
	return q
}

func errnoOf(err error) syscall.Errno {
	e, _ := err.(syscall.Errno)
	return e
}

func tell(t *testing.T, line int, v verb, number uint32, files []int, fields ...string) {
	t.Helper()
	if err := send(line, &message{verb: v, number: number, fields: fields, files: files}); err != nil {
		t.Error(err)
	}
}

// A keeper whose end the kernel does not tell of is not gone.
func TestAKeeperThatCannotBeWatched(t *testing.T) {
	c, line := connected(t, Handler{})
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	unwatched := os.NewFile(uintptr(pidfd), "") // in no poller, as it is a blocking one
	defer unwatched.Close()
	c.watch(unwatched)
	go func() { tell(t, line, sayDone, asked(line).number, nil, "0") }()
	if err := c.Put("key", ""); err != nil {
		t.Error(err)
	}
}

// The end of a process is told, although another one of its key was dropped just before.
func TestAKeyIsUsedAgain(t *testing.T) {
	c, line := connected(t, Handler{})
	dropped := make(chan error, 1)
	go func() { dropped <- c.Drop("proc") }()
	drop := asked(line)
	adopted := make(chan Entry, 1)
	go func() {
		e, err := c.Adopt("proc", "", 4711, line)
		if err != nil {
			t.Error(err)
		}
		adopted <- e
	}()
	adopt := asked(line)
	closeAll(adopt.files)
	e := entry{key: "proc", files: &files{}, state: Running, pid: 4711, foreign: true}
	tell(t, line, sayDone, drop.number, nil, "0")
	if err := send(line, e.message(adopt.number, 0)); err != nil {
		t.Fatal(err)
	}
	tell(t, line, sayDone, adopt.number, nil, "0")
	got := <-adopted
	if err := <-dropped; err != nil {
		t.Error(err)
	}
	tell(t, line, sayEnded, 0, nil, "proc", "0")
	tell(t, line, sayDone, 99, nil, "0") // which nobody has asked: then the client is lost
	<-c.lost
	if len(got.End) != 1 {
		t.Error("its end is not told")
	}
}
