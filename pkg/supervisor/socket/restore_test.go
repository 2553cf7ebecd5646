package socket

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A message is what a supervisord says to its keeper and its store, in one order.
// The descriptor goes with it.
type message struct {
	Key    string `json:",omitempty"`
	Drop   bool   `json:",omitempty"`
	Name   string `json:",omitempty"`
	Record *Record
}

// A wire is the Keeper and store of a supervisord that will be killed: fd 3.
type wire struct{}

func (wire) Keep(key string, fd int) { send(message{Key: key}, unix.UnixRights(fd)) }
func (wire) Drop(key string)         { send(message{Key: key, Drop: true}, nil) }
func (wire) save(name string, r *Record) error {
	send(message{Name: name, Record: r}, nil)
	return nil
}

// send waits until the other side has done it.
func send(m message, rights []byte) {
	b, err := json.Marshal(m)
	if err == nil {
		err = unix.Sendmsg(3, b, rights, nil, 0)
	}
	if err == nil {
		_, err = unix.Read(3, b[:1])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// supervise is a supervisord that does what it is told, a word at a time, each with
// its argument as JSON, until it is killed.
func supervise([]string) {
	table := NewTable(nil)
	table.Remember(wire{}, wire{}.save)
	deeds := map[string]func(arg []byte) error{
		"bind": func(arg []byte) error {
			var s unit.Socket
			return errors.Join(json.Unmarshal(arg, &s), table.Bind(&s))
		},
		"listen": func([]byte) error { return table.Listen("http") },
		"refuse": func([]byte) error { return table.Refuse("http") },
		"open": func(arg []byte) error {
			var id unit.Invocation
			return errors.Join(json.Unmarshal(arg, &id), table.Open("http", id), giveOut(table, id))
		},
		"steer": func(arg []byte) error {
			var to shares
			return errors.Join(json.Unmarshal(arg, &to), table.Steer("http", to, false))
		},
		"leaving": func(arg []byte) error {
			var id unit.Invocation
			err := json.Unmarshal(arg, &id)
			table.Leaving("http", id)
			return err
		},
		"free": func(arg []byte) error {
			var id unit.Invocation
			err := json.Unmarshal(arg, &id)
			table.Free("http", id)
			return err
		},
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		word, arg, _ := strings.Cut(in.Text(), " ")
		fmt.Println(deeds[word]([]byte(arg)))
	}
}

// giveOut gives a process its sockets.
func giveOut(table *Table, id unit.Invocation) error {
	_, err := filesOf(table, "http", id)
	return err
}

// A former is a supervisord in a process of its own, and what it has had kept.
type former struct {
	t       *testing.T
	cmd     *exec.Cmd
	in      io.Writer
	out     *bufio.Reader
	end     int
	keeping sync.WaitGroup
	mu      sync.Mutex // not needed after kill
	kept    map[string]int
	records map[string]*Record
	last    int // the message after which it is killed; 0: none
	said    int // so many messages
}

func begun(t *testing.T, s *unit.Socket) *former {
	t.Helper()
	f := begunUntil(t, 0)
	f.do("bind", s)
	return f
}

// begunUntil is killed after so many messages; 0: when the test says so.
func begunUntil(t *testing.T, last int) *former {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	theirs := os.NewFile(uintptr(pair[1]), "pair")
	f := &former{t: t, cmd: role("supervise"), end: pair[0], kept: map[string]int{}, records: map[string]*Record{}, last: last}
	f.cmd.ExtraFiles = []*os.File{theirs}
	f.in, err = f.cmd.StdinPipe()
	must(t, err)
	out, err := f.cmd.StdoutPipe()
	must(t, err)
	f.out = bufio.NewReader(out)
	must(t, f.cmd.Start())
	theirs.Close()
	f.keeping.Go(func() {
		for f.receive() {
		}
	})
	t.Cleanup(f.close)
	return f
}

func (f *former) close() {
	f.kill()
	unix.Close(f.end)
	for _, fd := range f.kept {
		unix.Close(fd)
	}
}

// do has it do something.
func (f *former) do(word string, arg any) {
	f.t.Helper()
	if said, lives := f.try(word, arg); !lives || said != "<nil>\n" {
		f.t.Fatalf("%s %v: %q", word, arg, said)
	}
}

// try is do of one that may be killed meanwhile.
func (f *former) try(word string, arg any) (said string, lives bool) {
	f.t.Helper()
	b, err := json.Marshal(arg)
	must(f.t, err)
	if _, err = fmt.Fprintln(f.in, word, string(b)); err != nil {
		return "", false
	}
	said, err = f.out.ReadString('\n')
	return said, err == nil
}

// receive keeps one thing. It ends when the supervisord has ended.
func (f *former) receive() bool {
	b, oob := make([]byte, 1<<17), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(f.end, b, oob, unix.MSG_CMSG_CLOEXEC)
	if err == unix.EINTR {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	var m message
	if err := json.Unmarshal(b[:n], &m); err != nil {
		f.t.Error(err)
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case m.Name != "":
		f.records[m.Name] = m.Record
	case m.Drop:
		unix.Close(f.kept[m.Key])
		delete(f.kept, m.Key)
	default:
		all, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(all) != 1 {
			f.t.Errorf("%s came with %v, %v", m.Key, all, err)
			return false
		}
		fds, err := unix.ParseUnixRights(&all[0])
		if err != nil {
			f.t.Error(err)
			return false
		}
		f.kept[m.Key] = fds[0]
	}
	if f.said++; f.said == f.last {
		f.cmd.Process.Kill()
		return false
	}
	return unix.Send(f.end, []byte("."), unix.MSG_NOSIGNAL) == nil
}

// where is its first address.
func (f *former) where() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.records["http"].Sockets[0].Bound.String()
}

func (f *former) kill() {
	f.cmd.Process.Kill()
	f.cmd.Wait()
	f.keeping.Wait()
}

func (f *former) take(key string) (int, bool) {
	fd, ok := f.kept[key]
	delete(f.kept, key)
	return fd, ok
}

// next is a Table after Restore; the error is what that said.
func (f *former) next() (*Table, *shelf, error) {
	f.t.Helper()
	table, kept := NewTable(nil), f.shelf()
	f.t.Cleanup(func() { table.Close() })
	table.Remember(kept, kept.save)
	err := table.Restore("http", *f.records["http"], f.take)
	kept.check(table)
	return table, kept, err
}

// shelf has what was kept and recorded.
func (f *former) shelf() *shelf {
	f.t.Helper()
	s := newShelf(f.t)
	for key, fd := range f.kept {
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		must(f.t, err)
		s.kept[key], s.before[key] = fd, true
	}
	must(f.t, s.save("http", f.records["http"]))
	return s
}

// A shelf is a Keeper and a store in this process.
type shelf struct {
	t       *testing.T
	kept    map[string]int  // duplicates
	before  map[string]bool // kept for a former supervisord, and not yet for this one
	records map[string]*Record
	late    bool // what it gets may listen
	fails   error
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{t: t, kept: map[string]int{}, before: map[string]bool{}, records: map[string]*Record{}}
	t.Cleanup(func() {
		for _, fd := range s.kept {
			unix.Close(fd)
		}
	})
	return s
}

func (s *shelf) Keep(key string, fd int) {
	former, twice := s.kept[key]
	if twice && !s.before[key] {
		s.t.Errorf("%s is kept twice", key)
	}
	if delete(s.before, key); twice {
		unix.Close(former)
	}
	if strings.HasPrefix(key, "socket/") {
		s.suits(key, fd, twice)
	}
	var err error
	if s.kept[key], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err != nil {
		s.t.Error(err)
	}
}

// suits: a socket is kept under its own name, when it is bound and does not listen.
func (s *shelf) suits(key string, fd int, twice bool) {
	cookie, err := cookieOf(fd)
	if err != nil || keyOf(cookie) != key {
		s.t.Errorf("%s is kept for fd %d: %d, %v", key, fd, cookie, err)
	}
	if at := boundTo(fd); at == (unit.Address{Network: "unix"}) || at.Network == "tcp" && at.Port == 0 {
		s.t.Errorf("%s is kept before it is bound", key)
	}
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); !twice && !s.late && (err != nil || listens != 0) {
		s.t.Errorf("%s is kept when it listens: %v", key, err)
	}
}

// Drop must come while the table has the socket open.
func (s *shelf) Drop(key string) {
	fd, ok := s.kept[key]
	if !ok {
		s.t.Errorf("%s is dropped and not kept", key)
		return
	}
	if names := holdersOf(fd); names < 2 {
		s.t.Errorf("%s is closed before it is dropped", key)
	}
	delete(s.kept, key)
	unix.Close(fd)
}

// holdersOf counts the descriptors of this process for one socket.
func holdersOf(fd int) (n int) {
	want, _ := os.Readlink(procFD(fd))
	for _, name := range entries("/proc/self/fd") {
		if to, err := os.Readlink("/proc/self/fd/" + name); err == nil && to == want {
			n++
		}
	}
	return n
}

func (s *shelf) save(name string, r *Record) error {
	if s.fails != nil {
		return s.fails
	}
	if r == nil {
		delete(s.records, name)
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var is Record
	s.records[name] = &is
	return json.Unmarshal(b, &is)
}

// check compares what is kept and recorded with what the table has open.
func (s *shelf) check(table *Table) {
	s.t.Helper()
	var open, kept, recorded []string
	for _, g := range table.units {
		for _, e := range g.all {
			for _, fd := range fdsOf(e) {
				cookie, err := cookieOf(fd)
				must(s.t, err)
				open = append(open, keyOf(cookie))
			}
		}
	}
	for key := range s.kept {
		kept = append(kept, key)
	}
	for name, r := range s.records {
		must(s.t, r.check(name))
		for _, at := range r.Sockets {
			recorded = append(recorded, keyOf(at.Cookie))
		}
	}
	slices.Sort(open)
	slices.Sort(kept)
	slices.Sort(recorded)
	if !slices.Equal(open, kept) || !slices.Equal(open, recorded) {
		s.t.Errorf("open are %v,\nkept are %v,\nrecorded are %v", open, kept, recorded)
	}
}

func fdsOf(e endpoint) (fds []int) {
	if l, ok := e.(*listener); ok && l.fd >= 0 {
		fds = append(fds, l.fd)
	}
	return fds
}

// everyUnit is one of each kind that can be taken over.
func everyUnit(t *testing.T) map[string]*unit.Socket {
	all := map[string]*unit.Socket{}
	for kind, a := range everyKind(t) {
		all[kind] = spec("http", a)
	}
	return all
}

// TestKilledSupervisordIsSucceeded: who waited is served by the next, the sockets
// are the same, and a Bind changes nothing.
func TestKilledSupervisordIsSucceeded(t *testing.T) { succeeded(t) }

// TestOrdinaryUserIsSucceeded: nothing of that needs root.
func TestOrdinaryUserIsSucceeded(t *testing.T) {
	if asStranger(t) {
		succeeded(t)
	}
}

func succeeded(t *testing.T) {
	for kind, s := range everyUnit(t) {
		t.Run(kind, func(t *testing.T) {
			f := begun(t, s)
			f.do("listen", nil)
			f.kill()
			address := f.records["http"].Sockets[0].Bound.String()
			if s.Listen[0].Network == "unix" {
				address = s.Listen[0].Path
			}
			c, err := dial(address)
			must(t, err)
			defer c.Close()
			table, kept, err := f.next()
			must(t, err)
			before := table.Status("http")[0]
			if before.Address != address || !before.Listening || before.Err != nil || before.Last != nil {
				t.Errorf("%+v", before)
			}
			must(t, table.Bind(s))
			must(t, table.Listen("http"))
			files, err := filesOf(table, "http", 1)
			must(t, err)
			fd, err := accept(files[0].FD)
			must(t, err)
			defer unix.Close(fd)
			_, err = unix.Write(fd, []byte("x"))
			must(t, err)
			_, err = c.Read(make([]byte, 1))
			must(t, err)
			kept.check(table)
			must(t, table.Refuse("http"))
			refused(t, address)
			kept.check(table)
			must(t, table.Listen("http"))
			connect(t, address, 1)
			must(t, table.Drop("http"))
			kept.check(table)
		})
	}
}

// TestRefusedStaysRefused: a supervisord is killed while its service is down.
func TestRefusedStaysRefused(t *testing.T) {
	for kind, s := range everyUnit(t) {
		t.Run(kind, func(t *testing.T) {
			f := begun(t, s)
			f.do("listen", nil)
			f.do("refuse", nil)
			f.kill()
			table, _, err := f.next()
			must(t, err)
			address := table.Status("http")[0].Address
			refused(t, address)
			must(t, table.Bind(s))
			must(t, table.Listen("http"))
			connect(t, address, 1)
		})
	}
}

// TestPathIsNotBoundAgain: it is the same inode, and its lock is taken.
func TestPathIsNotBoundAgain(t *testing.T) {
	at := shortDir(t) + "/x.sock"
	f := begun(t, spec("http", file(at)))
	f.do("listen", nil)
	f.kill()
	before, err := os.Lstat(at)
	must(t, err)
	table, _, err := f.next()
	must(t, err)
	must(t, table.Bind(spec("http", file(at))))
	must(t, table.Listen("http"))
	if after, err := os.Lstat(at); err != nil || !os.SameFile(before, after) {
		t.Errorf("it is another file: %v", err)
	}
	if _, err := reoccupy(at, *f.records["http"].Sockets[0].Node); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the lock is free: %v", err)
	}
	must(t, table.Drop("http"))
	if names, _ := os.ReadDir(at[:strings.LastIndex(at, "/")]); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestPathThatIsAnothersIsLeft: what was put in its place is not removed.
func TestPathThatIsAnothersIsLeft(t *testing.T) {
	at := shortDir(t) + "/x.sock"
	f := begun(t, spec("http", file(at)))
	f.do("listen", nil)
	f.kill()
	must(t, os.Remove(at))
	must(t, os.WriteFile(at, []byte("theirs"), 0o600))
	table, _, err := f.next()
	if err == nil || !strings.Contains(err.Error(), "something else was put there") {
		t.Errorf("it says %v", err)
	}
	if text, err := os.ReadFile(at); err != nil || string(text) != "theirs" {
		t.Errorf("theirs has %q: %v", text, err)
	}
	if err := table.Bind(spec("http", file(at))); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("then Bind says %v", err)
	}
}

// listeningFormer is a unit of a supervisord.
func listeningFormer(t *testing.T) (f *former, address string) {
	t.Helper()
	f = begun(t, spec("http", tcp("127.0.0.1", 0)))
	f.do("listen", nil)
	address = f.where()
	f.kill()
	return f, address
}

// TestWatchedAgain: what a process does to a socket that was taken over is
// noticed at once.
func TestWatchedAgain(t *testing.T) {
	for kind, s := range everyUnit(t) {
		t.Run(kind, func(t *testing.T) {
			f := begun(t, s)
			f.do("listen", nil)
			f.kill()
			table, kept, err := f.next()
			must(t, err)
			told := make(chan Finding, 10)
			must(t, table.Watch(func(_ string, f Finding) { told <- f }))
			must(t, table.Listen("http")) // it is in use
			must(t, unix.Shutdown(shardOf(t, table, 1), unix.SHUT_RD))
			if f := <-told; f.Err != nil || f.Mended == "" {
				t.Errorf("%+v", f)
			}
			must(t, table.Listen("http")) // what was bound anew waits for the next start
			shardOf(t, table, 1)
			connect(t, table.Status("http")[0].Address, 1)
			must(t, table.Close())
			kept.check(table)
		})
	}
}

// TestFormerAddressIsTrimmed by the next supervisord, not before.
func TestFormerAddressIsTrimmed(t *testing.T) {
	both := spec("http", tcp("127.0.0.1", 0), tcp("127.0.0.2", 0))
	one := *both
	one.Listen = both.Listen[1:]
	f := begun(t, both)
	f.do("listen", nil)
	address := f.where()
	f.do("bind", &one)
	f.kill()
	table, kept, err := f.next()
	must(t, err)
	must(t, table.Bind(&one))
	if st := table.Status("http"); len(st) != 1 || st[0].Address[:9] != "127.0.0.2" {
		t.Errorf("%+v", st)
	}
	connect(t, address, 1)
	must(t, table.Trim("http"))
	refused(t, address)
	kept.check(table)
}

// TestWhatIsNotTheSocket is closed and said; the rest is taken over.
func TestWhatIsNotTheSocket(t *testing.T) {
	other := func(kind, proto int) int {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, proto)
		must(t, err)
		return fd
	}
	for what, put := range map[string]func() int{
		"its descriptor was not kept": nil,
		"is no socket": func() int {
			fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			must(t, err)
			return fd
		},
		"is no stream socket": func() int { return other(unix.SOCK_DGRAM, 0) },
		"is another socket":   func() int { return other(unix.SOCK_STREAM, 0) },
	} {
		s := spec("http", tcp("127.0.0.1", 0), tcp("127.0.0.2", 0))
		f := begun(t, s)
		f.do("listen", nil)
		f.kill()
		key := keyOf(f.records["http"].Sockets[0].Cookie)
		unix.Close(f.kept[key])
		delete(f.kept, key)
		fd := -1
		if put != nil {
			fd = put()
			f.kept[key] = fd
		}
		table := NewTable(nil)
		err := table.Restore("http", *f.records["http"], f.take)
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fd >= 0 && err == nil {
			t.Errorf("%s: it is open", what)
		}
		if st := table.Status("http"); len(st) != 1 || !st[0].Listening {
			t.Errorf("%s: %+v", what, st)
		}
		must(t, table.Bind(s))
		if st := table.Status("http"); len(st) != 2 {
			t.Errorf("%s, after Bind: %+v", what, st)
		}
		must(t, table.Close())
	}
}

// TestGivenAgain: what systemd has given to both is had once, and never bound.
func TestGivenAgain(t *testing.T) {
	files := give(t, "tcp 127.0.0.1:0", "tcp 127.0.0.1:0")
	if !inChild(t, files, "LISTEN_PID=own", "LISTEN_FDS=2", "LISTEN_FDNAMES=http:other") {
		return
	}
	given := inherited(t)
	kept := newShelf(t)
	kept.late = true
	first := NewTable([]Given{given[0]})
	first.Remember(kept, kept.save)
	s := spec("http", given[0].Address)
	if first.Bind(spec("http", given[0].Address, file("/proc/none/x"))) == nil || len(kept.kept) > 0 {
		t.Errorf("a Bind that failed has left %v", kept.kept)
	}
	must(t, first.Bind(s))
	record := kept.records["http"]
	for _, again := range []bool{true, false} {
		var now []Given
		if again {
			fd, err := unix.FcntlInt(uintptr(given[0].FD), unix.F_DUPFD_CLOEXEC, 3)
			must(t, err)
			g := given[0]
			g.FD = fd
			now = []Given{g, given[1]}
		}
		var taken int
		next := NewTable(now)
		must(t, next.Restore("http", *record, func(string) (int, bool) {
			fd, err := unix.FcntlInt(uintptr(given[0].FD), unix.F_DUPFD_CLOEXEC, 3)
			must(t, err)
			taken = fd
			return fd, true
		}))
		must(t, next.Bind(s))
		files, err := filesOf(next, "http", 0)
		must(t, err)
		if again && (files[0].FD != now[0].FD || len(next.Unclaimed()) != 1) || !again && files[0].FD != taken {
			t.Errorf("given again %t: %v, not claimed %v", again, files, next.Unclaimed())
		}
		if _, err := unix.FcntlInt(uintptr(taken), unix.F_GETFD, 0); again == (err == nil) {
			t.Errorf("given again %t: the one that was kept is open: %t", again, err == nil)
		}
		if st := next.Status("http"); len(st) != 1 || !st[0].Given || !st[0].Listening {
			t.Errorf("%+v", st)
		}
	}
}

// TestRecordsThatAreNone are refused, and nothing is taken.
func TestRecordsThatAreNone(t *testing.T) {
	f, _ := listeningFormer(t)
	good, err := json.Marshal(f.records["http"])
	must(t, err)
	for what, spoil := range map[string]func(r *Record){
		"version":      func(r *Record) { r.Version++ },
		"no spec":      func(r *Record) { r.Spec = nil },
		"name":         func(r *Record) { r.Spec.Name = "other" },
		"older":        func(r *Record) { r.Version-- }, // there may be rings in it
		"holder twice": func(r *Record) { r.Holders = append(r.Holders, HolderRecord{Holder: 1}, HolderRecord{Holder: 1}) },
		"cookie twice": func(r *Record) {
			more := r.Sockets[0]
			more.Address = tcp("127.0.0.1", more.Bound.Port)
			r.Sockets = append(r.Sockets, more)
		},
		"address twice": func(r *Record) { r.Sockets = append(r.Sockets, r.Sockets[0]) },
		"path, no node": func(r *Record) { r.Sockets[0] = SocketRecord{Address: file("/x"), Bound: file("/x")} },
		"other network": func(r *Record) { r.Sockets[0].Bound = file("/x") },
		"other port":    func(r *Record) { r.Sockets[0].Address.Port = 1 },
		"other host":    func(r *Record) { r.Sockets[0].Bound.Host = "127.0.0.2" },
		"udp":           func(r *Record) { r.Sockets[0].Address.Network, r.Sockets[0].Bound.Network = "udp", "udp" },
		"too many":      func(r *Record) { many(r) },
	} {
		var r Record
		must(t, json.Unmarshal(good, &r))
		spoil(&r)
		table := NewTable(nil)
		err := table.Restore("http", r, func(key string) (int, bool) {
			t.Errorf("%s: %s is taken", what, key)
			return -1, false
		})
		if err == nil || !strings.HasPrefix(err.Error(), "cannot take over socket http: ") || len(table.Names()) > 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	table, _, err := f.next()
	must(t, err)
	if err := table.Restore("http", *f.records["http"], f.take); err == nil {
		t.Error("it is restored twice")
	}
}

func many(r *Record) {
	r.Sockets = nil
	for i := range maxRecorded + 1 {
		r.Sockets = append(r.Sockets, SocketRecord{Address: file(fmt.Sprint("@", i)), Bound: file(fmt.Sprint("@", i)), Cookie: uint64(i)})
	}
}

// TestOddRecord: what makes sense for check and is not true hurts nobody.
func TestOddRecord(t *testing.T) {
	f, address := listeningFormer(t)
	r := f.records["http"]
	r.Sockets[0].Options = &Baseline{Flags: math.MinInt, Values: map[string]int{"IP_TTL": -7, "SO_NONE": 1}}
	table, _, err := f.next()
	must(t, err)
	connect(t, address, 1)
	if st := table.Status("http")[0]; st.Queue != 1 {
		t.Errorf("%+v", st)
	}
}

// TestKeptFromBindToClose: whatever is done, what is open is what is kept, and what
// is recorded.
func TestKeptFromBindToClose(t *testing.T) {
	for kind, s := range everyUnit(t) {
		t.Run(kind, func(t *testing.T) {
			table, kept := NewTable(nil), newShelf(t)
			table.Remember(kept, kept.save)
			more := *s
			more.Listen = append(slices.Clone(s.Listen), file("@"+t.Name()))
			bad := *s
			bad.Listen = append(slices.Clone(s.Listen), tcp("127.0.0.3", 0), file("/proc/none/x"))
			for what, do := range []func() error{
				func() error { return table.Bind(s) },
				func() error { return table.Listen("http") },
				func() error { return table.Refuse("http") },
				func() error { return table.Listen("http") },
				func() error { return table.Bind(&more) },
				func() error { return table.Listen("http") },
				func() error { table.Audit("http"); return nil },
				func() error {
					if table.Bind(&bad) == nil {
						return errors.New("a bad address was bound")
					}
					return nil
				},
				func() error { return removed(s.Listen[0]) },
				func() error { table.Audit("http"); return nil },
				func() error { table.Free("http", 1); return nil },
				func() error { return renewed(table) },
				func() error { return table.Bind(s) },
				func() error { return table.Trim("http") },
				func() error { return table.Refuse("http") },
				func() error { return table.Drop("http") },
			} {
				if err := do(); err != nil {
					t.Fatalf("step %d: %v", what, err)
				}
				kept.check(table)
			}
			must(t, table.Bind(s))
			must(t, table.Close())
			kept.check(table)
			if len(kept.records) > 0 {
				t.Errorf("records of nothing: %v", kept.records)
			}
		})
	}
}

// removed takes a path away from its socket.
func removed(a unit.Address) error {
	if strings.HasPrefix(a.Path, "/") {
		return lose(a.Path)
	}
	return nil
}

// renewed has a socket replaced that cannot be mended.
func renewed(table *Table) error {
	g, end := table.begin("http")
	defer end()
	for _, e := range g.all {
		if l, ok := e.(*listener); ok && l.addr.Network == "tcp" {
			return l.renew().Err
		}
	}
	return nil
}

// TestSaveThatFails loses nothing, is shown, and is made good.
func TestSaveThatFails(t *testing.T) {
	table, kept := NewTable(nil), newShelf(t)
	defer table.Close()
	table.Remember(kept, kept.save)
	kept.fails = unix.ENOSPC
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	must(t, table.Listen("http"))
	served(t, table)
	if st := table.Status("http")[0]; !errors.Is(st.Err, unix.ENOSPC) {
		t.Errorf("%+v", st)
	}
	kept.fails = nil
	table.Audit("http")
	if st := table.Status("http")[0]; st.Err != nil {
		t.Errorf("%+v", st)
	}
	kept.check(table)
}

// TestRememberedLate is what was open before there was a Keeper.
func TestRememberedLate(t *testing.T) {
	table, kept := NewTable(nil), newShelf(t)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	table.Remember(kept, kept.save)
	must(t, table.Listen("http"))
	kept.check(table)
}
