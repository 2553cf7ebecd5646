package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

var anyPort = unit.Address{Network: "tcp", Host: "127.0.0.1"}

func newTestServer(t *testing.T) *Server {
	t.Helper()
	var faults bytes.Buffer
	s := NewServer(example, &faults)
	t.Cleanup(func() {
		s.Close()
		if faults.Len() > 0 {
			t.Errorf("it complains: %s", &faults)
		}
	})
	return s
}

// listen listens, and returns where.
func listen(t *testing.T, s *Server, a unit.Address) string {
	t.Helper()
	if err := s.Listen(a); err != nil {
		t.Fatal(err)
	}
	if err := s.Fault(); err != nil {
		t.Errorf("it works, and has a fault: %v", err)
	}
	return s.Address()
}

func scrape(t *testing.T, at string) error {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(at, "/") {
		network = "unix"
	}
	c := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		},
		DisableKeepAlives: true,
	}}
	r, err := c.Get("http://localhost/metrics")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("%s, %q", r.Status, r.Header)
	}
	lint(t, string(text))
	return nil
}

func mustServe(t *testing.T, at string) {
	t.Helper()
	if err := scrape(t, at); err != nil {
		t.Error(err)
	}
}

func mustRefuse(t *testing.T, at string) {
	t.Helper()
	if err := scrape(t, at); !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT) {
		t.Errorf("%s is still there: %v", at, err)
	}
}

func tcp(t *testing.T, at string) unit.Address {
	t.Helper()
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	return unit.Address{Network: "tcp", Host: host, Port: n}
}

func TestListenMoves(t *testing.T) {
	s := newTestServer(t)
	first := listen(t, s, anyPort)
	mustServe(t, first)
	if again := listen(t, s, anyPort); again != first {
		t.Errorf("asked for the same, it moved from %s to %s", first, again)
	}
	path := filepath.Join(shortDir(t), "m.sock")
	second := listen(t, s, unit.Address{Network: "unix", Path: path})
	mustServe(t, second)
	mustRefuse(t, first)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("its mode: %v, %v", st.Mode(), err)
	}
	third := listen(t, s, anyPort)
	mustServe(t, third)
	mustRefuse(t, path)
	if at := listen(t, s, unit.Address{}); at != "" {
		t.Errorf("it is at %s, and should be nowhere", at)
	}
	mustRefuse(t, third)
}

// shortDir is one whose sockets have short paths.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Who has the address is named; what is served stays; a second try finds it free.
func TestAddressInUse(t *testing.T) {
	holder, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := tcp(t, holder.Addr().String())
	s := newTestServer(t)
	for _, before := range []unit.Address{{}, anyPort} {
		at := listen(t, s, before)
		err := s.Listen(taken)
		if !errors.Is(err, unix.EADDRINUSE) || !strings.HasPrefix(err.Error(), "cannot serve metrics: cannot bind "+taken.String()+": address already in use by") {
			t.Errorf("%v", err)
		}
		if s.Fault() != err {
			t.Errorf("the fault is %v", s.Fault())
		}
		if (at == "") != (s.Address() == "") {
			t.Errorf("it was at %q, and is at %q", at, s.Address())
		}
		if now := s.Address(); now != "" {
			mustServe(t, now)
		}
	}
	holder.Close()
	mustServe(t, listen(t, s, taken))
}

// From all addresses to one of them at the same port, and back: what is in the way
// is our own.
func TestListenWidensAndNarrows(t *testing.T) {
	s := newTestServer(t)
	at := tcp(t, listen(t, s, anyPort))
	wide := at
	wide.Host = "0.0.0.0"
	listen(t, s, wide)
	mustServe(t, at.String())
	listen(t, s, at)
	mustServe(t, at.String())
}

// Where somebody else is in the way of the wider address, the narrower one is
// served again.
func TestListenCannotWiden(t *testing.T) {
	s := newTestServer(t)
	at := tcp(t, listen(t, s, anyPort))
	other, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", at.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	listen(t, s, at) // from any port to this very one
	wide := at
	wide.Host = "0.0.0.0"
	if err := s.Listen(wide); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("%v", err)
	}
	mustServe(t, at.String())
}

// What is started while it serves does not get its sockets.
func TestSocketsAreCloseOnExec(t *testing.T) {
	s := newTestServer(t)
	listen(t, s, anyPort)
	port := tcp(t, s.Address()).Port
	found := 0
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range fds {
		fd, _ := strconv.Atoi(entry.Name())
		if at, err := unix.Getsockname(fd); err != nil {
			continue
		} else if at, ok := at.(*unix.SockaddrInet4); !ok || at.Port != port {
			continue
		}
		found++
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("fd %d is passed on: %v", fd, err)
		}
	}
	if found == 0 {
		t.Error("its sockets were not found")
	}
}
