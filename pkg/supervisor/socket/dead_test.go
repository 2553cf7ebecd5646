package socket

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// ends are ways in which a unix listener at DIR/run/x becomes of no use to its holders.
var ends = map[string]func(dir string, fd int) error{
	"shutdown": func(_ string, fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) },
	"remove":   func(dir string, _ int) error { return lose(dir + "/run/x") },
	"rename": func(dir string, _ int) error {
		return errors.Join(os.Remove(dir+"/run/x.spare"), os.Rename(dir+"/run/x", dir+"/run/y"))
	},
	"replace": func(dir string, _ int) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/run/z"})
			unix.Close(fd) // nobody serves there
		}
		return errors.Join(err, os.Remove(dir+"/run/x.spare"), os.Rename(dir+"/run/z", dir+"/run/x"))
	},
	"move the directory": func(dir string, _ int) error { return os.Rename(dir+"/run", dir+"/away") },
	"remove the directory": func(dir string, _ int) (err error) {
		for range 100 {
			if err = os.RemoveAll(dir + "/run"); err == nil {
				break // it was not bound anew in the middle of that
			}
		}
		return err
	},
}

// begunAt is a unit that listens at a path and is watched; 1 and 2 have it.
func begunAt(t *testing.T, a unit.Address) (*Table, <-chan Finding, File) {
	t.Helper()
	table := NewTable(nil)
	t.Cleanup(func() { table.Close() })
	found := watching(t, table)
	must(t, table.Bind(spec("http", a)))
	must(t, table.Listen("http"))
	must2(t, table, 2)
	return table, found, must2(t, table, 1)
}

// must2 is the first socket of a process.
func must2(t *testing.T, table *Table, id unit.Invocation) File {
	t.Helper()
	files, err := filesOf(table, "http", id)
	must(t, err)
	return files[0]
}

// TestDeadSocketIsTold without anybody asking, once, by the cookie that its holders
// have. Until one of them is replaced clients are refused; then all is well and nothing
// asks for more.
func TestDeadSocketIsTold(t *testing.T) {
	for what, end := range ends {
		t.Run(what, func(t *testing.T) {
			dir := shortDir(t)
			at := dir + "/run/x"
			table, found, old := begunAt(t, file(at))
			must(t, end(dir, old.FD))
			f := <-found
			if f.Dead != old.Cookie || !f.Void || f.Err != nil || f.Address != at || f.Mended == "" {
				t.Errorf("told: %+v", f)
			}
			table.Audit("http")
			refused(t, at)
			if st := table.Status("http")[0]; st.Listening || !strings.Contains(st.Note, "refuses until") || st.Err != nil {
				t.Errorf("status: %+v", st)
			}
			must(t, table.Listen("http")) // a process starts
			next := must2(t, table, 3)
			served(t, table)
			if next.Cookie == old.Cookie {
				t.Error("the process that starts gets the old one")
			}
			table.Free("http", 1)
			table.Free("http", 2)
			if st := table.Status("http")[0]; !st.Listening || st.Note != "" || st.Err != nil || st.Last != nil {
				t.Errorf("status afterwards: %+v, %+v", st, st.Last)
			}
			table.watch.close() // waits for what is being told
			for len(found) > 0 {
				if f := <-found; f.Dead != 0 || f.Void {
					t.Errorf("told again: %+v", f)
				}
			}
		})
	}
}

// TestHoldersThatEndOpenTheSocket: whoever restarts finds those who came meanwhile.
func TestHoldersThatEndOpenTheSocket(t *testing.T) {
	for _, a := range []unit.Address{file(shortDir(t) + "/x"), file("@" + t.Name() + fmt.Sprint(os.Getpid()))} {
		table, found, old := begunAt(t, a)
		must(t, unix.Shutdown(old.FD, unix.SHUT_RDWR))
		if f := <-found; f.Dead != old.Cookie {
			t.Errorf("told: %+v", f)
		}
		table.Free("http", 1)
		refused(t, a.Path)
		table.Free("http", 2)
		served(t, table)
		if st := table.Status("http")[0]; st.Note != "" {
			t.Errorf("status: %+v", st)
		}
	}
}

// TestAbstractNameIsHeldByTheDead: it cannot be bound anew before the last of those
// that have it is gone. That is told with the dead socket, and then it is.
func TestAbstractNameIsHeldByTheDead(t *testing.T) {
	a := file("@" + t.Name() + fmt.Sprint(os.Getpid()))
	table, found, old := begunAt(t, a)
	copied, err := unix.FcntlInt(uintptr(old.FD), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	must(t, unix.Shutdown(copied, unix.SHUT_RDWR))
	if f := <-found; f.Dead != old.Cookie || !errors.Is(f.Err, unix.EADDRINUSE) {
		t.Errorf("told: %+v", f)
	}
	table.Free("http", 1)
	refused(t, a.Path)
	if st := table.Status("http")[0]; st.Err == nil || st.Listening {
		t.Errorf("status: %+v", st)
	}
	must(t, unix.Close(copied))
	table.Free("http", 2)
	served(t, table)
}

// TestNobodyHasIt: then it is bound anew and listens, for the next start.
func TestNobodyHasIt(t *testing.T) {
	for what, end := range ends {
		dir := shortDir(t)
		table := NewTable(nil)
		found := watching(t, table)
		must(t, table.Bind(spec("http", file(dir+"/run/x"))))
		must(t, table.Listen("http"))
		must(t, end(dir, must2(t, table, 0).FD))
		if f := <-found; f.Dead != 0 || f.Void || f.Err != nil {
			t.Errorf("%s: %+v", what, f)
		}
		table.Audit("http")
		served(t, table)
		must(t, table.Close())
	}
}

// TestLivingServerInOurPlace is left alone and named, once; what we have is kept, as
// its processes are served nowhere else. When it is gone the path is ours again.
func TestLivingServerInOurPlace(t *testing.T) {
	dir := shortDir(t)
	table, found, _ := begunAt(t, file(dir+"/x"))
	server := role("listen", "unix", dir+"/y")
	begin(t, server)
	must(t, os.Rename(dir+"/y", dir+"/x"))
	if f := <-found; f.Dead != 0 || !errors.Is(f.Err, unix.EADDRINUSE) || !strings.Contains(f.Err.Error(), fmt.Sprint("pid ", server.Process.Pid)) {
		t.Errorf("told: %+v", f)
	}
	if again := table.Audit("http"); len(again) > 0 {
		t.Errorf("told again: %v", again)
	}
	c, err := dial(dir + "/x")
	must(t, err)
	c.Close()
	server.Process.Kill()
	server.Wait()
	if f := table.Audit("http"); len(f) != 1 || f[0].Dead != 0 || f[0].Mended == "" || f[0].Err != nil {
		t.Errorf("afterwards: %v", f)
	}
	served(t, table)
}

// TestBusyDirectory: what others do beside the path wakes nobody.
func TestBusyDirectory(t *testing.T) {
	dir := shortDir(t)
	table := NewTable(nil)
	defer table.Close()
	audits := make(chan string, 1000)
	table.watch.audit = func(name string) { audits <- name; table.Audit(name) }
	found := watching(t, table)
	must(t, table.Bind(spec("http", file(dir+"/x"))))
	must(t, table.Bind(spec("other", file(dir+"/y"))))
	must(t, table.Listen("http"))
	for range 100 {
		must(t, os.WriteFile(dir+"/z", nil, 0o600))
		must(t, os.Rename(dir+"/z", dir+"/zz"))
		must(t, os.Remove(dir+"/zz"))
	}
	for range 10 {
		served(t, table)
	}
	must(t, os.Remove(dir+"/x")) // its events come after all others
	<-found
	table.watch.close()
	for close(audits); len(audits) > 0; {
		if name := <-audits; name != "http" || len(audits) > 1 {
			t.Errorf("%s was looked at, and %d more", name, len(audits))
		}
	}
}

// TestNeighboursAreMarkedApart: of two paths in one directory one is dropped, and the
// directory is still watched for the other. Nothing is left of either.
func TestNeighboursAreMarkedApart(t *testing.T) {
	dir := shortDir(t)
	table := NewTable(nil)
	defer table.Close()
	found := watching(t, table)
	must(t, table.Bind(spec("http", file(dir+"/run/x"))))
	must(t, table.Bind(spec("other", file(dir+"/run/y"))))
	must(t, table.Listen("http"))
	must(t, table.Drop("other"))
	must(t, os.Rename(dir+"/run", dir+"/away"))
	<-found
	must(t, table.Drop("http"))
	table.watch.mu.Lock()
	defer table.watch.mu.Unlock()
	if m := table.watch.marks; len(m.of)+len(m.by) > 0 {
		t.Errorf("left: %v, %v", m.of, m.by)
	}
}

// TestMarksBeginLate: what was bound before Watch is watched too.
func TestMarksBeginLate(t *testing.T) {
	at := shortDir(t) + "/x"
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", file(at))))
	must(t, table.Listen("http"))
	must2(t, table, 1)
	found := watching(t, table)
	must(t, lose(at))
	if f := <-found; f.Dead == 0 {
		t.Errorf("%+v", f)
	}
}

// TestFormerAddressDies too, and the processes of the earlier build are told of.
func TestFormerAddressDies(t *testing.T) {
	dir := shortDir(t)
	table, found, old := begunAt(t, file(dir+"/a"))
	former := spec("http", file(dir+"/a"))
	must(t, table.Bind(spec("http", file(dir+"/b"))))
	must(t, table.Listen("http"))
	must(t, lose(dir+"/a"))
	if f := <-found; f.Dead != old.Cookie {
		t.Errorf("told: %+v", f)
	}
	refused(t, dir+"/a")
	files, err := table.Files(former, 3) // one of the earlier build starts
	must(t, err)
	c, err := dial(dir + "/a")
	must(t, err)
	defer c.Close()
	fd, err := accept(files[0].FD)
	must(t, err)
	unix.Close(fd)
}

// TestNewsAreBounded while nobody hears them, but for dead sockets.
func TestNewsAreBounded(t *testing.T) {
	w := newWatch(func(string) {})
	w.say("http", []Finding{{What: "nobody has asked"}})
	w.say("http", []Finding{{Dead: 1}})
	heard, hold := make(chan Finding, 3*maxNews), make(chan bool)
	must(t, w.start(func(_ string, f Finding) { <-hold; heard <- f }))
	for range 2 * maxNews {
		w.say("http", []Finding{{What: "x"}})
	}
	w.say("http", []Finding{{Dead: 2}})
	close(hold)
	var dead []uint64
	n := 0
	for f := range heard {
		if n++; f.Dead != 0 {
			dead = append(dead, f.Dead)
		}
		if f.Dead == 2 {
			break
		}
	}
	if n > maxNews+3 || !slices.Equal(dead, []uint64{1, 2}) {
		t.Errorf("heard %d, the dead %v", n, dead)
	}
	w.close()
}

// TestPathThatCannotBeWatched, as there are too few of inotify's watches, is said.
func TestPathThatCannotBeWatched(t *testing.T) {
	table := NewTable(nil)
	defer table.Close()
	watching(t, table)
	table.watch.marks.file.Close()
	at := shortDir(t) + "/x"
	must(t, table.Bind(spec("http", file(at), tcp("127.0.0.1", 0))))
	must(t, table.Listen("http"))
	st := table.Status("http")
	if !strings.Contains(st[0].Note, "nobody notices at once") || st[1].Note != "" {
		t.Errorf("%+v", st)
	}
	must(t, lose(at))
	must(t, table.Listen("http"))
	served(t, table)
}

// TestStartThatFails to replace those with a dead socket: clients are refused again, and
// nothing is told anew. The next start opens it, by what it gets.
func TestStartThatFails(t *testing.T) {
	at := shortDir(t) + "/x"
	table, found, old := begunAt(t, file(at))
	must(t, lose(at))
	<-found
	for id := range unit.Invocation(3) {
		must(t, table.Listen("http"))
		must2(t, table, 10+id)
		served(t, table)
		table.Free("http", 10+id)
		refused(t, at)
		if st := table.Status("http")[0]; !strings.Contains(st.Note, "refuses until") {
			t.Errorf("status: %+v", st)
		}
	}
	must2(t, table, 20)
	table.Free("http", 1)
	table.Free("http", 2)
	served(t, table)
	table.Free("http", 20) // it crashes: who comes waits for the next one
	served(t, table)
	table.watch.close()
	for len(found) > 0 {
		if f := <-found; f.Dead != 0 {
			t.Errorf("%d is told again: %+v", old.Cookie, f)
		}
	}
}

// TestOpenedForNobody: a Listen that no start follows opens a socket for a moment only.
func TestOpenedForNobody(t *testing.T) {
	at := shortDir(t) + "/x"
	table := NewTable(nil)
	defer table.Close()
	audits := make(chan bool, 100)
	table.watch.audit = func(name string) { table.Audit(name); audits <- true }
	must(t, table.Bind(spec("http", file(at))))
	must(t, table.Listen("http"))
	must2(t, table, 1)
	must(t, lose(at))
	table.Audit("http")
	must(t, table.Listen("http"))
	<-audits
	refused(t, at)
}

// TestLeavingServer that shuts its listener down, as it was told to end: nobody has to
// take its place, and clients wait for whoever comes next.
func TestLeavingServer(t *testing.T) {
	for _, first := range []bool{true, false} {
		at := shortDir(t) + "/x"
		table, found, old := begunAt(t, file(at))
		leave := func() {
			table.Leaving("http", 1)
			table.Leaving("http", 2)
			table.Leaving("http", 3) // it has nothing
			table.Leaving("none", 1)
		}
		if first {
			leave()
		}
		must(t, unix.Shutdown(old.FD, unix.SHUT_RDWR))
		if f := <-found; (f.Dead == 0) != first || f.Void == first || f.Err != nil {
			t.Errorf("first %t: %+v", first, f)
		}
		if !first {
			leave()
		}
		table.Audit("http")
		served(t, table)
		must(t, table.Close())
	}
}
