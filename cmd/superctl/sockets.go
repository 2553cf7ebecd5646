package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

func socketsCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "sockets [UNIT...]",
		Short: "show listening sockets and the kernel's counts for them",
		Long: `sockets shows each listening socket: how many connections are waiting to be accepted,
how many can wait, and how many packets were dropped since the socket was created.
For a steered socket it also shows which share of new connections each process gets.

UNIT is a socket, or a service, which stands for all its sockets.`,
		Args:              checkUnits,
		ValidArgsFunction: s.completeUnits,
	}
	s.outputFlag(c, "table")
	c.RunE = func(c *cobra.Command, names []string) error {
		for i, name := range names {
			names[i] = strings.TrimSuffix(name, ".socket")
		}
		st, err := s.client().Status(c.Context())
		if err != nil {
			return err
		}
		units, err := socketUnits(st, names)
		if err != nil {
			return err
		}
		if s.json {
			return s.out.json(units)
		}
		s.showSockets(units, names)
		return nil
	}
	return c
}

// socketUnits are the socket units that are meant by names of theirs or of
// services; all if there are none.
func socketUnits(st ipc.Status, names []string) (units []ipc.SocketUnit, err error) {
	units = []ipc.SocketUnit{}
	known := map[string]bool{}
	for _, u := range st.Services {
		known[u.Name] = true
	}
	for _, x := range st.Sockets {
		known[x.Name] = true
		if len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return means(name, x) }) {
			units = append(units, x)
		}
	}
	for _, name := range names {
		if !known[name] {
			return nil, noSuchSocket(name, slices.Sorted(maps.Keys(known)))
		}
	}
	return units, nil
}

// means: name is that of a socket unit, or of a service that has it.
func means(name string, x ipc.SocketUnit) bool {
	return name == x.Name || slices.Contains(x.Services, name)
}

func noSuchSocket(name string, known []string) error {
	e := &ipc.Error{Code: ipc.NoSuchUnit, Message: fmt.Sprintf("cannot show %s: no such service or socket", name), Hints: []string{"superctl sockets"}}
	if near := meant(name, known); near != "" {
		e.Hints = []string{"did you mean " + near + "?"}
	}
	return e
}

// A socketLine is a row of the table: a socket, or a seat of the unit above it.
type socketLine struct {
	unit, address, state, queue, drops, share, pid, note string
	style                                                style
}

var socketColumns = []column[socketLine]{
	{title: "UNIT", of: func(l socketLine) string { return l.unit }, least: nameLeast, name: true},
	{title: "ADDRESS", of: func(l socketLine) string { return dash(l.address) }, least: 18},
	{title: "STATE", of: func(l socketLine) string { return dash(l.state) }, look: func(l socketLine) style { return l.style }},
	{title: "QUEUE", of: func(l socketLine) string { return dash(l.queue) }},
	{title: "DROPPED", of: func(l socketLine) string { return dash(l.drops) }, drop: 3},
	{title: "SHARE", of: func(l socketLine) string { return dash(l.share) }, drop: 2},
	{title: "PID", of: func(l socketLine) string { return dash(l.pid) }, drop: 1},
	{title: "NOTE", of: func(l socketLine) string { return l.note }, least: 26},
}

// showSockets also says which of the services that were named have none.
func (s *session) showSockets(units []ipc.SocketUnit, names []string) {
	var lines []socketLine
	for _, x := range units {
		lines = append(lines, socketLines(x)...)
	}
	switch {
	case len(lines) > 0:
		table(s, socketColumns, func(brevity) []socketLine { return lines })
	case len(names) == 0:
		s.out.print("no socket is configured\n")
	}
	for _, name := range unique(names) {
		if !slices.ContainsFunc(units, func(x ipc.SocketUnit) bool { return means(name, x) }) {
			s.note(name + " has no socket")
		}
	}
}

func socketLines(x ipc.SocketUnit) (lines []socketLine) {
	for _, y := range x.Sockets {
		l := socketLine{unit: x.Name, address: y.Address, state: "listening", style: good, drops: fmt.Sprint(y.Drops + y.Lost), note: socketNote(y)}
		switch {
		case y.Error != "":
			l.state, l.style = "failed", bad
		case !y.Listening:
			l.state, l.style = "refuses", plain
		case y.Steered:
			l.state = "steered"
		}
		if y.Queue >= 0 && y.Limit >= 0 {
			l.queue = fmt.Sprintf("%d/%d", y.Queue, y.Limit)
		}
		lines = append(lines, l)
	}
	for _, seat := range x.Seats {
		if seat.PID == 0 && seat.Queue == 0 && seat.Stray == 0 {
			continue
		}
		l := socketLine{unit: x.Name, address: fmt.Sprintf("  seat %d", seat.Index), queue: fmt.Sprint(seat.Queue), drops: fmt.Sprint(seat.Drops), share: share(seat.Share)}
		if seat.PID != 0 {
			l.pid = fmt.Sprint(seat.PID)
		}
		if seat.Stray > 0 {
			l.note = count(int(seat.Stray), "connection") + " came here past the shares"
		}
		lines = append(lines, l)
	}
	return lines
}

func socketNote(y ipc.Socket) string {
	var notes []string
	for _, n := range []string{y.Error, y.Note, y.Last} {
		if n != "" {
			notes = append(notes, n)
		}
	}
	if y.Given {
		notes = append(notes, "given by systemd")
	}
	return strings.Join(notes, "; ")
}

// share is a share of new connections for people.
func share(percent float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", percent), "0"), ".") + "%"
}
