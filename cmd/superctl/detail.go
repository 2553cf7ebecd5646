package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// The detailed view of a unit has one fact a line, named on the left as
// systemctl does it, and ends with what to do next.

// A sheet is a unit in detail.
type sheet struct {
	*session
	st ipc.Status
}

func (s *session) showDetails(st ipc.Status, names []string) {
	sh := sheet{s, st}
	first := true
	next := func() {
		if !first {
			s.out.print("\n")
		}
		first = false
	}
	for _, u := range st.Services {
		if slices.Contains(names, u.Name) {
			next()
			sh.service(u)
		}
	}
	for _, x := range st.Sockets {
		if slices.Contains(names, x.Name+".socket") {
			next()
			sh.socketUnit(x)
		}
	}
}

// fact writes one line; a label that is empty goes on with the fact before.
func (sh sheet) fact(label, format string, args ...any) {
	if label != "" {
		label += ":"
	}
	sh.out.print("%11s ", label)
	sh.out.print(format+"\n", args...)
}

func (sh sheet) service(u ipc.UnitStatus) {
	sh.out.print("%s  %s\n", sh.out.paint(strong, u.Name), sh.out.paint(stateStyle(u.ActiveState), u.SubState))
	sh.state(u)
	sh.problems(u)
	sh.jobs(u)
	sh.processes(u)
	sh.leftovers(u)
	sh.sockets(u)
	if u.Memory != 0 {
		sh.fact("Memory", "%s", size(u.Memory))
	}
	sh.fact("Restarts", "%d", u.Restarts)
	if u.LastExit != "" {
		sh.fact("Last exit", "%s", u.LastExit)
	}
	if u.StatusText != "" {
		sh.fact("Status", "%s", u.StatusText)
	}
	if u.Errno != 0 {
		sh.fact("Error", "%s (ERRNO=%d)", syscall.Errno(u.Errno).Error(), u.Errno)
	}
	sh.output(u)
	sh.outlook(u)
}

func (sh sheet) state(u ipc.UnitStatus) {
	active := fmt.Sprintf("%s (%s)", u.ActiveState, u.SubState)
	if u.Result != "" && u.Result != "success" {
		active = fmt.Sprintf("%s (%s, result: %s)", u.ActiveState, u.SubState, u.Result)
	}
	sh.fact("Active", "%s%s", sh.out.paint(stateStyle(u.ActiveState), active), sh.since(u.Since))
	ready := fmt.Sprintf("%d of %d", u.Ready, u.Want)
	if u.Generation != 0 {
		ready += fmt.Sprintf(", generation %d", u.Generation)
	}
	sh.fact("Ready", "%s", ready)
	switch {
	case len(u.Argv) > 0:
		sh.fact("Command", "%s", commandLine(u.Argv))
	case u.Command != "":
		sh.fact("Command", "%s", u.Command)
	}
}

// commandLine is a command as one would type it.
func commandLine(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$`|&;<>()*?[]{}~#!") {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// since is when, and how long ago by supervisord's clock.
func (sh sheet) since(t *time.Time) string {
	if t == nil {
		return ""
	}
	return fmt.Sprintf(" since %s, %s ago", t.Local().Format("2006-01-02 15:04:05 MST"), short(sh.st.Time.Sub(*t)))
}

func (sh sheet) jobs(u ipc.UnitStatus) {
	if j := u.Job; j != nil {
		sh.fact("Job", "%s %s, for %s", j.ID, j.Verb, short(sh.st.Time.Sub(j.Asked)))
	}
	if j := u.Queued; j != nil {
		sh.fact("Queued", "%s %s, for %s", j.ID, j.Verb, short(sh.st.Time.Sub(j.Asked)))
	}
}

func (sh sheet) processes(u ipc.UnitStatus) {
	label := "Processes"
	for _, p := range u.Processes {
		pid := "-"
		if p.PID != 0 {
			pid = fmt.Sprint(p.PID)
		}
		who := pid
		if u.Want > 1 {
			who = fmt.Sprintf("%s [%d]", pid, p.Instance)
		}
		text := fmt.Sprintf("%-8s %-5s generation %d  %s", who, printable(p.Role), p.Generation, printable(p.Phase))
		if p.Since != nil {
			text += ", ready for " + short(sh.st.Time.Sub(*p.Since))
		}
		if p.Deadline != nil {
			text += ", " + short(p.Deadline.Sub(sh.st.Time)) + " left"
		}
		if p.Share != 0 {
			text += ", " + share(p.Share) + " of new connections"
		}
		if p.Memory != 0 {
			text += ", " + size(p.Memory)
		}
		sh.fact(label, "%s", text)
		label = ""
		if len(p.Others) > 0 {
			sh.fact("", "%-8s with %s", "", printable(strings.Join(p.Others, ", ")))
		}
		for _, r := range p.Remarks {
			sh.fact("", "%-8s %s", "", printable(r))
		}
	}
}

func (sh sheet) leftovers(u ipc.UnitStatus) {
	label := "Left over"
	for _, l := range u.Leftovers {
		sh.fact(label, "%s", printable(l))
		label = ""
	}
}

func (sh sheet) problems(u ipc.UnitStatus) {
	label := "Error"
	for _, p := range u.Problems {
		sh.fact(label, "%s", printable(p))
		label = ""
	}
}

func (sh sheet) sockets(u ipc.UnitStatus) {
	label := "Sockets"
	for _, name := range u.Sockets {
		for _, x := range sh.st.Sockets {
			if x.Name != name {
				continue
			}
			for _, y := range x.Sockets {
				sh.fact(label, "%s %s", name, socketFacts(y))
				label = ""
			}
		}
	}
}

func (sh sheet) socketUnit(x ipc.SocketUnit) {
	r := socketRow(x, whole)
	sh.out.print("%s  %s\n", sh.out.paint(strong, x.Name+".socket"), sh.out.paint(r.style, r.state))
	label := "Sockets"
	for _, y := range x.Sockets {
		sh.fact(label, "%s", socketFacts(y))
		label = ""
	}
	if len(x.Services) > 0 {
		sh.fact("Services", "%s", strings.Join(x.Services, " "))
	}
	if x.Removed {
		sh.fact("Note", "%s", "the configuration no longer names it")
	}
}

func socketFacts(y ipc.Socket) string {
	facts := []string{y.Address}
	switch {
	case y.Address == "": // none is bound
		return y.Error
	case y.Error != "":
		return y.Address + ": " + y.Error
	case !y.Listening:
		facts = append(facts, "refuses clients")
	case y.Queue >= 0 && y.Limit >= 0:
		facts = append(facts, inQueue(y.Queue, y.Limit))
	}
	if y.Listening {
		facts = append(facts, fmt.Sprintf("%d dropped", y.Drops))
	}
	if y.Steered {
		facts = append(facts, "steered")
	}
	if y.Given {
		facts = append(facts, "given by systemd")
	}
	for _, note := range []string{y.Note, y.Last} {
		if note != "" {
			facts = append(facts, note)
		}
	}
	return strings.Join(facts, ", ")
}

func (sh sheet) output(u ipc.UnitStatus) {
	label := "Output"
	for _, l := range u.Output {
		sh.fact(label, "%s", sh.out.logText(l))
		label = ""
	}
}

// outlook is what the unit waits for, and what to do next.
func (sh sheet) outlook(u ipc.UnitStatus) {
	label := "Waiting"
	for _, w := range u.Waiting {
		sh.fact(label, "%s", strings.TrimPrefix(w, "waiting "))
		label = ""
	}
	var notes []string
	if u.Note != "" {
		notes = append(notes, u.Note)
	}
	if u.FileDiffers && !strings.Contains(u.Note, "file on disk differs") {
		notes = append(notes, "file on disk differs")
	}
	if u.Removed {
		notes = append(notes, "the configuration no longer names it")
	}
	if len(notes) > 0 {
		sh.fact("Note", "%s", strings.Join(notes, ", "))
	}
	label = "Hint"
	for _, h := range u.Hints {
		sh.fact(label, "%s", sh.pasteable(h))
		label = ""
	}
}
