package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

func socketsCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "sockets [UNIT...]",
		Short: "show listening sockets, and what the kernel counts at them",
		Long: `sockets shows each listening socket: how many connections wait to be accepted,
how many may, and how many packets were dropped since the socket was made. Of a steered
socket it shows which process gets which share of new connections.

A UNIT is a socket, or a service, for all that it has.`,
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
		s.showSockets(units)
		return nil
	}
	return c
}

// socketUnits are the socket units that are meant by names of theirs or of
// services; all if there are none.
func socketUnits(st ipc.Status, names []string) (units []ipc.SocketUnit, err error) {
	known := map[string]bool{}
	for _, u := range st.Services {
		known[u.Name] = true
	}
	for _, x := range st.Sockets {
		known[x.Name] = true
		wanted := func(name string) bool { return name == x.Name || slices.Contains(x.Services, name) }
		if len(names) == 0 || slices.ContainsFunc(names, wanted) {
			units = append(units, x)
		}
	}
	for _, name := range names {
		if !known[name] {
			return nil, &ipc.Error{Code: ipc.NoSuchUnit, Message: fmt.Sprintf("cannot show %s: there is no such service or socket", name), Hints: []string{"superctl sockets"}}
		}
	}
	return units, nil
}

// A socketLine is a row of the table: a socket, or a seat of the unit above it.
type socketLine struct {
	unit, address, state, queue, drops, share, pid, note string
	style                                                style
}

func (s *session) showSockets(units []ipc.SocketUnit) {
	var lines []socketLine
	for _, x := range units {
		lines = append(lines, socketLines(x)...)
	}
	if len(lines) == 0 {
		s.out.print("no socket is configured\n")
		return
	}
	cells := [][]string{{"UNIT", "ADDRESS", "STATE", "QUEUE", "DROPPED", "SHARE", "PID", "NOTE"}}
	for _, l := range lines {
		cells = append(cells, []string{l.unit, dash(l.address), dash(l.state), dash(l.queue), dash(l.drops), dash(l.share), dash(l.pid), l.note})
	}
	s.columns(cells, func(row, col int) style {
		switch {
		case row == 0:
			return faint
		case col == 2:
			return lines[row-1].style
		}
		return plain
	})
}

// columns writes cells below each other. Columns in which nobody has anything
// are left out.
func (s *session) columns(cells [][]string, look func(row, col int) style) {
	widths := make([]int, len(cells[0]))
	for col := range widths {
		for row, r := range cells {
			if row > 0 && r[col] != "-" && r[col] != "" {
				widths[col] = max(widths[col], width(cells[0][col]), width(printable(r[col])))
			}
		}
	}
	for row, r := range cells {
		var line strings.Builder
		for col, cell := range r {
			if widths[col] == 0 {
				continue
			}
			cell = printable(cell)
			line.WriteString(string(s.out.paint(look(row, col), cell)) + strings.Repeat(" ", widths[col]-width(cell)+gap))
		}
		s.out.print("%s\n", painted(strings.TrimRight(line.String(), " ")))
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
