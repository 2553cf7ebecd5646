package socket

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A take gives the descriptor that was kept under a key, once.
type take func(key string) (fd int, ok bool)

// Restore takes over the sockets of a unit that a former supervisord has left, and
// mends what processes did to them meanwhile, as [Table.Audit] does. take gives the
// descriptor that was kept under a key, once, and makes it ours (close-on-exec). It
// must come before Bind of that unit.
//
// Each descriptor is checked: what is not the very socket that the record means is
// closed. An address whose socket did not come is part of the error; the others are
// taken over. A record that makes no sense is refused before anything is taken.
// What nobody has taken after all units are restored is of no use: its owner must
// close it and have the Keeper drop it before the first Bind, since it may hold an
// address.
//
// A unit that the former was opening or closing when it ended may be the one or the
// other. So Listen or Refuse must follow, as the unit is in use or not: this Listen is
// no start of a process, and does not open what processes have a dead socket instead
// of. Where it is steered, new connections go where they went until [Table.Steer] is
// called. Those that [Table.Watch] hear of each dead socket that the record or a failure
// leaves processes with. Free must follow for processes that have ended meanwhile.
func (t *Table) Restore(name string, r Record, take func(key string) (fd int, ok bool)) error {
	if err := r.check(name); err != nil {
		return fmt.Errorf("cannot take over socket %s: %w", name, err)
	}
	g, end := t.begin(name)
	if len(g.all) > 0 {
		end()
		return fmt.Errorf("cannot take over socket %s: it has sockets already", name)
	}
	g.spec, g.saved, g.fresh = r.Spec, &r, true
	g.take(&r)
	var err error
	for i := range r.Sockets {
		s := &r.Sockets[i]
		e, failed := t.resume(g, r.Spec, s, take)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("cannot take over %s of socket %s: %w", s.Address, name, failed))
		}
		if e != nil {
			g.adopt(e, s)
		} else if g.hands.bury(s.Cookie) {
			g.lost[s.Address] = s.Cookie
		}
	}
	g.enroll()
	g.turnAs(g.listens())
	found := g.bereaved()
	found = append(found, g.audit()...)
	end()
	t.watch.say(name, found)
	return err
}

// take notes who has which sockets.
func (g *group) take(r *Record) {
	g.lost = map[unit.Address]uint64{}
	for _, h := range r.Holders {
		g.hands.give(h.Holder, h.Sockets)
		if h.Leaving {
			g.hands.leave(h.Holder)
		}
	}
}

// turnAs is turn for what was taken over.
func (g *group) turnAs(up bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.up = up
}

// bereaved are the dead sockets that processes have from before.
func (g *group) bereaved() (found []Finding) {
	for _, s := range g.hands.dead() {
		found = append(found, Finding{Address: s.Address, What: "still has the socket that was there before", Void: true, Dead: s.Cookie})
	}
	return found
}

func (g *group) adopt(e endpoint, s *SocketRecord) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all[s.Address] = e
	if !s.Former {
		g.order = append(g.order, e)
	}
}

func (t *Table) resume(g *group, spec *unit.Socket, s *SocketRecord, take take) (endpoint, error) {
	if s.Ring != nil {
		r, err := t.resumeRing(g, spec, s, take)
		if err != nil {
			return nil, err
		}
		return r, nil
	}
	l, err := t.resumeListener(g, spec, s, take)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// resumeListener takes what systemd has given anew before what was kept: it is one
// socket, and ours to close only once.
func (t *Table) resumeListener(g *group, spec *unit.Socket, s *SocketRecord, take take) (*listener, error) {
	key := keyOf(s.Cookie)
	fd, ok := take(key)
	again, given := t.regiven(s)
	if given && ok {
		closeFD(fd)
	}
	if given {
		fd = again
	} else if !ok {
		return nil, errNotKept
	}
	err := s.replaced(t.Unclaimed())
	if given || err == nil {
		err = inspect(fd, s.Cookie, s.Bound)
	}
	l := t.newListener(g, spec, s.Address)
	if err == nil && s.Node != nil {
		l.atDisk("looking at its path", func() { l.place, err = reoccupy(s.Address.Path, *s.Node) })
	}
	if err != nil {
		t.custody.reject(key)
		closeFD(fd)
		return nil, err
	}
	l.fd, l.given, l.base = fd, s.Given, s.baseline(fd)
	l.listening = s.Listening || accepts(fd)
	l.wanted, l.made = l.listening, cmp.Or(s.Made, l.made)
	if l.listening {
		l.left = s.Gone
	} else {
		l.gone = s.Gone
	}
	if ok {
		l.kept.own(key, fd)
	} else {
		l.kept.add(fd)
	}
	switch {
	case l.listening:
		l.watch.add(spec.Name, fd, 0)
	case l.addr.Network != "unix":
		l.watch.add(spec.Name, fd, unix.EPOLLIN)
	}
	l.mark()
	return l, nil
}

// regiven finds the very socket among those that systemd has given to us.
func (t *Table) regiven(s *SocketRecord) (fd int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.given, func(g Given) bool {
		cookie, err := cookieOf(g.FD)
		return s.Given && err == nil && cookie == s.Cookie
	})
	if i < 0 {
		return -1, false
	}
	fd = t.given[i].FD
	t.given = slices.Delete(t.given, i, i+1)
	return fd, true
}

// replaced says that systemd has bound the address anew: then the new one counts.
func (s *SocketRecord) replaced(given []Given) error {
	for _, g := range given {
		if s.Given && g.at(s.Bound) {
			return errors.New("systemd has bound it anew; processes that were started with it must be replaced")
		}
	}
	return nil
}

func (s *SocketRecord) baseline(fd int) *Baseline {
	if s.Options == nil {
		return observe(fd, s.Bound)
	}
	return s.Options
}

var errNotKept = errors.New("its descriptor was not kept")

// inspect says why a descriptor is not this socket.
func inspect(fd int, cookie uint64, bound unit.Address) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return errors.New("what was kept is no socket")
	}
	if kind != unix.SOCK_STREAM {
		return errors.New("what was kept is no stream socket")
	}
	if is, err := cookieOf(fd); err != nil || is != cookie {
		return errors.Join(errors.New("what was kept is another socket"), err)
	}
	if at := boundTo(fd); at != bound {
		return fmt.Errorf("what was kept is bound to %s", at)
	}
	return nil
}

// reoccupy is [occupy] for a path that was bound before us.
func reoccupy(at string, node Node) (*place, error) {
	if !strings.HasPrefix(at, "/") {
		return nil, fmt.Errorf("%q is no path", at)
	}
	p, err := occupy(at)
	if err != nil {
		return nil, err
	}
	err = p.find(node)
	if err != nil {
		return nil, errors.Join(err, p.leave())
	}
	return p, nil
}
