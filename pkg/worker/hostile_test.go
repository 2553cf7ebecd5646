package worker_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests of this file are an old process that was taken over by somebody who
// wishes the next one ill. They write the messages byte by byte, so that the
// format is also what they say it is.

const (
	wireOffer     = 1
	wireHello     = 2
	wireIdleHTTP1 = 3
	wireWithState = 4
	wireTaken     = 5
	wireRefused   = 6
)

func wire(version, kind byte, id uint64, name string, state []byte) []byte {
	b := append([]byte("svho"), version, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	b = binary.BigEndian.AppendUint64(b, id)
	return append(append(b, name...), state...)
}

// A giver is a session with a worker that takes.
type giver struct {
	t  *testing.T
	fd int // blocking, with a limit
}

func newGiver(t *testing.T, pair []int) *giver {
	t.Helper()
	g := offerSession(t, pair)
	if kind, _, err := g.hear(); kind != wireHello || err != nil {
		t.Fatalf("an offer was answered by kind %d, %v", kind, err)
	}
	return g
}

// offerSession sends an offer and does not wait for the answer.
func offerSession(t *testing.T, pair []int) *giver {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	limit := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	sendTo(t, pair, wire(1, wireOffer, 0, "", nil), fds[1])
	unix.Close(fds[1])
	g := &giver{t, fds[0]}
	t.Cleanup(func() { unix.Close(g.fd) })
	return g
}

// sendTo sends into the pair when there is room.
func sendTo(t *testing.T, pair []int, message []byte, fds ...int) {
	t.Helper()
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(pair[1], message, rights, nil, 0)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		unix.Poll([]unix.PollFd{{Fd: int32(pair[1]), Events: unix.POLLOUT}}, int(patience.Milliseconds()))
	}
}

func (g *giver) send(message []byte, fds ...int) {
	g.t.Helper()
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	err := again(func() error { return unix.Sendmsg(g.fd, message, rights, nil, unix.MSG_NOSIGNAL) })
	if err != nil {
		g.t.Fatal(err)
	}
}

// again calls f until it is not interrupted by a signal, as Go's own are.
func again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// hear returns the next answer, kind 0 if there will be none.
func (g *giver) hear() (kind byte, id uint64, err error) {
	b := make([]byte, 64)
	var n int
	err = again(func() (err error) {
		n, err = unix.Read(g.fd, b)
		return err
	})
	if err != nil || n == 0 {
		return 0, 0, err
	}
	if n != 16 || string(b[:4]) != "svho" || b[4] != 1 {
		return 0, 0, fmt.Errorf("answer %q", b[:n])
	}
	return b[5], binary.BigEndian.Uint64(b[8:]), nil
}

func descriptor(t *testing.T) func(fd int, err error) int {
	return func(fd int, err error) int {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
}

// accepted is a connection of s that this process has accepted itself.
func accepted(t *testing.T, s socket) (client net.Conn, server int) {
	t.Helper()
	client = dial(t, s)
	var fd int
	err := again(func() (err error) {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(patience.Milliseconds())); err != nil {
			return err
		}
		fd, _, err = unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
		return err
	})
	return client, descriptor(t)(fd, err)
}

func TestAHostileGiverIsRefused(t *testing.T) {
	s, other, pair := listenTCP(t, "web"), listenTCP(t, "web"), handoverPair(t)
	client, good := accepted(t, s)
	_, elsewhere := accepted(t, other)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mine := descriptor(t)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	mine(pipe[0], nil)
	mine(pipe[1], nil)
	many := make([]int, 253)
	for i := range many {
		many[i] = good
	}
	one := func(fd int, err error) []int { return []int{mine(fd, err)} }
	ours := []int{good}

	w := startWorker(t, spec{role: "http", sockets: []socket{s}, pair: pair})
	w.await("READY=1")
	before := openFiles(t, w)
	g := newGiver(t, pair)
	for i, test := range []struct {
		name    string
		message func(id uint64) []byte
		fds     []int
	}{
		{"listener", idle("web"), []int{s.fd}},
		{"file", idle("web"), one(unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0))},
		{"directory", idle("web"), one(unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0))},
		{"pipe", idle("web"), pipe[:1]},
		{"memory", idle("web"), one(unix.MemfdCreate("x", unix.MFD_CLOEXEC))},
		{"unconnected", idle("web"), one(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))},
		{"UDP", idle("web"), one(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0))},
		{"netlink", idle("web"), one(unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0))},
		{"packets", idle("web"), []int{pair[0]}},
		{"epoll", idle("web"), one(unix.EpollCreate1(unix.EPOLL_CLOEXEC))},
		{"none", idle("web"), nil},
		{"two", idle("web"), []int{good, good}},
		{"253", idle("web"), many},
		{"another name", idle("admin"), ours},
		{"no name", idle(""), ours},
		{"another address", idle("web"), []int{elsewhere}},
		{"another kind", func(id uint64) []byte { return wire(1, wireWithState, id, "web", nil) }, ours},
		{"kind of the future", func(id uint64) []byte { return wire(1, 77, id, "web", nil) }, ours},
		{"version of the future", func(id uint64) []byte { return wire(2, wireIdleHTTP1, id, "web", []byte("x")) }, ours},
		{"large state", func(id uint64) []byte { return wire(1, wireIdleHTTP1, id, "web", make([]byte, 100_000)) }, ours},
		{"long name", func(id uint64) []byte {
			return wire(1, wireIdleHTTP1, id, string(bytes.Repeat([]byte("w"), 256)), nil)
		}, ours},
		{"name that is cut off", func(id uint64) []byte { return wire(1, wireIdleHTTP1, id, "web", nil)[:18] }, ours},
	} {
		id := uint64(1000 + i)
		g.send(test.message(id), test.fds...)
		if kind, got, err := g.hear(); kind != wireRefused || got != id || err != nil {
			t.Fatalf("%s: answer %d to message %d, %v; want %d to %d", test.name, kind, got, err, wireRefused, id)
		}
	}
	for _, half := range []string{"s", "svho\x01\x03", "POST / HTTP/1.1\r\n"} {
		g.send([]byte(half), good)
		if kind, _, err := g.hear(); kind != wireRefused || err != nil {
			t.Fatalf("%q: answer %d, %v", half, kind, err)
		}
	}
	g.send(wire(1, wireIdleHTTP1, 7, "web", nil), good)
	if kind, id, err := g.hear(); kind != wireTaken || id != 7 || err != nil {
		t.Fatalf("a good connection: answer %d to %d, %v", kind, id, err)
	}
	exchange(t, &keepAlive{conn: client, r: bufio.NewReader(client)}, w)
	client.Close()
	unix.Close(g.fd)
	g.fd = -1
	awaitOpenFiles(t, w, before)
	w.terminate()
	w.awaitExit()
}

func idle(name string) func(uint64) []byte {
	return func(id uint64) []byte { return wire(1, wireIdleHTTP1, id, name, nil) }
}

func openFiles(t *testing.T, w *process) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// awaitOpenFiles waits until a worker has no more descriptors than before.
func awaitOpenFiles(t *testing.T, w *process, before int) {
	t.Helper()
	for i := 0; openFiles(t, w) > before; i++ {
		if i == 100_000 {
			t.Fatalf("%d descriptors are open, %d were before", openFiles(t, w), before)
		}
	}
}

func TestJunkInThePairIsDropped(t *testing.T) {
	s, pair := listenTCP(t, "web"), handoverPair(t)
	w := startWorker(t, spec{role: "http", sockets: []socket{s}, pair: pair})
	w.await("READY=1")
	before := openFiles(t, w)
	for _, message := range [][]byte{{0}, []byte("svho"), wire(9, wireOffer, 0, "", nil), wire(1, wireTaken, 0, "", nil), wire(1, wireOffer, 0, "", nil), make([]byte, 60_000)} {
		for _, fds := range [][]int{nil, {0}, {s.fd}, {0, 1, 2, s.fd}} {
			sendTo(t, pair, message, fds...)
		}
	}
	newGiver(t, pair) // read after all that
	awaitOpenFiles(t, w, before+1)
	k := &keepAlive{conn: dial(t, s)}
	k.r = bufio.NewReader(k.conn)
	exchange(t, k, w)
}

func TestAGiverThatSaysNothingHoldsNothingUp(t *testing.T) {
	s, pair := listenTCP(t, "web"), handoverPair(t)
	w := startWorker(t, spec{role: "http", sockets: []socket{s}, pair: pair})
	w.await("READY=1")
	newGiver(t, pair)
	for range 100 { // one process is listened to once
		if kind, _, err := offerSession(t, pair).hear(); kind != wireRefused {
			t.Fatalf("another offer was answered by kind %d, %v", kind, err)
		}
	}
	w.terminate()
	w.awaitExit()
}

// With several instances of a service ready, none gets all of the connections.
func TestConnectionsGoToAllWhoTake(t *testing.T) {
	s, pair := listenTCP(t, "web"), handoverPair(t)
	sp := spec{role: "http", sockets: []socket{s}, pair: pair}
	old := startWorker(t, sp)
	old.await("READY=1")
	var clients []*keepAlive
	for range 40 {
		k := &keepAlive{conn: dial(t, s)}
		k.r = bufio.NewReader(k.conn)
		exchange(t, k, old)
		clients = append(clients, k)
	}
	served := make(map[string]int)
	for range 3 {
		w := startWorker(t, sp)
		w.await("READY=1")
	}
	old.terminate()
	old.awaitExit()
	for _, k := range clients {
		served[answeredBy(t, k)]++
	}
	t.Log(served)
	if len(served) < 2 { // to be found is a matter of chance, but of many
		t.Errorf("all connections went to one of three processes")
	}
	for pid, n := range served {
		if n != len(clients)/len(served) && n != len(clients)/len(served)+1 {
			t.Errorf("process %s has %d of %d connections", pid, n, len(clients))
		}
	}
}
