package config

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// What an error costs depends on who reads. For --check, verify and daemon-reload
// each is one too many: they refuse the whole, and what ran before goes on. At a
// start nothing runs yet, and to refuse the whole would take all services down for
// the mistake of one. So there each error costs only what it is about:
//
//   - A unit with an error is set aside.
//   - So is a service with a socket that is.
//   - Of two units that cannot both be had (one address, one steered socket) it is
//     the later one in the text.
//   - A unit that is in two files is set aside: nobody knows which is meant.
//   - What is about no unit, like an include that cannot be read or a table that
//     nobody knows, is left out, and the configuration is degraded.
//   - What is about supervisord itself is fatal: with the wrong directories it would
//     not find what still runs.

// Aside is a unit that was left out because it has errors.
type Aside struct {
	Name     string
	Socket   bool      // it is a socket, else a service
	Problems []Problem // what is wrong, in the order of the text: errors, at least one
}

// String returns the name of the unit as commands take it: a socket's ends in .socket.
func (a Aside) String() string {
	if a.Socket {
		return a.Name + ".socket"
	}
	return a.Name
}

// An owner is what an error is about: a unit, supervisord itself, or neither.
type owner struct {
	kind string // socket, service, manager or none
	name string
}

var itself = owner{kind: "manager"}

// maxDegraded is how many lines are kept of what is about no unit.
const maxDegraded = 20

// meansManager says whether a name at the top of the first file may have been
// meant for [manager]: the table itself, or one of its keys.
func meansManager(name string) bool {
	return unit.Closest(name, append(wordsOf("manager"), "manager")) != ""
}

// unreadable notes that a file says nothing: a syntax error, of which alone is
// spoken, or that it cannot be read. At a start an included one is just left out.
func (l *load) unreadable(included bool, p Problem) {
	if !l.atStart || !included {
		l.broken = true
		l.problems, l.errors = nil, map[owner][]Problem{}
	}
	l.note(owner{}, p)
}

// refused says whether there is no configuration.
func (l *load) refused() bool {
	return l.broken || len(l.errors[itself]) > 0 || !l.atStart && len(l.errors) > 0
}

// aside says whether a unit is not to be had by others.
func (l *load) aside(of owner) bool { return l.atStart && len(l.errors[of]) > 0 }

// standingSockets are the sockets that are not set aside, in the order of the text.
func (l *load) standingSockets() (all []*socket) {
	for _, s := range l.sockets {
		if !l.aside(s.from.of) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *socket) int { return byPlace(a.from, b.from) })
	return all
}

// standingServices are the services that are not set aside, in the same order.
func (l *load) standingServices() (all []*service) {
	for _, s := range l.services {
		if !l.aside(s.from.of) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *service) int { return byPlace(a.from, b.from) })
	return all
}

// byPlace is the order of the text.
func byPlace(a, b cursor) int {
	x, y := a.place(), b.place()
	return cmp.Or(
		cmp.Compare(a.file.number, b.file.number),
		cmp.Compare(x.line, y.line), cmp.Compare(x.col, y.col), cmp.Compare(a.name, b.name),
	)
}

// follow sets services aside whose sockets are.
func (l *load) follow() {
	for _, s := range l.standingServices() {
		for i, name := range s.sockets {
			k := l.sockets[name]
			if k == nil || !l.aside(k.from.of) {
				continue
			}
			why := l.errors[k.from.of][0]
			s.set["sockets"].element(i, nil).wrong("[socket.%s] has an error (%s:%d); fix that first", quoteKey(name), why.File, why.Line)
		}
	}
}

// leaveOut says what was set aside, and what has no name to be set aside under.
func (l *load) leaveOut() {
	for of, problems := range l.errors {
		if of.name != "" {
			l.config.Aside = append(l.config.Aside, Aside{of.name, of.kind == "socket", inOrder(problems, l.config.Files)})
		}
	}
	slices.SortFunc(l.config.Aside, func(a, b Aside) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), compareBool(a.Socket, b.Socket))
	})
	rest := inOrder(l.errors[owner{}], l.config.Files)
	for _, p := range rest[:min(len(rest), maxDegraded)] {
		l.config.Degraded = append(l.config.Degraded, p.String())
	}
	if more := len(rest) - maxDegraded; more > 0 {
		l.config.Degraded = append(l.config.Degraded, fmt.Sprintf("%d more errors; to see them: superctl verify", more))
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
