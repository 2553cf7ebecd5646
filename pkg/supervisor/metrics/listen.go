package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Server serves what its source says, at one address or at none. It is safe for
// use by several goroutines.
type Server struct {
	source func() Snapshot
	faults io.Writer
	fault  atomic.Pointer[error]

	mu sync.Mutex // held for as long as binding takes
	on *site      // nil: at none
}

// A site is an address that is served. Its socket is in a table of its own, which
// knows how to take an address and who has it, and is never passed to anybody.
type site struct {
	asked unit.Address
	real  string // with the port that it got
	table *socket.Table
	http  *http.Server
	done  chan struct{} // closed when nothing is accepted any more
}

// NewServer makes a server of source, which is asked once a scrape. Errors that no
// client can be told go to faults.
func NewServer(source func() Snapshot, faults io.Writer) *Server {
	return &Server{source: source, faults: faults}
}

// Listen serves at a from now on, and no more where it did; the zero Address is
// nowhere. The new address is bound before the old one is given up, so that after
// an error all is as it was. The error is about a [*socket.BindError] where a
// cannot be had; [Server.Fault] has it until a Listen does better.
func (s *Server) Listen(a unit.Address) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.move(a)
	s.fault.Store(&err)
	return err
}

func (s *Server) move(a unit.Address) error {
	if s.on != nil && s.on.asked == a {
		return nil
	}
	next, err := s.open(a)
	if before := s.on; before.inTheWay(a, err) {
		s.leave()
		if next, err = s.open(a); err != nil {
			s.on, _ = s.open(before.asked)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot serve metrics: %w", err)
	}
	s.leave()
	s.on = next
	return nil
}

// inTheWay says whether it can be t that has what another wants: 127.0.0.1 cannot be
// had at a port of which 0.0.0.0 is served.
func (t *site) inTheWay(a unit.Address, err error) bool {
	if t == nil || a.Network != "tcp" || !errors.Is(err, unix.EADDRINUSE) {
		return false
	}
	at, err := netip.ParseAddrPort(t.real)
	return err == nil && int(at.Port()) == a.Port
}

// open binds a and serves there; nil for nowhere.
func (s *Server) open(a unit.Address) (*site, error) {
	if a == (unit.Address{}) {
		return nil, nil
	}
	t := &site{asked: a, table: socket.NewTable(nil), done: make(chan struct{})}
	l, err := t.bind()
	if err != nil {
		t.table.Close()
		return nil, err
	}
	t.http = newHTTP(s.source, loopback(a), s.faults)
	go t.serve(newDoor(l, places))
	return t, nil
}

// name is what the socket is called in its table.
const name = "metrics"

// bind takes the address as [socket.Table] does for services, and returns a copy
// of its socket.
func (t *site) bind() (net.Listener, error) {
	s := &unit.Socket{Name: name, Listen: []unit.Address{t.asked}, Backlog: places, NonBlocking: true, Mode: 0o660}
	err := t.table.Bind(s)
	if err == nil {
		err = t.table.Listen(name)
	}
	if err != nil {
		return nil, err
	}
	t.real = t.table.Status(name)[0].Address
	files, err := t.table.Files(s, 0)
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(uintptr(files[0].FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot duplicate the socket of %s: %w", t.real, err)
	}
	f := os.NewFile(uintptr(fd), t.real)
	defer f.Close()
	return net.FileListener(f)
}

// serve lasts until close.
func (t *site) serve(l net.Listener) {
	defer close(t.done)
	if err := t.http.Serve(l); !ended(err) {
		t.http.ErrorLog.Printf("cannot serve metrics at %s any more: %v", t.real, err)
	}
}

// grace is how long those have whose scrape is in progress.
const grace = time.Second

// leave gives the address up that is served.
func (s *Server) leave() {
	if s.on == nil {
		return
	}
	t := s.on
	s.on = nil
	if err := t.table.Close(); err != nil {
		t.http.ErrorLog.Printf("cannot give up %s: %v", t.real, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if t.http.Shutdown(ctx) != nil {
		t.http.Close()
	}
	<-t.done
}

// Address is where metrics are served, with the real port; empty: nowhere.
func (s *Server) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == nil {
		return ""
	}
	return s.on.real
}

// Fault is why the last Listen did not work, or nil. It waits for nobody.
func (s *Server) Fault() error {
	if err := s.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// Close ends what Listen began.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave()
}

// loopback says whether only this machine can connect.
func loopback(a unit.Address) bool {
	ip, err := netip.ParseAddr(a.Host)
	return err == nil && ip.IsLoopback()
}
