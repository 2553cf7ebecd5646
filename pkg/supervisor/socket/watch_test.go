package socket

import (
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
	table.watch.fds[none] = watched{name: "other"}
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
