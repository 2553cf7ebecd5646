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
	hands *hands

	owners OwnerFunc

	wanted   bool            // it is to listen; needs op
	left     uint64          // processes still have this dead socket, while a start was to replace them; needs op
	standing map[string]bool // findings that were told and still hold; needs op

	mu        sync.Mutex
	spec      *unit.Socket
	fd        int // -1: none at present
	listening bool
	gone      uint64 // processes have this dead socket, so this one does not listen yet; 0: no
	doing     string // what a file system may hold up
	err       error  // why it does not listen
	warning   error  // options that it does not have
	base      *Baseline
	made      *Made
	last      *Finding
}

func (t *Table) newListener(g *group, s *unit.Socket, a unit.Address) *listener {
	return &listener{addr: a, spec: s, watch: t.watch, kept: t.custody, hands: g.hands, owners: t.owners, fd: -1, made: madeOf(s)}
}

// disk is called before what a file system may hold up, for tests that do.
var disk = func(path string) {}

// atDisk does what a file system may hold up, for as long as it likes.
func (l *listener) atDisk(doing string, do func()) {
	l.during(doing, func() {
		disk(l.addr.Path)
		do()
	})
}

// during does what may take long. Status says so meanwhile.
func (l *listener) during(doing string, do func()) {
	set := func(doing string) {
		l.mu.Lock()
		l.doing = doing
		l.mu.Unlock()
	}
	set(doing)
	defer set("")
	do()
}

// taken makes a listener of a socket of systemd's. The flag is set here as if it
// had been made here: systemd itself sets it anew for each process it starts.
func (t *Table) taken(of *group, s *unit.Socket, a unit.Address, g Given) *listener {
	l := t.newListener(of, s, a)
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
	l.install(fd)
	return nil
}

// install makes a socket that was bound the listener's.
func (l *listener) install(fd int) {
	warning := tune(fd, l.spec, l.addr)
	base := observe(fd, l.addr)
	l.kept.add(fd)
	l.mu.Lock()
	l.fd, l.err, l.warning, l.base, l.made = fd, nil, warning, base, madeOf(l.spec)
	l.mu.Unlock()
	l.mark()
}

// mark has the path watched.
func (l *listener) mark() {
	if l.place != nil && l.fd >= 0 {
		l.atDisk("watching its path", func() { l.watch.mark(l.spec.Name, l.fd, l.place) })
	}
}

func (l *listener) bind() (fd int, err error) {
	switch {
	case l.addr.Network != "unix":
		return bindTCP(l.spec, l.addr)
	case strings.HasPrefix(l.addr.Path, "@"):
		return bindAbstract(l.spec, l.addr.Path)
	}
	o, err := l.owner(l.spec)
	if err != nil {
		return -1, err
	}
	l.atDisk("binding its path", func() { fd, err = l.bindPath(o) })
	return fd, err
}

func (l *listener) bindPath(o owner) (fd int, err error) {
	if l.place != nil && !l.place.reached() { // another directory lies there now
		l.place.leave()
		l.place = nil
	}
	if l.place == nil {
		if l.place, err = occupy(l.addr.Path); err != nil {
			l.place = nil
			return -1, err
		}
	}
	if fd, err = l.place.bind(l.spec, o); err != nil {
		l.place.leave()
		l.place = nil
	}
	return fd, err
}

// configure gives the socket the options of a later configuration.
func (l *listener) configure(s *unit.Socket) {
	if l.spec == s {
		return
	}
	relisten := l.listening && !l.given && l.spec.Backlog != s.Backlog
	l.mu.Lock()
	l.spec = s
	l.mu.Unlock()
	if l.fd < 0 || l.given {
		l.settle()
		return
	}
	warning := tune(l.fd, s, l.addr)
	if l.place != nil {
		warning = errors.Join(warning, l.give(s))
	}
	if relisten {
		warning = errors.Join(warning, unix.Listen(l.fd, backlog(s)))
	}
	l.mu.Lock()
	l.warning, l.made = warning, l.made.tuned(s)
	l.mu.Unlock()
	l.settle()
}

// give gives the path its owner and mode.
func (l *listener) give(s *unit.Socket) error {
	o, err := l.owner(s)
	if err == nil {
		l.atDisk("giving its path to its owner", func() { err = l.place.own(s, o) })
	}
	return err
}

// listen serves clients from now on.
func (l *listener) listen() error {
	l.wanted = true
	if l.serving() {
		return nil
	}
	if l.lost() && !l.restored() {
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

// became records a change that has been made. Whoever starts from now on has a socket
// that works, so nothing is left to be done about a dead one.
func (l *listener) became(listening bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if listening && l.gone != 0 {
		l.left = l.gone
	}
	l.listening, l.err, l.gone = listening, nil, 0
	if l.last != nil && l.last.Void {
		l.last = nil
	}
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
	at := l.leads()
	return at == nowhere || at == elsewhere && !l.listening
}

// leads says what the path stands for; here: the socket, or it has no path.
func (l *listener) leads() (to destination) {
	if l.place == nil || l.fd < 0 {
		return here
	}
	l.atDisk("looking where its path leads", func() { to = l.place.leads() })
	return to
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
	if l.given || l.spec.WhenDown == unit.Queue {
		return nil
	}
	l.wanted, l.left = false, 0
	if !l.listening && (l.addr.Network == "unix" || l.fd < 0 || !accepts(l.fd)) {
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
	// A process that has it could listen again: the first client there tells.
	l.watch.add(l.spec.Name, l.fd, unix.EPOLLIN)
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

func (l *listener) steered() bool { return false }

// inUse: what systemd owns always is.
func (l *listener) inUse() bool {
	return l.given || l.fd >= 0 && (l.held() || waits(l.fd))
}

func (l *listener) close() error {
	l.shut()
	l.wanted = false
	if l.place == nil {
		return nil
	}
	var err error
	l.atDisk("removing its path", func() { err = l.place.leave() })
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
func (l *listener) file(uint16) (File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return File{}, cmp.Or(l.err, error(bindError(l.spec.Name, l.addr, errNone)))
	}
	return passed(l.fd, l.spec), nil
}

// passed is a socket for a process.
func passed(fd int, s *unit.Socket) File {
	cookie, _ := cookieOf(fd)
	return File{FD: fd, Name: fdName(s), Cookie: cookie}
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
