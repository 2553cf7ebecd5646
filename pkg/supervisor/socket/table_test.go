package socket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// shortDir is a directory whose paths fit into a unix address.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func tcp(host string, port int) unit.Address {
	return unit.Address{Network: "tcp", Host: host, Port: port}
}

func file(p string) unit.Address { return unit.Address{Network: "unix", Path: p} }

func spec(name string, a ...unit.Address) *unit.Socket {
	return &unit.Socket{Name: name, Listen: a, Backlog: 64, Mode: 0600, NonBlocking: true, WhenDown: unit.Refuse}
}

// dial connects to where the Table says that it listens.
func dial(address string) (net.Conn, error) {
	if address[0] == '/' || address[0] == '@' {
		return net.Dial("unix", address)
	}
	return net.Dial("tcp", address)
}

// TestRefuseAndListenAgain is the life of a socket whose service comes and
// goes: clients are refused, served, refused and served.
func TestRefuseAndListenAgain(t *testing.T) {
	dir := shortDir(t)
	for name, a := range map[string]unit.Address{
		"v4":       tcp("127.0.0.1", 0),
		"v6":       tcp("::1", 0),
		"path":     file(filepath.Join(dir, "api.sock")),
		"abstract": file("@" + filepath.Base(dir)),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "v6" && !haveIPv6() {
				t.Skip("this machine has no IPv6 loopback")
			}
			table := NewTable(nil)
			defer table.Close()
			must(t, table.Bind(spec("http", a)))
			must(t, table.Bind(spec("http", a)))
			cookie := ""
			for range 3 {
				refused(t, table)
				must(t, table.Listen("http"))
				must(t, table.Listen("http"))
				served(t, table)
				address := table.Status("http")[0].Address
				if cookie != "" && cookie != address {
					t.Fatalf("it was at %s and is at %s", cookie, address)
				}
				cookie = address
				must(t, table.Refuse("http"))
				must(t, table.Refuse("http"))
			}
			refused(t, table)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, table *Table) {
	t.Helper()
	for _, s := range table.Status("http") {
		c, err := dial(s.Address)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("a client of %s got %v, not ECONNREFUSED", s.Address, err)
		}
	}
}

// served connects, accepts by the Table's own descriptor and passes a byte.
func served(t *testing.T, table *Table) {
	t.Helper()
	files, err := table.Files("http")
	must(t, err)
	for i, s := range table.Status("http") {
		c, err := dial(s.Address)
		must(t, err)
		fd, err := accept(files[i].FD)
		must(t, err)
		_, err = unix.Write(fd, []byte("x"))
		must(t, err)
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		c.Close()
	}
}

// accept waits for a connection, whatever the socket's O_NONBLOCK.
func accept(listener int) (int, error) {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, err
		}
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		return fd, err
	}
}

func haveIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err == nil {
		l.Close()
	}
	return err == nil
}
