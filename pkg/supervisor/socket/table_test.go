package socket

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// TestServiceComesAndGoes is the life of a socket: its clients are refused,
// served, refused and served, at one address and by one socket.
func TestServiceComesAndGoes(t *testing.T) { comesAndGoes(t) }

// TestOrdinaryUserHasAllOfIt: nothing of that needs root.
func TestOrdinaryUserHasAllOfIt(t *testing.T) {
	if asStranger(t) {
		comesAndGoes(t)
	}
}

func comesAndGoes(t *testing.T) {
	for kind, a := range everyKind(t) {
		t.Run(kind, func(t *testing.T) {
			table := NewTable(nil)
			defer table.Close()
			must(t, table.Bind(spec("http", a)))
			must(t, table.Bind(spec("http", a)))
			address := table.Status("http")[0].Address
			first := cookie(t, table)
			for range 3 {
				refused(t, address)
				must(t, table.Listen("http"))
				must(t, table.Listen("http"))
				served(t, table)
				must(t, table.Refuse("http"))
				must(t, table.Refuse("http"))
			}
			refused(t, address)
			if a.Network == "tcp" && cookie(t, table) != first {
				t.Error("it is another socket now")
			}
			if now := table.Status("http")[0].Address; now != address {
				t.Errorf("it was at %s and is at %s", address, now)
			}
			must(t, table.Drop("http"))
			if names := table.Names(); len(names) != 0 {
				t.Errorf("there is still %q", names)
			}
		})
	}
}

// TestQueueKeepsClients: with when_down = "queue" they wait from Bind on, and
// are served when somebody comes to accept.
func TestQueueKeepsClients(t *testing.T) {
	for kind, a := range everyKind(t) {
		t.Run(kind, func(t *testing.T) {
			s := spec("http", a)
			s.WhenDown = unit.Queue
			table := NewTable(nil)
			defer table.Close()
			must(t, table.Bind(s))
			must(t, table.Refuse("http"))
			c, err := dial(table.Status("http")[0].Address)
			must(t, err)
			defer c.Close()
			must(t, table.Refuse("http"))
			must(t, table.Listen("http"))
			answer(t, table, 0)
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Errorf("who waited got %v", err)
			}
		})
	}
}

// TestRefusedPortStaysOurs: a port that is bound and does not listen could be
// taken by anybody who sets SO_REUSEADDR. Here it cannot, before the first
// Listen and after a Refuse, with connections lingering or not.
func TestRefusedPortStaysOurs(t *testing.T) {
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	address := table.Status("http")[0].Address
	var port int
	_, err := fmt.Sscanf(address, "127.0.0.1:%d", &port)
	must(t, err)
	for range 2 {
		for _, at := range []unix.SockaddrInet4{{Port: port}, {Port: port, Addr: [4]byte{127, 0, 0, 1}}} {
			if err := squat(t, &at); err != unix.EADDRINUSE {
				t.Fatalf("a stranger got the port: %v", err)
			}
		}
		must(t, table.Listen("http"))
		served(t, table)
		must(t, table.Refuse("http"))
	}
}

func squat(t *testing.T, at *unix.SockaddrInet4) error {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, reuse(fd, true))
	if err := unix.Bind(fd, at); err != nil {
		return err
	}
	return unix.Listen(fd, 1)
}

// TestPortWithLingeringConnections: what an earlier process left open on a port
// does not keep the next supervisord from it.
func TestPortWithLingeringConnections(t *testing.T) {
	first := NewTable(nil)
	must(t, first.Bind(spec("http", tcp("127.0.0.1", 0))))
	must(t, first.Listen("http"))
	address := first.Status("http")[0].Address
	c, err := dial(address)
	must(t, err)
	defer c.Close()
	files, err := filesOf(first, "http", 0)
	must(t, err)
	server, err := accept(files[0].FD)
	must(t, err)
	defer unix.Close(server)
	must(t, first.Close())

	var port int
	_, err = fmt.Sscanf(address, "127.0.0.1:%d", &port)
	must(t, err)
	second := NewTable(nil)
	defer second.Close()
	must(t, second.Bind(spec("http", tcp("127.0.0.1", port))))
	refused(t, address)
	for range 2 {
		must(t, second.Listen("http"))
		served(t, second)
		must(t, second.Refuse("http"))
	}
}

// TestCopiesServeAgain: a copy of a TCP listener, in a process that did not die
// with its service, accepts again after a Refuse and a Listen.
func TestCopiesServeAgain(t *testing.T) {
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	must(t, table.Listen("http"))
	files, err := filesOf(table, "http", 0)
	must(t, err)
	copied, err := unix.FcntlInt(uintptr(files[0].FD), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	defer unix.Close(copied)
	must(t, table.Refuse("http"))
	must(t, table.Listen("http"))
	c, err := dial(table.Status("http")[0].Address)
	must(t, err)
	defer c.Close()
	fd, err := accept(copied)
	must(t, err)
	unix.Close(fd)
}

// TestRuinedListenerIsMended: who has a copy can end listening for all holders
// (T45). Status says so, and the next Listen serves again, at the same port.
func TestRuinedListenerIsMended(t *testing.T) {
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	must(t, table.Listen("http"))
	address := table.Status("http")[0].Address
	for what, ruin := range map[string]func(fd int) error{
		"shutdown": func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) },
		"connect":  disconnect,
	} {
		files, err := filesOf(table, "http", 0)
		must(t, err)
		must(t, ruin(files[0].FD))
		refused(t, address)
		if st := table.Status("http")[0]; st.Listening || st.Note == "" || st.Address != address {
			t.Errorf("%s: %+v", what, st)
		}
		must(t, table.Listen("http"))
		served(t, table)
	}
}

// TestListenIsAllOrNothing: an address that somebody took meanwhile, and the
// others go on refusing.
func TestListenIsAllOrNothing(t *testing.T) {
	dir := shortDir(t)
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0), file(dir+"/x"))))
	must(t, table.Listen("http"))
	must(t, table.Refuse("http"))
	must(t, os.Remove(dir+"/x"))
	must(t, os.Mkdir(dir+"/x", 0o700))
	must(t, os.WriteFile(dir+"/x/y", nil, 0o600))
	if err := table.Listen("http"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	refused(t, table.Status("http")[0].Address)
	must(t, os.RemoveAll(dir+"/x"))
	must(t, table.Listen("http"))
	served(t, table)
}

// TestFlagsAreNeverTouched: O_NONBLOCK is what the configuration says and nothing that
// happens to the socket changes it while a process has it; no copy leaks into a child.
func TestFlagsAreNeverTouched(t *testing.T) {
	for kind, a := range everyKind(t) {
		for _, nonblock := range []bool{true, false} {
			t.Run(fmt.Sprint(kind, nonblock), func(t *testing.T) {
				s := spec("http", a)
				s.NonBlocking = nonblock
				table := NewTable(nil)
				defer table.Close()
				check := func(when string) {
					files, err := filesOf(table, "http", 1)
					must(t, err)
					status, err := unix.FcntlInt(uintptr(files[0].FD), unix.F_GETFL, 0)
					must(t, err)
					flags, err := unix.FcntlInt(uintptr(files[0].FD), unix.F_GETFD, 0)
					must(t, err)
					if status&unix.O_NONBLOCK != 0 != nonblock || flags&unix.FD_CLOEXEC == 0 {
						t.Errorf("after %s: status flags %#x, descriptor flags %#x", when, status, flags)
					}
				}
				must(t, table.Bind(s))
				check("Bind")
				must(t, table.Listen("http"))
				check("Listen")
				served(t, table)
				changed := *s
				changed.NonBlocking, changed.Backlog, changed.KeepAlive = !nonblock, 7, true
				must(t, table.Bind(&changed))
				check("Bind with another configuration")
				must(t, table.Bind(s))
				runtime.GC()
				served(t, table)
				check("a connection")
				must(t, table.Refuse("http"))
				check("Refuse")
			})
		}
	}
}

// TestFortySockets keep their order and names, as a worker will count on it.
func TestFortySockets(t *testing.T) {
	dir := shortDir(t)
	s := spec("http")
	for i := range 20 {
		s.Listen = append(s.Listen, tcp("127.0.0.1", 0), file(filepath.Join(dir, fmt.Sprint(i, ".sock"))))
		s.Listen[2*i].Host = fmt.Sprintf("127.0.0.%d", i+1)
	}
	s.FDName = "web"
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	served(t, table)
	files, err := filesOf(table, "http", 0)
	must(t, err)
	if len(files) != 40 {
		t.Fatalf("there are %d", len(files))
	}
	for i, f := range files {
		sa, err := unix.Getsockname(f.FD)
		must(t, err)
		at := address(sa)
		at.Port = 0
		if at != s.Listen[i] || f.Name != "web" {
			t.Errorf("fd %d is %q at %s, not at %s", i, f.Name, at, s.Listen[i])
		}
	}
	must(t, table.Close())
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestAllOrNothing: one address that cannot be bound, and the others are as
// they were.
func TestAllOrNothing(t *testing.T) {
	dir := shortDir(t)
	good, bad := file(dir+"/good"), file(dir+"/file/bad")
	must(t, os.WriteFile(dir+"/file", nil, 0o600))
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	must(t, table.Listen("http"))
	before := table.Status("http")
	err := table.Bind(spec("http", good, bad, file(dir+"/file/worse")))
	if e := (*BindError)(nil); !errors.As(err, &e) || e.Address != bad.Path || !strings.Contains(err.Error(), "/file/worse") {
		t.Fatalf("the error names not both: %v", err)
	}
	if names, _ := os.ReadDir(dir); len(names) > 1 {
		t.Errorf("left behind: %v", names)
	}
	if after := table.Status("http"); !slices.Equal(after, before) {
		t.Errorf("it was %v and is %v", before, after)
	}
	served(t, table)
}

// TestAddressesChange: new ones are bound before old ones go, and those serve
// until Trim, so that a build that fails can be gone back from.
func TestAddressesChange(t *testing.T) {
	dir := shortDir(t)
	a, b, c := file(dir+"/a"), file(dir+"/b"), file(dir+"/c")
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", a, b)))
	must(t, table.Listen("http"))
	files, err := filesOf(table, "http", 0)
	must(t, err)
	must(t, table.Bind(spec("http", c, b)))
	must(t, table.Listen("http"))
	served(t, table)
	if _, err := dial(a.Path); err != nil {
		t.Errorf("the former address does not serve any more: %v", err)
	}
	again, err := filesOf(table, "http", 0)
	must(t, err)
	if again[1].FD != files[1].FD {
		t.Error("the address that stays got another socket")
	}
	must(t, table.Trim("http"))
	if _, err := dial(a.Path); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("after Trim: %v", err)
	}
	served(t, table)
}

// TestOptionsOfALaterConfiguration reach the open socket.
func TestOptionsOfALaterConfiguration(t *testing.T) {
	dir := shortDir(t)
	s := spec("http", tcp("127.0.0.1", 0), file(dir+"/x"))
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	changed := *s
	changed.Backlog, changed.Mode, changed.NoDelay, changed.KeepAlive, changed.ReceiveBuf, changed.SendBuf = 9, 0o666, true, true, 1<<15, 1<<14
	must(t, table.Bind(&changed))
	for _, status := range table.Status("http") {
		if status.Limit != 9 && !noDiag.Load() || status.Err != nil {
			t.Errorf("%s: limit %d, %v", status.Address, status.Limit, status.Err)
		}
	}
	if st, err := os.Stat(dir + "/x"); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("mode is %v, %v", st.Mode(), err)
	}
	files, err := filesOf(table, "http", 0)
	must(t, err)
	for _, o := range []struct{ level, name, want int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, 1 << 16}, // the kernel doubles it
		{unix.SOL_SOCKET, unix.SO_SNDBUF, 1 << 15},
	} {
		if got, err := unix.GetsockoptInt(files[0].FD, o.level, o.name); err != nil || got != o.want {
			t.Errorf("option %d is %d, %v", o.name, got, err)
		}
	}
	served(t, table)
}

// TestOnlyIPv6, or both families, as bind_ipv6_only says.
func TestOnlyIPv6(t *testing.T) {
	if !haveIPv6() {
		t.Skip("this machine has no IPv6 loopback")
	}
	for _, only := range []bool{true, false} {
		s := spec("http", tcp("", 0))
		s.IPv6Only = &only
		table := NewTable(nil)
		must(t, table.Bind(s))
		must(t, table.Listen("http"))
		_, port, _ := strings.Cut(table.Status("http")[0].Address, "]:")
		c, err := dial("127.0.0.1:" + port)
		if err == nil {
			defer c.Close()
		}
		// Another program may have the port of IPv4: what counts is our queue.
		came := func() bool { return table.Status("http")[0].Queue == 1 }
		if only && came() {
			t.Errorf("with IPv6 only a client of IPv4 came in: %v", err)
		} else if !only {
			waitFor(t, came)
		}
		must(t, table.Close())
	}
}

// TestManyAtOnce: whoever looks is never in the way of who changes.
func TestManyAtOnce(t *testing.T) {
	var all []unit.Address
	for _, a := range everyKind(t) {
		all = append(all, a)
	}
	table := NewTable(nil)
	defer table.Close()
	var work sync.WaitGroup
	for i, a := range all {
		name := fmt.Sprint("s", i)
		work.Go(func() {
			for range 20 {
				for _, err := range []error{table.Bind(spec(name, a)), table.Listen(name), table.Refuse(name), table.Trim(name)} {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
		work.Go(func() {
			for range 200 {
				table.Status(name)
				filesOf(table, name, 0)
				table.Names()
			}
		})
	}
	work.Wait()
}

func cookie(t *testing.T, table *Table) uint64 {
	t.Helper()
	files, err := filesOf(table, "http", 0)
	must(t, err)
	c, err := unix.GetsockoptUint64(files[0].FD, unix.SOL_SOCKET, unix.SO_COOKIE)
	must(t, err)
	return c
}

func refused(t *testing.T, address string) {
	t.Helper()
	c, err := dial(address)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("a client of %s got %v, not ECONNREFUSED", address, err)
	}
}

// served connects to each address, accepts by the Table's own descriptor and
// gets a byte.
func served(t *testing.T, table *Table) {
	t.Helper()
	for i, s := range table.Status("http") {
		c, err := dial(s.Address)
		must(t, err)
		_, err = c.Write([]byte("x"))
		must(t, err)
		answer(t, table, i)
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// answer serves one connection as a worker would.
func answer(t *testing.T, table *Table, i int) {
	t.Helper()
	files, err := filesOf(table, "http", 0)
	must(t, err)
	fd, err := accept(files[i].FD)
	must(t, err)
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("x"))
	must(t, err)
}

// TestShutWhileItRefuses: who shuts down a copy of a TCP socket that does not
// listen leaves nothing to the clients of the next start.
func TestShutWhileItRefuses(t *testing.T) {
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	files, err := filesOf(table, "http", 1)
	must(t, err)
	if err := unix.Shutdown(files[0].FD, unix.SHUT_RD); err != unix.ENOTCONN {
		t.Fatalf("shutdown: %v", err)
	}
	must(t, table.Listen("http"))
	c, err := dial(table.Status("http")[0].Address)
	must(t, err)
	defer c.Close()
	fd, err := accept(files[0].FD)
	must(t, err)
	defer unix.Close(fd)
	_, err = c.Write([]byte("x"))
	must(t, err)
	if n, err := unix.Read(fd, make([]byte, 1)); n != 1 {
		t.Errorf("the server read %d bytes, %v", n, err)
	}
}

// filesOf is what a process of the unit's last Bind gets.
func filesOf(table *Table, name string, id unit.Invocation) ([]File, error) {
	g, end := table.begin(name)
	s := g.spec
	end()
	if s == nil {
		return nil, nil
	}
	return table.Files(s, id)
}
