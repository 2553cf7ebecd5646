package socket

import (
	"errors"
	"maps"
	"slices"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Trim closes the addresses of a unit that neither its last Bind names nor any of
// keep. Its time is when no process is left that was started with them, or once those
// can do without new clients.
func (t *Table) Trim(name string, keep ...*unit.Socket) error {
	g, end := t.begin(name)
	defer end()
	return t.trim(name, g, keep)
}

// Yield is Trim after a Bind that failed: it also closes what the last one that did not
// fail has named, if none of keep does. Else two units that are to swap their addresses
// would wait for each other.
func (t *Table) Yield(name string, keep ...*unit.Socket) error {
	g, end := t.begin(name)
	defer end()
	g.mu.Lock()
	var order []endpoint
	for _, e := range g.order {
		named := func(s *unit.Socket) bool {
			return slices.ContainsFunc(s.Listen, func(a unit.Address) bool { return g.all[a] == e })
		}
		if slices.ContainsFunc(keep, named) {
			order = append(order, e)
		}
	}
	g.order = order
	g.mu.Unlock()
	return t.trim(name, g, keep)
}

// trim needs op. What goes is forgotten before it is closed: a record that names
// what nobody has would be an error, what is kept and not recorded is just closed.
func (t *Table) trim(name string, g *group, keep []*unit.Socket) (err error) {
	g.mu.Lock()
	var former []endpoint
	maps.DeleteFunc(g.all, func(a unit.Address, l endpoint) bool {
		kept := slices.ContainsFunc(keep, func(s *unit.Socket) bool { return slices.Contains(s.Listen, a) })
		gone := !kept && !slices.Contains(g.order, l)
		if gone {
			former = append(former, l)
		}
		return gone
	})
	g.mu.Unlock()
	g.furnish()
	t.remember(name, g)
	for _, l := range former {
		err = errors.Join(err, l.close())
	}
	return err
}

// Drop closes every socket of a unit, and removes the unix paths that are ours.
// Processes that have copies keep them.
func (t *Table) Drop(name string) error {
	g, end := t.begin(name)
	defer end()
	g.mu.Lock()
	g.order = nil
	g.mu.Unlock()
	return t.trim(name, g, nil)
}
