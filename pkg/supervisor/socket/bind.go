package socket

import (
	"errors"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Bind makes the table own every address of s, in this order. What it owns
// already stays as it is, with the options of s that an open socket can be given;
// what was given by systemd is taken; the rest is bound, and the directory of a path
// is made if it is missing (0755, as by DirectoryMode= of systemd.socket(5)). What
// changes the socket under those that have it (non_blocking) is done when no process
// has it, and what only a new one can have (free_bind, bind_ipv6_only) when it
// refuses as well; until then [Status] says so. An address
// that is open stays shared or steered as it is until no process has it and nobody
// waits there; then it is closed, and bound anew as s says. With
// [unit.Queue] clients queue from now on, otherwise they are refused until
// [Table.Listen].
//
// The error is a [*BindError], or several joined; then nothing has changed.
// Addresses that an earlier Bind named and this one does not are kept, and may
// still be accepted from, until [Table.Trim].
func (t *Table) Bind(s *unit.Socket) error {
	g, end := t.begin(s.Name)
	defer end()
	g.convert(s)
	missing := g.missing(s.Listen)
	given, err := t.claim(s, missing)
	if err != nil {
		return err
	}
	g.foresee(s)
	fresh := map[unit.Address]endpoint{}
	g.begins(missing)
	defer g.begins(nil)
	for _, a := range missing {
		if fd, ok := given[a]; ok {
			fresh[a] = t.taken(g, s, a, fd)
			continue
		}
		e := t.closed(g, s, a)
		if failed := e.open(); failed != nil {
			err = errors.Join(err, t.ownOr(failed, a))
			continue
		}
		fresh[a] = e
	}
	if err != nil {
		t.abandon(fresh, given)
		g.furnish()
		return one(err)
	}
	return t.commit(g, s, fresh)
}

// closed is what a unit should have at an address, before it is opened.
func (t *Table) closed(g *group, s *unit.Socket, a unit.Address) endpoint {
	if steers(s, a) {
		return t.newRing(g, s, a)
	}
	return t.newListener(g, s, a)
}

func steers(s *unit.Socket, a unit.Address) bool { return s.Steer && a.Network == "tcp" }

// convert closes what is shared and is to be steered, or the other way round.
func (g *group) convert(s *unit.Socket) {
	for _, a := range s.Listen {
		e := g.all[a]
		if e == nil || e.steered() == steers(s, a) || e.inUse() {
			continue
		}
		g.mu.Lock()
		delete(g.all, a)
		g.order = slices.DeleteFunc(g.order, func(o endpoint) bool { return o == e })
		g.mu.Unlock()
		e.close()
	}
}

// foresee sets what a first ring's clients are to be met with.
func (g *group) foresee(s *unit.Socket) {
	if g.deal.fd < 0 {
		g.deal.now.Card = g.cards(s, nil)
	}
}

// begins notes what a Bind is about to open, for whoever asks meanwhile.
func (g *group) begins(all []unit.Address) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opening = all
}

// ownOr names the unit if the address is taken by one of ours: a port that is
// bound and silent shows nowhere else.
func (t *Table) ownOr(err error, a unit.Address) error {
	var e *BindError
	if !errors.As(err, &e) || !errors.Is(err, unix.EADDRINUSE) || e.PID > 0 && e.PID != os.Getpid() {
		return err
	}
	for _, name := range t.Names() {
		g := t.find(name)
		if g == nil {
			continue
		}
		for _, l := range g.each() {
			if collide(l.where(), a) {
				e.PID, e.Command = os.Getpid(), "[socket."+name+"]"
			}
		}
	}
	return err
}

// missing lists the addresses that have no socket yet.
func (g *group) missing(all []unit.Address) (m []unit.Address) {
	for _, a := range all {
		if g.all[a] == nil && !slices.Contains(m, a) {
			m = append(m, a)
		}
	}
	return m
}

// commit makes the new sockets part of the group and the order that of s.
func (t *Table) commit(g *group, s *unit.Socket, fresh map[unit.Address]endpoint) (err error) {
	g.spec = s
	g.mourn(fresh)
	g.mu.Lock()
	maps.Copy(g.all, fresh)
	g.order = g.order[:0:0]
	for _, a := range s.Listen {
		if e := g.all[a]; !slices.Contains(g.order, e) {
			g.order = append(g.order, e)
		}
	}
	order := g.order
	g.mu.Unlock()
	g.furnish()
	t.remember(s.Name, g)
	for _, l := range order {
		l.configure(s)
		if s.WhenDown == unit.Queue && !void(l) {
			err = errors.Join(err, l.listen())
		}
	}
	return one(errors.Join(err, g.redeal()))
}

// mourn has what is bound anew wait for those that have a dead socket instead.
func (g *group) mourn(fresh map[unit.Address]endpoint) {
	for a, e := range fresh {
		if l, ok := e.(*listener); ok {
			l.gone = g.lost[a]
		}
		delete(g.lost, a)
	}
}

// void says that a socket does not listen since processes have a dead one instead.
func void(e endpoint) bool {
	l, ok := e.(*listener)
	return ok && l.gone != 0
}

// furnish lets go of the deal when the last ring is closed.
func (g *group) furnish() {
	if len(g.rings()) > 0 {
		return
	}
	g.deal.close()
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.members)
	g.shares, g.closed, g.inForce = nil, false, nil
}

// abandon undoes a Bind that failed half way.
func (t *Table) abandon(fresh map[unit.Address]endpoint, given map[unit.Address]Given) {
	for a, e := range fresh {
		if g, ok := given[a]; ok {
			t.watch.drop(g.FD)
			t.custody.drop(g.FD)
		} else {
			e.close()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range given {
		t.given = append(t.given, g)
	}
}
