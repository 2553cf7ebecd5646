package socket

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Looking and mending are apart. Whoever asks a question looks, and changes nothing
// ([Table.Look], [Table.Status]); mending is for events: a process starts or ends, or
// the kernel says that something was done to a socket ([Table.Audit]).

// A fault is what a look finds wrong with a socket.
type fault struct {
	what  string         // as Finding.What
	quiet bool           // a server may well do that: it is told only if it cannot be undone
	mend  func(*Finding) // needs the op lock; nil: nothing is to be done while a process has the socket
}

// mended is a fault that do undoes.
func mended(what, done string, do func() error) fault {
	return fault{what: what, mend: func(f *Finding) { f.Mended, f.Err = done, do() }}
}

// note is the fault for whoever reads a status.
func (f fault) note() string {
	if f.mend == nil {
		return fmt.Sprintf("a process that has it %s; it stays so while a process has the socket", f.what)
	}
	return fmt.Sprintf("a process that has it %s; the next start or exit of a process mends it", f.what)
}

// faults looks at a listener without changing it, and without a file system: where
// its path leads is not looked at. It needs op or mu.
func (l *listener) faults() (all []fault) {
	if l.fd < 0 {
		return nil
	}
	fd := l.fd
	switch on := accepts(fd); {
	case l.listening && l.addr.Network == "unix" && hungUp(fd):
		return []fault{{what: "shut it down", mend: l.replace}}
	case l.listening && !on:
		all = append(all, mended("shut it down", "it listens again", l.listen))
	case l.listening:
		all = append(all, l.lowered()...)
	case on && !l.given && l.addr.Network != "unix":
		all = append(all, mended("listened on it while the service is down", "it refuses again", l.silence))
	}
	all = append(all, l.blocked()...)
	for _, c := range l.base.changes(fd) {
		all = append(all, mended("set "+c.name, "it is set back", c.undo))
	}
	if foreignFilter(fd) {
		all = append(all, mended("attached a filter", "it is removed", func() error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		}))
	}
	return all
}

// lowered is a backlog that is shorter than we asked for. Servers that call listen(2)
// on what they are given (nginx, gunicorn, uvicorn, Node.js) do that.
func (l *listener) lowered() []fault {
	limit, low := lowered(l.fd, l.addr, backlog(l.spec))
	if !low {
		return nil
	}
	f := mended(fmt.Sprintf("set its backlog to %d", limit), "it is set back", func() error { return unix.Listen(l.fd, backlog(l.spec)) })
	f.quiet = true
	return []fault{f}
}

// blocked is O_NONBLOCK as a process has set it. A server that runs may rely on that.
func (l *listener) blocked() []fault {
	want := l.base.nonblocking(l.spec.NonBlocking)
	is, known := nonblocking(l.fd)
	if !known || is == want {
		return nil
	}
	what := "cleared O_NONBLOCK"
	if is {
		what = "set O_NONBLOCK"
	}
	if l.held() {
		return []fault{{what: what}}
	}
	f := mended(what, "it is set back", func() error { return unix.SetNonblock(l.fd, want) })
	f.quiet = true // it was told when it was done
	return []fault{f}
}

// held says whether a process has the socket.
func (l *listener) held() bool {
	cookie, err := cookieOf(l.fd)
	return err != nil || l.hands.have(cookie)
}

// settle gives a socket that no process has what it could not be given before: the
// configuration's O_NONBLOCK, and options that only a new socket can have. It needs
// op.
func (l *listener) settle() {
	if l.fd < 0 || l.held() {
		return
	}
	if want := l.spec.NonBlocking; l.base.nonblocking(want) != want && unix.SetNonblock(l.fd, want) == nil {
		l.mu.Lock()
		l.base = l.base.withNonblock(want)
		l.mu.Unlock()
	}
	if !l.given && !l.listening && !accepts(l.fd) && len(l.made.waits(l.spec, l.addr)) > 0 {
		l.remake()
	}
}

// remake binds a socket anew that nobody has and that refuses. The old one keeps the
// port until the new one has it.
func (l *listener) remake() {
	if l.addr.Network == "unix" {
		l.shut()
		l.open()
		return
	}
	to, err := unix.Getsockname(l.fd)
	if err == nil {
		err = reuse(l.fd, true)
	}
	var fd int
	if err == nil {
		fd, err = bindTo(l.spec, to)
	}
	if err != nil {
		reuse(l.fd, false)
		l.mu.Lock()
		l.warning = fmt.Errorf("cannot bind %s anew for its new options: %w", l.addr, err)
		l.mu.Unlock()
		return
	}
	l.shut()
	l.install(fd)
}

// displaced mends a path that does not lead to the socket any more.
func (l *listener) displaced(to destination) Finding {
	f := Finding{Address: l.where().String(), What: "or another removed its path"}
	if to == elsewhere {
		f.What = "or another put something else at its path"
	}
	if l.restored() {
		f.Mended = "it is put back"
		return f
	}
	if to == elsewhere {
		if err := l.taken(); err != nil { // what is bound here is all that its processes have
			f.Err = bindError(l.spec.Name, l.addr, err)
			return f
		}
	}
	l.replace(&f)
	return f
}

// taken says who or what is at the path instead.
func (l *listener) taken() (err error) {
	l.atDisk("looking who has its path", func() { err = l.place.taken() })
	return err
}

// replace binds a socket anew that cannot be mended. If processes have the old one
// the new one does not listen yet: nobody would accept from it. The next start opens
// it ([Table.Listen]), and so does the end of the last of them.
func (l *listener) replace(f *Finding) {
	if l.given {
		f.Err = errors.New("systemd has bound it; restart its .socket unit")
		return
	}
	cookie, _ := cookieOf(l.fd)
	listening := l.listening
	f.Void = l.hands.bury(cookie)
	l.shut()
	f.Mended, f.Err = "it is bound anew", l.open()
	if f.Void {
		f.Dead, l.left = cookie, 0
		l.mourn(cookie)
	} else if f.Err == nil && listening {
		f.Err = l.listen()
	}
}

// revive opens what is to listen and does not, unless processes have a dead socket
// instead of it. If what was opened for the start of a process is with nobody, as that
// has failed, and they still have the dead one, clients are refused again.
func (l *listener) revive() {
	if l.gone != 0 && !l.hands.need(l.gone) {
		l.mourn(0)
	}
	if l.left != 0 && !l.hands.need(l.left) {
		l.left = 0
	}
	switch {
	case l.given:
	case l.left != 0 && l.listening && !l.held():
		l.withdraw()
	case l.gone != 0 && l.fd < 0:
		l.open()
	case l.gone == 0 && l.wanted && !l.listening:
		l.listen()
	}
}

// withdraw ends listening for the sake of those that have a dead socket.
func (l *listener) withdraw() {
	dead := l.left
	if l.addr.Network == "unix" {
		l.shut()
		l.open()
	} else {
		l.silence()
	}
	l.left = 0
	l.mourn(dead)
}

// mourn says which dead socket processes have instead of this one.
func (l *listener) mourn(dead uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = dead
}

// renew replaces a TCP socket that cannot be mended, at its port. Who has the old
// one cannot listen there again.
func (l *listener) renew() Finding {
	at := l.where()
	f := Finding{Address: at.String(), What: "left it as it cannot be mended"}
	if f.Err = errors.Join(hush(l.fd), reuse(l.fd, true)); f.Err != nil {
		return f
	}
	l.mu.Lock()
	l.addr = at
	l.mu.Unlock()
	l.replace(&f)
	return f
}

// Look lists what processes have done to the sockets of a unit and is still so. It
// changes nothing and waits for nobody. What it finds is mended at the next event, if
// it can be; see [Table.Audit].
func (t *Table) Look(name string) (found []Finding) {
	g := t.find(name)
	if g == nil {
		return nil
	}
	for _, e := range g.each() {
		for _, f := range e.look() {
			if !f.quiet {
				found = append(found, Finding{Address: e.where().String(), What: f.what})
			}
		}
	}
	return found
}

func (l *listener) look() []fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.faults()
}

// sayable takes from findings what was told before and still is so.
func (l *listener) sayable(found []Finding) (fresh []Finding) {
	standing := map[string]bool{}
	for _, f := range found {
		said := f.What
		if f.Err != nil {
			said += f.Err.Error()
		} else if f.Mended != "" {
			said = ""
		}
		if said == "" || !l.standing[said] {
			fresh = append(fresh, f)
		}
		standing[said] = true
	}
	l.standing = standing
	return fresh
}

// optionFindings sets back what differs from a baseline.
func optionFindings(at unit.Address, b *Baseline, fd int) (found []Finding) {
	for _, c := range b.changes(fd) {
		found = append(found, Finding{Address: at.String(), What: "set " + c.name, Mended: "it is set back", Err: c.undo()})
	}
	return found
}
