package socket

import (
	"errors"
	"slices"
)

// Listen makes every address that the last Bind of a unit named accept connections or
// queue them. It is for the start of a process, is idempotent, and mends first what
// others did to the unit's sockets, as [Table.Audit] does. It also opens what was bound
// anew while processes have a dead socket instead, since the process that starts gets
// one that works; if [Table.Files] gives it to none, or that process ends before them,
// clients are refused again.
// If one address cannot ([*BindError]), those that did not listen before do not
// now: no client waits for a service that will not start.
func (t *Table) Listen(name string) error {
	g, end := t.begin(name)
	for _, e := range g.each() {
		e.forget() // a note of it ends with the next start
	}
	found := g.audit()
	err, late := g.listen()
	end()
	t.watch.say(name, found)
	if late {
		t.watch.later(name)
	}
	return err
}

// listen says whether it opened what is only for the start of a process: if none gets
// it soon, clients are refused again.
func (g *group) listen() (err error, late bool) {
	fresh := g.turn(true)
	var opened []endpoint
	for _, l := range g.snapshot() {
		if l.serving() || fresh && void(l) {
			continue
		}
		late = late || void(l)
		if e := l.listen(); e != nil {
			err = errors.Join(err, e)
		} else {
			opened = append(opened, l)
		}
	}
	if err != nil {
		for _, l := range opened {
			err = errors.Join(err, l.refuse())
		}
		g.turn(g.listens())
	}
	err = errors.Join(err, g.redeal())
	return one(err), late
}

// turn notes whether the unit is in use, and says whether it was just taken over.
func (g *group) turn(up bool) (fresh bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fresh, g.fresh, g.up = g.fresh, false, up
	return fresh
}

// listens says whether any address does.
func (g *group) listens() bool {
	return slices.ContainsFunc(g.snapshot(), func(e endpoint) bool { return e.status().Listening })
}

// Refuse makes clients be refused at once (ECONNREFUSED), if when_down says so, at
// every address of the unit, also those that only an earlier Bind named; where it is
// steered, as long as no process has a share.
// Nothing else can take the addresses meanwhile. A unix path is bound anew, so
// descriptors from [Table.Files] are void: call Files again after Listen.
// Sockets that systemd gave keep queueing, since systemd listens on them too; then
// Queues of [Status] says so.
func (t *Table) Refuse(name string) error {
	g, end := t.begin(name)
	defer end()
	g.turn(false)
	var err error
	for _, l := range g.each() {
		err = errors.Join(err, l.refuse())
		if l, ok := l.(*listener); ok {
			l.settle()
		}
	}
	return one(errors.Join(err, g.redeal()))
}
