package keeper

import (
	"errors"
	"os"
	"strings"
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

// A keeper whose end the kernel does not tell of is not gone.
func TestAKeeperThatCannotBeWatched(t *testing.T) {
	ours, theirs, err := newLine()
	if err != nil {
		t.Fatal(err)
	}
	lost := make(chan error, 1)
	m := message{verb: sayHello, fields: []string{"1", "", decimal(os.Getpid()), "1024", "0"}}
	if err := send(theirs, &m); err != nil {
		t.Fatal(err)
	}
	c, err := Connect(ours, Handler{Lost: func(err error) { lost <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	unwatched := os.NewFile(uintptr(pidfd), "") // in no poller, as it is a blocking one
	defer unwatched.Close()
	c.watch(unwatched)
	go answerOne(theirs)
	done := make(chan error, 1)
	go func() { done <- c.Put("key", "") }()
	if err := <-done; err != nil {
		t.Error(err)
	}
	unix.Close(theirs)
	if err := <-lost; !errors.Is(err, ErrLost) {
		t.Error(err)
	}
}

// answerOne answers one question, if one comes.
func answerOne(line int) {
	in := receiver{refuse: refuse}
	for {
		unix.Poll([]unix.PollFd{{Fd: int32(line), Events: unix.POLLIN}}, -1)
		q, err := in.receive(line)
		if err == nil {
			send(line, &message{verb: sayDone, number: q.number, fields: []string{"0"}})
		}
		if err != unix.EAGAIN {
			return
		}
	}
}
