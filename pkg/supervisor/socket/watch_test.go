package socket

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOneThatCannotBeWatched costs the others nothing: they are heard of at once.
func TestOneThatCannotBeWatched(t *testing.T) {
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	must(t, table.Listen("http"))
	const none = 1 << 20 // EBADF stands for the ENOSPC of fs.epoll.max_user_watches
	table.watch.fds[none] = &watched{name: "other"}
	found := make(chan Finding, 10)
	if err := table.Watch(func(_ string, f Finding) { found <- f }); err == nil {
		t.Error("nothing is said of it")
	}
	table.watch.drop(none)
	must(t, unix.Shutdown(must2(t, table, 0).FD, unix.SHUT_RD))
	if f := <-found; f.What != "shut it down" || f.Err != nil {
		t.Errorf("told: %+v", f)
	}
}

// TestWatchingThatBeginsLater: what cannot be watched when it begins to listen is said
// in its status, and watched as soon as that can be.
func TestWatchingThatBeginsLater(t *testing.T) {
	table := NewTable(nil)
	defer table.Close()
	found := make(chan Finding, 10)
	must(t, table.Watch(func(_ string, f Finding) { found <- f }))
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	fd := must2(t, table, 0).FD
	inInstance := func(op int) {
		conn, err := table.watch.file.SyscallConn()
		must(t, err)
		must(t, conn.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), op, fd, &unix.EpollEvent{Fd: -1}) }))
		must(t, err)
	}
	inInstance(unix.EPOLL_CTL_ADD) // EEXIST stands for ENOSPC
	must(t, table.Listen("http"))
	const note = "nobody notices at once if a process shuts it down: cannot use epoll: file exists"
	if got := table.Status("http")[0].Note; got != note {
		t.Errorf("it says %q", got)
	}
	inInstance(unix.EPOLL_CTL_DEL)
	table.Audit("http")
	if got := table.Status("http")[0].Note; got != "" {
		t.Errorf("it still says %q", got)
	}
	must(t, unix.Shutdown(fd, unix.SHUT_RD))
	if f := <-found; f.What != "shut it down" || f.Err != nil {
		t.Errorf("told: %+v", f)
	}
}

// Where the runtime's poller takes no more files, nothing would be heard of.
func TestWhatCannotBePolled(t *testing.T) {
	f, err := os.Open("/proc/self/exe") // like an instance that is one too many
	must(t, err)
	defer f.Close()
	if pollable(f) == nil {
		t.Error("it says nothing")
	}
}
