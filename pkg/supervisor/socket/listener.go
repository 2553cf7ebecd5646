package socket

import (
	"cmp"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A listener is one socket. Its methods that change it are called under the op
// lock of its group; mu is for those who only look.
type listener struct {
	addr  unit.Address
	given bool
	place *place // a unix path: where it lies
	watch *watch
	kept  *custody

	mu        sync.Mutex
	spec      *unit.Socket
	fd        int // -1: none at present
	listening bool
	err       error // why it does not listen
	warning   error // options that it does not have
	base      *Baseline
	last      *Finding
}

func newListener(s *unit.Socket, a unit.Address, w *watch, c *custody) *listener {
	return &listener{addr: a, spec: s, watch: w, kept: c, fd: -1}
}

// taken makes a listener of a socket of systemd's. The flag is set here as if it
// had been made here: systemd itself sets it anew for each process it starts.
func (t *Table) taken(s *unit.Socket, a unit.Address, g Given) *listener {
	l := newListener(s, a, t.watch, t.custody)
	l.given = true
	l.fd = g.FD
	l.listening = g.listening
	if g.nonblock != l.spec.NonBlocking {
		unix.SetNonblock(g.FD, l.spec.NonBlocking)
	}
	l.base = observe(g.FD, a)
	l.kept.add(l.fd)
	if l.listening {
		l.watch.add(s.Name, l.fd, 0)
	}
	return l
}

// open makes and binds the socket, which does not listen yet.
func (l *listener) open() error {
	fd, err := l.bind()
	if err != nil {
		return l.failed(err)
	}
	warning := tune(fd, l.spec, l.addr)
	base := observe(fd, l.addr)
	l.kept.add(fd)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fd, l.err, l.warning, l.base = fd, nil, warning, base
	return nil
}

func (l *listener) bind() (fd int, err error) {
	switch {
	case l.addr.Network != "unix":
		return bindTCP(l.spec, l.addr)
	case strings.HasPrefix(l.addr.Path, "@"):
		return bindAbstract(l.spec, l.addr.Path)
	}
	if l.place == nil {
		if l.place, err = occupy(l.addr.Path); err != nil {
			return -1, err
		}
	}
	if fd, err = l.place.bind(l.spec); err != nil {
		l.place.leave()
		l.place = nil
	}
	return fd, err
}

// configure gives the socket the options of a later configuration.
func (l *listener) configure(s *unit.Socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spec == s {
		return
	}
	relisten := l.listening && !l.given && l.spec.Backlog != s.Backlog
	l.spec = s
	if l.fd < 0 || l.given {
		return
	}
	l.warning = tune(l.fd, s, l.addr)
	if l.place != nil {
		l.warning = errors.Join(l.warning, l.place.own(s))
	}
	if relisten {
		l.warning = errors.Join(l.warning, unix.Listen(l.fd, backlog(s)))
	}
}

// listen serves clients from now on.
func (l *listener) listen() error {
	if l.serving() {
		return nil
	}
	if l.lost() {
		l.shut()
	}
	if l.fd < 0 {
		if err := l.open(); err != nil {
			return err
		}
	}
	if err := l.serve(); err != nil {
		return l.failed(err)
	}
	l.became(true)
	l.watch.add(l.spec.Name, l.fd, 0)
	return nil
}

// became records a change that has been made.
func (l *listener) became(listening bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listening, l.err = listening, nil
}

// failed makes the error that a caller gets, and keeps it for status.
func (l *listener) failed(err error) error {
	e := bindError(l.spec.Name, l.addr, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = e
	return e
}

// serving says whether clients reach it, in fact: who has a copy of a TCP
// listener can end that for all (shutdown(2), connect(2) to no address), and a
// path can be removed.
func (l *listener) serving() bool {
	return l.listening && accepts(l.fd) && !l.lost()
}

// lost says that the path does not lead here, and nothing is lost by binding it
// anew: it leads nowhere, or nobody was served.
func (l *listener) lost() bool {
	if l.place == nil || l.fd < 0 {
		return false
	}
	at := l.place.leads()
	return at == nowhere || at == elsewhere && !l.listening
}

func accepts(fd int) bool {
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err != nil || on == 1
}

// serve lets others share the port (SO_REUSEADDR) only while we listen: then it
// merely allows connections that linger from before. On a port that is bound and
// silent it would allow anybody to listen there.
func (l *listener) serve() error {
	if l.addr.Network != "unix" && !accepts(l.fd) {
		if err := hush(l.fd); err != nil {
			return err
		}
	}
	if l.addr.Network != "unix" && !l.given {
		if err := reuse(l.fd, true); err != nil {
			return err
		}
	}
	return unix.Listen(l.fd, backlog(l.spec))
}

// refuse sends clients away from now on.
func (l *listener) refuse() error {
	if l.given || !l.listening || l.spec.WhenDown == unit.Queue {
		return nil
	}
	if l.addr.Network != "unix" {
		return l.silence()
	}
	l.shut()
	return l.open()
}

// silence ends listening without losing the port.
func (l *listener) silence() error {
	err := hush(l.fd)
	if err == nil {
		err = reuse(l.fd, false)
	}
	if err != nil {
		return l.failed(err)
	}
	l.became(false)
	return nil
}

// shut closes the descriptor. A unix socket cannot stop listening; what was
// accepted from it lives on.
func (l *listener) shut() {
	l.mu.Lock()
	fd := l.fd
	l.fd, l.listening = -1, false
	l.mu.Unlock()
	if fd >= 0 {
		l.watch.drop(fd)
		l.kept.drop(fd)
		closeFD(fd)
	}
}

func (l *listener) close() error {
	l.shut()
	if l.place == nil {
		return nil
	}
	err := l.place.leave()
	l.place = nil
	return err
}

// where is its address, with the port that the kernel chose.
func (l *listener) where() unit.Address {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd >= 0 && (l.given || l.addr.Network != "unix") {
		if sa, err := unix.Getsockname(l.fd); err == nil {
			return address(sa)
		}
	}
	return l.addr
}

// file is the same for every process.
func (l *listener) file(int) (File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return File{}, cmp.Or(l.err, error(bindError(l.spec.Name, l.addr, errNone)))
	}
	return File{FD: l.fd, Name: fdName(l.spec)}, nil
}

var errNone = errors.New("it is being bound anew")

func fdName(s *unit.Socket) string {
	if s.FDName == "" {
		return s.Name
	}
	return s.FDName
}

// backlog is 0 for nobody: a queue of one is no default to have by accident.
func backlog(s *unit.Socket) int {
	if s.Backlog <= 0 {
		return unix.SOMAXCONN
	}
	return s.Backlog
}

// somaxconn is the most that listen(2) grants.
func somaxconn() int {
	text, _ := os.ReadFile("/proc/sys/net/core/somaxconn")
	if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		return n
	}
	return unix.SOMAXCONN
}

// closeFD closes without asking again: after EINTR the descriptor is gone too.
func closeFD(fd int) { unix.Close(fd) }
