package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// A table fits into the terminal. If it is too wide, hosts of addresses and what
// services say of themselves are left out, then columns in the order of their drop;
// NOTE, LISTEN and long names are cut, but not below their least, since state and
// note are what one looks for. In a pipe everything is written.

// brevity is how much room there is.
type brevity bool

const (
	whole brevity = false
	brief brevity = true
)

// A row is a unit in the table; "" is a dash.
type row struct {
	name, state, ready, gen, pid, uptime, restarts, mem, listen, note string
	style                                                             style
}

// A column is what it is called and what is in it, for a row of a table of Rs.
type column[R any] struct {
	title string
	of    func(R) string
	look  func(R) style // nil: plain
	drop  int           // how soon it is left out, 1: first; 0: never
	least int           // columns that it can be cut to; 0: it cannot be cut
	name  bool          // it is cut in the middle
	width int           // what it gets
}

// nameLeast is what a name keeps of its columns.
const nameLeast = 24

var columns = []column[row]{
	{title: "NAME", of: func(r row) string { return r.name }, least: nameLeast, name: true},
	{title: "STATE", of: func(r row) string { return r.state }, look: func(r row) style { return r.style }},
	{title: "READY", of: func(r row) string { return dash(r.ready) }, drop: 7},
	{title: "GEN", of: func(r row) string { return dash(r.gen) }, drop: 6},
	{title: "PID", of: func(r row) string { return dash(r.pid) }, drop: 4},
	{title: "UPTIME", of: func(r row) string { return dash(r.uptime) }, drop: 3},
	{title: "RESTARTS", of: func(r row) string { return dash(r.restarts) }, drop: 2},
	{title: "MEM", of: func(r row) string { return dash(r.mem) }, drop: 1},
	{title: "LISTEN", of: func(r row) string { return dash(r.listen) }, drop: 5, least: 10},
	{title: "NOTE", of: func(r row) string { return r.note }, least: 40},
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// gap is how many columns are between two.
const gap = 2

func (s *session) showTable(st ipc.Status) {
	if len(rowsOf(st, whole)) == 0 {
		s.out.print("no service is configured\n")
		return
	}
	table(s, columns, func(b brevity) []row { return rowsOf(st, b) })
}

// table writes the rows that rowsOf makes, so that they fit.
func table[R any](s *session, all []column[R], rowsOf func(brevity) []R) {
	rows := rowsOf(whole)
	cols, ok := layout(all, rows, s.out.width)
	if !ok {
		rows = rowsOf(brief)
		cols, ok = layout(all, rows, s.out.width)
	}
	for drop := 1; !ok && drop <= len(all); drop++ {
		cols, ok = layout(without(cols, drop), rows, s.out.width)
	}
	draw(s, cols, rows)
}

// layout gives each column its width, and says whether they fit. Columns that
// are empty in every row are left out.
func layout[R any](cols []column[R], rows []R, room int) (fit []column[R], ok bool) {
	excess := -gap - room
	for _, c := range cols {
		c.width = len(c.title)
		empty := true
		for _, r := range rows {
			c.width = max(c.width, width(printable(c.of(r))))
			empty = empty && (c.of(r) == "" || c.of(r) == "-")
		}
		if !empty {
			fit = append(fit, c)
			excess += c.width + gap
		}
	}
	if room == 0 {
		return fit, true
	}
	for i := len(fit) - 1; i >= 0; i-- {
		c := &fit[i]
		if give := min(excess, c.width-c.least); c.least > 0 && give > 0 {
			c.width -= give
			excess -= give
		}
	}
	return fit, excess <= 0
}

func without[R any](cols []column[R], drop int) (rest []column[R]) {
	for _, c := range cols {
		if c.drop != drop {
			rest = append(rest, c)
		}
	}
	return rest
}

// draw writes the table: what is in a column begins below its title.
func draw[R any](s *session, cols []column[R], rows []R) {
	drawLine(s, cols, func(c column[R]) (string, style) { return c.title, faint })
	for _, r := range rows {
		drawLine(s, cols, func(c column[R]) (string, style) {
			if c.look == nil {
				return c.of(r), plain
			}
			return c.of(r), c.look(r)
		})
	}
}

// drawLine cuts what is too long for its column, and the line if it is for a
// terminal that is too narrow for anything.
func drawLine[R any](s *session, cols []column[R], cell func(column[R]) (string, style)) {
	room := s.out.width
	var line strings.Builder
	for i, c := range cols {
		text, look := cell(c)
		text = c.fit(printable(text))
		if s.out.width > 0 {
			text = cut(text, max(room, 1))
			room -= c.width + gap
		}
		line.WriteString(string(s.out.paint(look, text)))
		if i < len(cols)-1 {
			line.WriteString(strings.Repeat(" ", c.width-width(text)+gap))
		}
		if s.out.width > 0 && room <= 0 {
			break
		}
	}
	s.out.print("%s\n", painted(strings.TrimRight(line.String(), " ")))
}

func (c column[R]) fit(text string) string {
	if c.name {
		return cutMiddle(text, c.width)
	}
	return cut(text, c.width)
}

// rowsOf makes the rows: services, and sockets that no service has.
func rowsOf(st ipc.Status, b brevity) (rows []row) {
	for _, u := range st.Services {
		rows = append(rows, serviceRow(st, u, b))
	}
	for _, x := range st.Sockets {
		if len(x.Services) == 0 {
			rows = append(rows, socketRow(x, b))
		}
	}
	return rows
}

func serviceRow(st ipc.Status, u ipc.UnitStatus, b brevity) row {
	r := row{
		name: printable(u.Name), state: printable(u.SubState), style: stateStyle(u.ActiveState),
		ready: fmt.Sprintf("%d/%d", u.Ready, u.Want), restarts: fmt.Sprint(u.Restarts),
		listen: listens(st, u, b), note: printable(noteOf(u, b)),
	}
	if u.Generation != 0 {
		r.gen = fmt.Sprint(u.Generation)
	}
	if u.MainPID != 0 {
		r.pid = fmt.Sprint(u.MainPID)
	}
	if u.Since != nil && u.Ready > 0 {
		r.uptime = short(st.Time.Sub(*u.Since))
	}
	if u.Memory != 0 {
		r.mem = size(u.Memory)
	}
	return r
}

func noteOf(u ipc.UnitStatus, b brevity) string {
	switch {
	case u.Note != "":
		return u.Note
	case u.Removed:
		return "removed from the configuration"
	case b == brief:
		return ""
	}
	return u.StatusText
}

func socketRow(x ipc.SocketUnit, b brevity) row {
	r := row{name: printable(x.Name + ".socket"), state: "listening", style: good, listen: addresses(x, b)}
	if !open(x) {
		r.state, r.style = "refused", faint
	}
	for _, y := range x.Sockets {
		if y.Error != "" {
			r.state, r.style, r.note = "failed", bad, printable(y.Error)
		}
	}
	return r
}

func stateStyle(active string) style {
	switch active {
	case "active":
		return good
	case "failed":
		return bad
	case "inactive":
		return faint
	}
	return moving
}

// listens are the addresses of a service's sockets.
func listens(st ipc.Status, u ipc.UnitStatus, b brevity) string {
	var all []string
	for _, name := range u.Sockets {
		for _, x := range st.Sockets {
			if x.Name == name {
				all = append(all, addresses(x, b))
			}
		}
	}
	return strings.Join(all, ",")
}

func addresses(x ipc.SocketUnit, b brevity) string {
	var all []string
	for _, y := range x.Sockets {
		text := address(printable(y.Address), b)
		switch {
		case y.Error != "":
			text = strings.TrimLeft(text+" (failed)", " ")
		case !y.Listening:
			text += " (refused)"
		}
		all = append(all, text)
	}
	return strings.Join(all, ",")
}

// address leaves out a host that stands for all; or any, to be brief.
func address(a string, b brevity) string {
	for _, all := range []string{"[::]:", "0.0.0.0:"} {
		if port, ok := strings.CutPrefix(a, all); ok {
			return ":" + port
		}
	}
	if i := strings.LastIndexByte(a, ':'); b == brief && i > 0 && a[0] != '/' && a[0] != '@' {
		return a[i:]
	}
	return a
}

// size is bytes for people.
func size(n uint64) string {
	f := float64(n)
	for _, unit := range []string{"B", "K", "M", "G"} {
		switch {
		case f < 9.95 && unit != "B" && unit != "K":
			return fmt.Sprintf("%.1f%s", f, unit)
		case f < 999.5:
			return fmt.Sprintf("%.0f%s", f, unit)
		}
		f /= 1024
	}
	return fmt.Sprintf("%.1fT", f)
}

// short is a duration in its two largest units.
func short(d time.Duration) string {
	d = max(d, 0)
	day, hour := 24*time.Hour, time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%02dm", d/hour, d%hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/day, d%day/hour)
}
