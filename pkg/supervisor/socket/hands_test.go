package socket

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// TestServerKeepsItsFlag: a process that set O_NONBLOCK for itself keeps it for as long
// as any process has the socket, whoever asks and whoever else ends. It is said once,
// and shown. Then it is set back.
func TestServerKeepsItsFlag(t *testing.T) {
	for kind, a := range everyKind(t) {
		table, found, f := begunAt(t, a)
		must(t, unix.SetNonblock(f.FD, false))
		for range 2 {
			table.Audit("http")
			table.Look("http")
			if st := table.Status("http")[0]; !strings.Contains(st.Note, "cleared O_NONBLOCK") || st.Err != nil {
				t.Errorf("%s: status %+v", kind, st)
			}
			must(t, table.Listen("http"))
			table.Free("http", 2)
			if on, _ := nonblocking(f.FD); on {
				t.Fatalf("%s: it was set under a process that has it", kind)
			}
		}
		if f := <-found; f.What != "cleared O_NONBLOCK" || f.Mended != "" || len(found) > 0 {
			t.Errorf("%s: told %+v and %d more", kind, f, len(found))
		}
		table.Free("http", 1)
		if on, _ := nonblocking(f.FD); !on {
			t.Errorf("%s: it was not set back", kind)
		}
		if st := table.Status("http")[0]; st.Note != "" {
			t.Errorf("%s: status %+v", kind, st)
		}
	}
}

// TestShardKeepsItsFlag as well.
func TestShardKeepsItsFlag(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2)
	fd := shardOf(t, table, 1)
	must(t, unix.SetNonblock(fd, false))
	table.Audit("http")
	table.Free("http", 2)
	if on, _ := nonblocking(fd); on {
		t.Error("it was set under a process that has it")
	}
}

// TestServerThatListens on what it is given, as nginx, gunicorn and Node.js do, is
// normal: the queue is as long as it should be again, and nobody is told.
func TestServerThatListens(t *testing.T) {
	for kind, a := range everyKind(t) {
		s := spec("http", a)
		table := NewTable(nil)
		must(t, table.Bind(s))
		must(t, table.Listen("http"))
		fd := shardOf(t, table, 1)
		must(t, unix.Listen(fd, 1))
		if st := table.Status("http")[0]; st.Note != "" || st.Last != nil {
			t.Errorf("%s: status %+v", kind, st)
		}
		if found := append(table.Look("http"), table.Audit("http")...); len(found) > 0 {
			t.Errorf("%s: %v", kind, found)
		}
		if limit, low := lowered(fd, a, s.Backlog); low {
			t.Errorf("%s: the backlog is %d", kind, limit)
		}
		must(t, table.Close())
	}
}

// TestNonBlockingChanges when no process has the socket; until then status says what
// it waits for.
func TestNonBlockingChanges(t *testing.T) {
	for kind, a := range everyKind(t) {
		table, _, f := begunAt(t, a)
		s := spec("http", a)
		s.NonBlocking = false
		must(t, table.Bind(s))
		table.Free("http", 2)
		if st := table.Status("http")[0]; !strings.Contains(st.Note, "non_blocking = false waits until no process has the socket") {
			t.Errorf("%s: status %+v", kind, st)
		}
		if on, _ := nonblocking(f.FD); !on {
			t.Errorf("%s: it was cleared under a process that has it", kind)
		}
		table.Free("http", 1)
		if on, _ := nonblocking(f.FD); on {
			t.Errorf("%s: it was not cleared", kind)
		}
		if st := table.Status("http")[0]; st.Note != "" || !st.Listening {
			t.Errorf("%s: status %+v", kind, st)
		}
		must(t, table.Bind(spec("http", a))) // and nobody has it
		if on, _ := nonblocking(f.FD); !on {
			t.Errorf("%s: it was not set", kind)
		}
	}
}

// TestOptionsOfANewSocket, which an open one cannot be given, wait for the moment at
// which it refuses and no process has it. It keeps its port.
func TestOptionsOfANewSocket(t *testing.T) {
	only := true
	for key, change := range map[string]func(*unit.Socket){
		"free_bind = true":                func(s *unit.Socket) { s.FreeBind = true },
		`bind_ipv6_only = "ipv6-only"`:    func(s *unit.Socket) { s.IPv6Only = &only },
		"receive_buffer = (the kernel's)": func(s *unit.Socket) { s.ReceiveBuf = 0 },
		"send_buffer = (the kernel's)":    func(s *unit.Socket) { s.SendBuf = 0 },
	} {
		for _, order := range []string{"refuse first", "free first", "bind last"} {
			before := spec("http", tcp("", 0))
			before.ReceiveBuf, before.SendBuf = 1<<15, 1<<15
			after := *before
			change(&after)
			table := NewTable(nil)
			must(t, table.Bind(before))
			must(t, table.Listen("http"))
			old := must2(t, table, 1)
			address := table.Status("http")[0].Address
			steps := []func(){
				func() { must(t, table.Bind(&after)) },
				func() { must(t, table.Refuse("http")) },
				func() { table.Free("http", 1) },
			}
			switch order {
			case "free first":
				steps[1], steps[2] = steps[2], steps[1]
			case "bind last":
				steps[0], steps[2] = steps[2], steps[0]
			}
			for i, step := range steps {
				step()
				waits := strings.Contains(table.Status("http")[0].Note, key+" waits until")
				if want := i < 2 && order != "bind last"; waits != want {
					t.Errorf("%s, %s, step %d: %+v", key, order, i, table.Status("http")[0])
				}
			}
			must(t, table.Listen("http"))
			served(t, table)
			if next := must2(t, table, 2); next.Cookie == old.Cookie || table.Status("http")[0].Address != address {
				t.Errorf("%s, %s: %+v after %+v, at %s after %s", key, order, next, old, table.Status("http")[0].Address, address)
			}
			must(t, table.Close())
		}
	}
}

// TestDirectoryIsMade as systemd makes it, whatever the umask, and those above it.
func TestDirectoryIsMade(t *testing.T) {
	dir := shortDir(t)
	table := NewTable(nil)
	defer table.Close()
	old := unix.Umask(0o077)
	err := table.Bind(spec("http", file(dir+"/a/b/x")))
	unix.Umask(old)
	must(t, err)
	for _, d := range []string{"/a", "/a/b"} {
		st, err := os.Stat(dir + d)
		must(t, err)
		if st.Mode() != os.ModeDir|0o755 {
			t.Errorf("%s has mode %v", d, st.Mode())
		}
	}
	must(t, table.Listen("http"))
	served(t, table)
}

// TestDirectoryIsNotMadeForOthers: in a directory of a service's user he could have
// put a link there by the time that its mode is set. The hint says what to do.
func TestDirectoryIsNotMadeForOthers(t *testing.T) {
	needRoot(t, "it looks at another user's directory")
	dir := shortDir(t)
	must(t, os.Mkdir(dir+"/theirs", 0o755))
	must(t, os.Chown(dir+"/theirs", stranger, stranger))
	err := NewTable(nil).Bind(spec("http", file(dir+"/theirs/run/x")))
	if e := (*BindError)(nil); !errors.As(err, &e) || !strings.Contains(e.Hint(), "only where nobody else can replace it") {
		t.Errorf("%v", err)
	}
	if names, _ := os.ReadDir(dir + "/theirs"); len(names) > 0 {
		t.Errorf("it made %v", names)
	}
}

// TestDirectoryThatWeMayNotMake: an ordinary user hears whose it must be.
func TestDirectoryThatWeMayNotMake(t *testing.T) {
	if !asStranger(t) {
		return
	}
	err := NewTable(nil).Bind(spec("http", file("/usr/none/x")))
	if e := (*BindError)(nil); !errors.As(err, &e) || !errors.Is(err, os.ErrPermission) || !strings.Contains(e.Hint(), fmt.Sprint("uid ", os.Geteuid())) {
		t.Errorf("%v", err)
	}
}

// TestLeftoverListensAgain on a port that refuses: status tells the truth, and the
// first client that comes to it has it refused again.
func TestLeftoverListensAgain(t *testing.T) {
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	must(t, table.Listen("http"))
	f := must2(t, table, 1)
	must(t, table.Refuse("http"))
	must(t, unix.Listen(f.FD, 5))
	st := table.Status("http")[0]
	if !st.Listening || !st.Queues || st.Limit != 5 || !strings.Contains(st.Note, "listened on it while the service is down") {
		t.Errorf("status %+v", st)
	}
	found := watching(t, table)
	if c, err := dial(st.Address); err == nil {
		c.Close()
	} else if !errors.Is(err, unix.ECONNRESET) { // it was noticed before the client was
		t.Error(err)
	}
	if f := <-found; !strings.Contains(f.What, "while the service is down") || f.Err != nil {
		t.Errorf("told %+v", f)
	}
	refused(t, st.Address)
	if st := table.Status("http")[0]; st.Listening || st.Queues || st.Note != "" {
		t.Errorf("status %+v", st)
	}
	must(t, unix.Listen(f.FD, 5))
	must(t, table.Refuse("http")) // refuses what listens, too
	refused(t, st.Address)
	must(t, table.Listen("http"))
	served(t, table)
}

// TestQueuesWhileDown: systemd's sockets and those with when_down = "queue" say that
// clients wait, until a start.
func TestQueuesWhileDown(t *testing.T) {
	if !inChild(t, give(t, "tcp 127.0.0.1:0"), "LISTEN_PID=own", "LISTEN_FDS=1", "LISTEN_FDNAMES=http") {
		return
	}
	given := inherited(t)
	table := NewTable(given)
	defer table.Close()
	queue := spec("http", given[0].Address, tcp("127.0.0.1", 0))
	queue.WhenDown = unit.Queue
	must(t, table.Bind(queue))
	for _, up := range []bool{false, true, false} {
		if up {
			must(t, table.Listen("http"))
		} else {
			must(t, table.Refuse("http"))
		}
		changed := *queue
		changed.NonBlocking = up
		must(t, table.Bind(&changed)) // no process has it
		if on, _ := nonblocking(must2(t, table, 0).FD); on != up {
			t.Errorf("O_NONBLOCK is %t, not %t", on, up)
		}
		st := table.Status("http")
		if st[0].Queues == up || st[1].Queues == up || strings.Contains(st[0].Note, "systemd owns it") == up {
			t.Errorf("up %t: %+v", up, st)
		}
	}
}

// TestFilesOfEachBuild: builds that name one unit with other addresses get their own,
// in their order, until nobody needs them.
func TestFilesOfEachBuild(t *testing.T) {
	dir := shortDir(t)
	a, b, c := file(dir+"/a"), file(dir+"/b"), file(dir+"/c")
	old, now := spec("http", a, b), spec("http", c, b)
	now.FDName = "web"
	table := NewTable(nil)
	defer table.Close()
	names := func(s *unit.Socket) (all []string) {
		files, err := table.Files(s, 0)
		if err != nil {
			return []string{err.Error()}
		}
		for _, f := range files {
			sa, err := unix.Getsockname(f.FD)
			must(t, err)
			all = append(all, filepath.Base(address(sa).Path)+" "+f.Name)
		}
		return all
	}
	must(t, table.Bind(old))
	must(t, table.Listen("http"))
	must(t, table.Bind(now))
	must(t, table.Listen("http"))
	must(t, table.Trim("http", old))
	if got := names(old); !slices.Equal(got, []string{"a http", "b http"}) {
		t.Errorf("the old build gets %q", got)
	}
	if got := names(now); !slices.Equal(got, []string{"c web", "b web"}) {
		t.Errorf("the new build gets %q", got)
	}
	must(t, table.Refuse("http"))
	for _, at := range []unit.Address{a, b, c} {
		refused(t, at.Path)
	}
	must(t, table.Listen("http"))
	refused(t, a.Path) // no process of the old build is there
	names(old)
	if con, err := dial(a.Path); err != nil {
		t.Errorf("the old build started, and its address does not listen: %v", err)
	} else {
		con.Close()
	}
	must(t, table.Trim("http"))
	if got := names(old); len(got) != 1 || !strings.Contains(got[0], "cannot bind "+a.Path) {
		t.Errorf("after Trim the old build gets %q", got)
	}
}

// TestFilesThatFail give nothing away: the process does not count.
func TestFilesThatFail(t *testing.T) {
	dir := shortDir(t)
	table := NewTable(nil)
	defer table.Close()
	s := spec("http", file(dir+"/a"))
	must(t, table.Bind(s))
	if _, err := table.Files(spec("http", file(dir+"/a"), file(dir+"/b")), 1); err == nil {
		t.Error("an address that is not bound was given")
	}
	changed := *s
	changed.NonBlocking = false
	must(t, table.Bind(&changed))
	if st := table.Status("http")[0]; st.Note != "" {
		t.Errorf("%+v", st)
	}
}

// TestNothingIsLeftOfAUnit that is dropped and has no process, nor of one that was
// merely asked about.
func TestNothingIsLeftOfAUnit(t *testing.T) {
	table := NewTable(nil)
	defer table.Close()
	watching(t, table)
	for i := range 200 {
		name := fmt.Sprint("s", i)
		table.Status(name)
		table.Look(name)
		table.Processes(name)
		table.Waiting(name, 1)
		s := spec(name, tcp("127.0.0.1", 0))
		must(t, table.Bind(s))
		must(t, table.Listen(name))
		_, err := table.Files(s, 1)
		must(t, err)
		must(t, table.Drop(name))
		if i%2 == 0 {
			table.Free(name, 1)
		} else if table.find(name) == nil {
			t.Fatal("a unit is forgotten that a process has")
		}
		table.Free(name, 1)
	}
	if len(table.units) > 0 || len(table.custody.keys) > 0 || len(table.watch.fds) > 0 {
		t.Errorf("left: %v, %v, %v", table.units, table.custody.keys, table.watch.fds)
	}
}

// TestHoldersOutliveSupervisord: the next one knows who has which socket. One that
// could not be taken over is dead for those that have it, and so is one that was dead
// before; both are told, and what is bound instead does not listen before a start.
func TestHoldersOutliveSupervisord(t *testing.T) {
	dir := shortDir(t)
	kept := newShelf(t)
	s := spec("http", file(dir+"/x"))
	first := NewTable(nil)
	first.Remember(kept, kept.save)
	must(t, first.Bind(s))
	must(t, first.Listen("http"))
	old := must2(t, first, 7)
	record := reread(t, kept.records["http"])
	if want := []HolderRecord{{Holder: 7, Sockets: []Held{{Cookie: old.Cookie, Address: dir + "/x"}}}}; fmt.Sprint(record.Holders) != fmt.Sprint(want) {
		t.Fatalf("recorded: %+v", record.Holders)
	}
	must(t, first.Close())

	next := NewTable(nil)
	defer next.Close()
	next.Remember(kept, kept.save)
	if next.Restore("http", record, func(string) (int, bool) { return -1, false }) == nil {
		t.Error("nothing came, and that is no error")
	}
	found := watching(t, next) // late
	if f := <-found; f.Dead != old.Cookie || !f.Void {
		t.Errorf("told %+v", f)
	}
	must(t, next.Bind(s))
	must(t, next.Listen("http")) // it is in use
	refused(t, dir+"/x")
	record = reread(t, kept.records["http"])

	third := NewTable(nil)
	defer third.Close()
	third.Restore("http", record, func(string) (int, bool) { return -1, false })
	found = watching(t, third)
	if f := <-found; f.Dead != old.Cookie {
		t.Errorf("told %+v", f)
	}
	must(t, next.Listen("http")) // a process starts
	must2(t, next, 8)
	served(t, next)
}

// reread is a record as the next supervisord reads it.
func reread(t *testing.T, r *Record) (again Record) {
	t.Helper()
	b, err := json.Marshal(r)
	must(t, err)
	must(t, json.Unmarshal(b, &again))
	return again
}
