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
// refuses as well; until then [Status] says so. A steered address keeps its seats,
// and one that is open stays shared or steered as it is until it is closed. With
// [unit.Queue] clients queue from now on, otherwise they are refused until
// [Table.Listen].
//
// The error is a [*BindError], or several joined; then nothing has changed.
// Addresses that an earlier Bind named and this one does not are kept, and may
// still be accepted from, until [Table.Trim].
func (t *Table) Bind(s *unit.Socket) error {
	g, end := t.begin(s.Name)
	defer end()
	g.bury()
	missing := g.missing(s.Listen)
	given, err := t.claim(s, missing)
	if err != nil {
		return err
	}
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
		return one(err)
	}
	return t.commit(g, s, fresh)
}

// closed is what a unit should have at an address, before it is opened.
func (t *Table) closed(g *group, s *unit.Socket, a unit.Address) endpoint {
	if !s.Steer || a.Network == "unix" {
		return t.newListener(g, s, a)
	}
	if len(g.seats) > 0 {
		return t.newRing(g, s, a, g.weights())
	}
	return t.newRing(g, s, a, firstWeights(s))
}

// begins notes what a Bind is about to open, for whoever asks meanwhile.
func (g *group) begins(all []unit.Address) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opening = all
}

// firstWeights lead to the first seat until somebody has one.
func firstWeights(s *unit.Socket) []uint32 {
	n := s.Shards
	if n <= 0 {
		n = defaultShards
	}
	w := make([]uint32, min(n, maxShards)+1)
	w[0] = 1
	return w
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
	return one(err)
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

// furnish makes the seats when the first ring is open, and removes them when the
// last one is closed and nothing is left of any.
func (g *group) furnish() {
	rings, left := g.rings(), g.remnants()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case len(rings) == 0 && len(left) > 0:
	case len(rings) == 0:
		g.seats = nil
	case len(g.seats) == 0:
		g.seats = make([]seat, len(rings[0].weights))
		for i, w := range rings[0].weights {
			g.seats[i].weight = w
		}
	}
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
