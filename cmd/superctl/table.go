package main

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// The table of all units fits into the terminal. What gives way first, if it
// does not fit: hosts of addresses, MEM, RESTARTS, the end of NOTE, UPTIME, PID,
// LISTEN. In a pipe everything is written.

// A row is a unit in the table; "" is a dash.
type row struct {
	name, state, ready, gen, pid, uptime, restarts, mem, listen, note string
	style                                                             lipgloss.Style
}

// A column is what it is called, what is in it, and how soon it is left out.
type column struct {
	title string
	of    func(row) string
	drop  int // 1: first; 0: never
}

var columns = []column{
	{"NAME", func(r row) string { return r.name }, 0},
	{"STATE", func(r row) string { return r.state }, 0},
	{"READY", func(r row) string { return r.ready }, 0},
	{"GEN", func(r row) string { return r.gen }, 6},
	{"PID", func(r row) string { return r.pid }, 4},
	{"UPTIME", func(r row) string { return r.uptime }, 3},
	{"RESTARTS", func(r row) string { return r.restarts }, 2},
	{"MEM", func(r row) string { return r.mem }, 1},
	{"LISTEN", func(r row) string { return r.listen }, 5},
	{"NOTE", func(r row) string { return r.note }, 0},
}

const (
	gap       = 2  // columns between columns
	leastNote = 16 // columns of NOTE that are worth others
)

func (s *session) showTable(st ipc.Status) {
	rows := rowsOf(st, wholeAddress)
	if len(rows) == 0 {
		s.out.print("no service is configured\n")
		return
	}
	cols := used(rows)
	if !fits(cols, rows, s.out.width) {
		rows = rowsOf(st, briefAddress)
	}
	for drop := 1; !fits(cols, rows, s.out.width) && drop <= len(columns); drop++ {
		cols = without(cols, drop)
	}
	s.draw(cols, rows)
}

// used leaves out what is empty in every row: nobody listens, nothing to note.
func used(rows []row) (cols []column) {
	for _, c := range columns {
		for _, r := range rows {
			if c.of(r) != "" {
				cols = append(cols, c)
				break
			}
		}
	}
	return cols
}

func without(cols []column, drop int) (rest []column) {
	for _, c := range cols {
		if c.drop != drop {
			rest = append(rest, c)
		}
	}
	return rest
}

// fits: all columns are shown whole, or at least the beginning of notes.
func fits(cols []column, rows []row, width int) bool {
	total := 0
	for _, c := range cols {
		w := widthOf(c, rows)
		if c.title == "NOTE" {
			w = min(w, leastNote)
		}
		total += w + gap
	}
	return width == 0 || total-gap <= width
}

func widthOf(c column, rows []row) int {
	w := len(c.title)
	for _, r := range rows {
		w = max(w, lipgloss.Width(orDash(c.of(r))))
	}
	return w
}

// draw writes the table, and cuts what is still too long.
func (s *session) draw(cols []column, rows []row) {
	room := s.out.width
	for _, c := range cols[:len(cols)-1] {
		room -= widthOf(c, rows) + gap
	}
	t := table.New().BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).
		BorderColumn(false).BorderRow(false).BorderHeader(false).Wrap(false).
		StyleFunc(func(line, col int) lipgloss.Style { return s.styleOf(cols, rows, line, col) })
	var titles []string
	for _, c := range cols {
		titles = append(titles, c.title)
	}
	t.Headers(titles...)
	for _, r := range rows {
		var cells []string
		for i, c := range cols {
			text := orDash(c.of(r))
			if last := i == len(cols)-1; last && s.out.width > 0 {
				text = cut(text, max(room, 1))
			}
			cells = append(cells, text)
		}
		t.Row(cells...)
	}
	for line := range strings.Lines(t.String() + "\n") {
		line = strings.TrimRight(line, " \n")
		s.out.print("%s\n", painted(cut(line, s.lineWidth())))
	}
}

// lineWidth is for terminals too narrow for anything. Lines with colours are
// not cut: the terminal wraps them, and that is all.
func (s *session) lineWidth() int {
	if s.out.color {
		return 0
	}
	return s.out.width
}

func (s *session) styleOf(cols []column, rows []row, line, col int) lipgloss.Style {
	style := plain
	switch {
	case !s.out.color:
	case line == table.HeaderRow:
		style = faint
	case cols[col].title == "STATE":
		style = rows[line].style
	}
	if col < len(cols)-1 {
		style = style.PaddingRight(gap)
	}
	return style
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// rowsOf makes the rows: services, and sockets that no service has.
func rowsOf(st ipc.Status, address func(string) string) (rows []row) {
	for _, u := range st.Services {
		rows = append(rows, serviceRow(st, u, address))
	}
	for _, x := range st.Sockets {
		if len(x.Services) == 0 {
			rows = append(rows, socketRow(x, address))
		}
	}
	return rows
}

func serviceRow(st ipc.Status, u ipc.UnitStatus, address func(string) string) row {
	r := row{
		name: printable(u.Name), state: printable(u.SubState), style: stateStyle(u.ActiveState),
		ready: fmt.Sprintf("%d/%d", u.Ready, u.Want), restarts: fmt.Sprint(u.Restarts),
		listen: listens(st, u, address), note: printable(noteOf(u)),
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

func noteOf(u ipc.UnitStatus) string {
	switch {
	case u.Note != "":
		return u.Note
	case u.Removed:
		return "removed from the configuration"
	}
	return u.StatusText
}

func socketRow(x ipc.SocketUnit, address func(string) string) row {
	r := row{name: printable(x.Name + ".socket"), state: "listening", style: good, listen: addresses(x, address)}
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

func stateStyle(active string) lipgloss.Style {
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
func listens(st ipc.Status, u ipc.UnitStatus, address func(string) string) string {
	var all []string
	for _, name := range u.Sockets {
		for _, x := range st.Sockets {
			if x.Name == name {
				all = append(all, addresses(x, address))
			}
		}
	}
	return strings.Join(all, ",")
}

func addresses(x ipc.SocketUnit, address func(string) string) string {
	var all []string
	for _, y := range x.Sockets {
		text := address(printable(y.Address))
		switch {
		case y.Error != "":
			text += " (failed)"
		case !y.Listening:
			text += " (refused)"
		}
		all = append(all, text)
	}
	return strings.Join(all, ",")
}

// wholeAddress leaves out only a host that stands for all.
func wholeAddress(a string) string {
	for _, any := range []string{"[::]:", "0.0.0.0:"} {
		if port, ok := strings.CutPrefix(a, any); ok {
			return ":" + port
		}
	}
	return a
}

// briefAddress leaves out every host.
func briefAddress(a string) string {
	if i := strings.LastIndexByte(a, ':'); i > 0 && !strings.HasPrefix(a, "/") && !strings.HasPrefix(a, "@") {
		return a[i:]
	}
	return a
}

// size is bytes for people.
func size(n uint64) string {
	f := float64(n)
	for _, unit := range []string{"B", "K", "M", "G"} {
		if f < 1000 {
			if f < 10 && unit != "B" && unit != "K" {
				return fmt.Sprintf("%.1f%s", f, unit)
			}
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
