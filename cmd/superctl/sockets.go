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
Below a steered socket it shows each process that has it, with its own queue and its share
of new connections, and who waits while no process serves.

UNIT is a socket, or a service, which stands for all its sockets.

With --try it sends one HTTP GET to exactly one process of a service, through the real
address of its steered socket, even if that process gets no new connections: to the new
process during a reload, else to the one that serves; SERVICE/next and SERVICE/main choose,
SERVICE/N is instance N. The request is a plain HTTP/1.1 one for localhost. What comes
within 5 seconds is shown: the status, the first headers and the first KiB of the body. The
exit status is 1 if no HTTP answer comes, or one with a status of 500 or more.`,
		Args:              checkUnits,
		ValidArgsFunction: s.completeUnits,
	}
	s.outputFlag(c, "table")
	a := attempt{path: "/"}
	a.flags(c)
	c.RunE = func(c *cobra.Command, names []string) error {
		if c.Flags().Changed("try") {
			return s.try(c, a, names)
		}
		if other := a.changed(c); other != "" {
			return misuse(c, "--%s is for --try alone", other)
		}
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

// A socketLine is a row of the table: a socket, or a process with a queue of its own at
// the socket above it.
type socketLine struct {
	unit, address, state, queue, drops, share, pid, note string
	style                                                style
}

var socketColumns = []column[socketLine]{
	{title: "UNIT", of: func(l socketLine) string { return l.unit }, least: nameLeast, name: true},
	{title: "ADDRESS", of: func(l socketLine) string { return dash(l.address) }, least: 18},
	{title: "STATE", of: func(l socketLine) string { return dash(l.state) }, look: func(l socketLine) style { return l.style }},
	{title: "QUEUE", of: func(l socketLine) string { return dash(l.queue) }},
	{title: "DROPPED", of: func(l socketLine) string { return dash(l.drops) }, drop: 1},
	{title: "SHARE", of: func(l socketLine) string { return dash(l.share) }, drop: 3},
	{title: "PID", of: func(l socketLine) string { return dash(l.pid) }, drop: 2},
	{title: "NOTE", of: func(l socketLine) string { return l.note }, least: 18},
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
		l := socketLine{unit: x.Name, address: y.Address, state: "listening", style: good, drops: fmt.Sprint(y.Drops), queue: queueText(y.Queue, y.Limit), note: socketNote(y)}
		switch {
		case y.Error != "":
			l.state, l.style = "failed", bad
		case !y.Listening:
			l.state, l.style = "refuses", plain
		case y.Steered:
			l.state = "steered"
		}
		lines = append(lines, l)
		lines = append(lines, holderLines(x, y.Address)...)
	}
	return lines
}

func queueText(queue, limit int) string {
	if queue < 0 || limit < 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", queue, limit)
}

// holderLines are the processes that have a queue at an address. Who waits for nobody in
// particular is worth a row only if somebody does.
func holderLines(x ipc.SocketUnit, address string) (lines []socketLine) {
	many := slices.ContainsFunc(x.Holders, func(h ipc.SocketHolder) bool { return h.Instance > 0 })
	for _, h := range x.Holders {
		i := slices.IndexFunc(h.Queues, func(q ipc.SocketQueue) bool { return q.Address == address })
		if i < 0 || h.Role == "" && h.Queues[i].Queue <= 0 {
			continue
		}
		q := h.Queues[i]
		l := socketLine{unit: x.Name, address: "  " + h.Role, queue: queueText(q.Queue, q.Limit), drops: fmt.Sprint(q.Drops), share: share(h.Share)}
		switch {
		case h.Role == "":
			l.address, l.share, l.note = "  nobody yet", "", "they wait for a process that serves"
		case many:
			l.address += fmt.Sprintf(" [%d]", h.Instance)
		}
		if h.PID != 0 {
			l.pid = fmt.Sprint(h.PID)
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
