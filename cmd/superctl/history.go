package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

func historyCommand(s *session) *cobra.Command {
	q := ipc.HistoryRequest{}
	c := &cobra.Command{
		Use:   "history [SERVICE...]",
		Short: "show what happened to services, including before supervisord started",
		Long: `history shows the last events of services, across restarts of supervisord and
reboots: each job, who asked for it, how it ended and what its sockets lost
meanwhile; and each process that exited without being told to (exit). The newest is
last.

TOOK is how long the job took, or how long the process lived. UID is the user who
asked; a dash is supervisord itself, when it starts or stops.`,
		Args:              checkUnits,
		ValidArgsFunction: s.completeUnits,
	}
	c.Flags().IntVarP(&q.N, "lines", "n", 50, fmt.Sprintf("`NUMBER` of records, at most %d", ipc.MaxRecords))
	s.outputFlag(c, "table")
	c.RunE = func(c *cobra.Command, names []string) error {
		q.Units = names
		h, err := s.client().History(c.Context(), q)
		if err != nil {
			return err
		}
		if s.json {
			return s.out.json(h)
		}
		s.showHistory(h)
		return nil
	}
	return c
}

// A happening is a row of the history.
type happening struct {
	time, unit, event, result, gen, took, uid, note string
	style                                           style
}

var historyColumns = []column[happening]{
	{title: "TIME", of: func(h happening) string { return h.time }},
	{title: "UNIT", of: func(h happening) string { return dash(h.unit) }},
	{title: "EVENT", of: func(h happening) string { return h.event }},
	{title: "RESULT", of: func(h happening) string { return dash(h.result) }, look: func(h happening) style { return h.style }},
	{title: "GEN", of: func(h happening) string { return dash(h.gen) }, drop: 3},
	{title: "TOOK", of: func(h happening) string { return dash(h.took) }, drop: 2},
	{title: "UID", of: func(h happening) string { return dash(h.uid) }, drop: 1},
	{title: "NOTE", of: func(h happening) string { return h.note }, least: 26},
}

func (s *session) showHistory(h ipc.History) {
	if len(h.Records) == 0 {
		s.out.print("nothing has happened yet\n")
	} else {
		table(s, historyColumns, func(b brevity) []happening { return happenings(h.Records, b) })
	}
	for _, n := range h.Notes {
		s.note(n)
	}
}

func happenings(records []ipc.Record, b brevity) (rows []happening) {
	for _, r := range records {
		row := happening{time: moment(r.Time, b), unit: r.Unit, event: r.Kind}
		switch r.Kind {
		case ipc.RecordJob:
			row.job(r, b)
		case ipc.RecordExit:
			row.exit(r)
		case ipc.RecordLost:
			row.note = fmt.Sprintf("%d records are missing here", r.Lost)
		}
		rows = append(rows, row)
	}
	return rows
}

// moment is a time of this computer's clock.
func moment(t time.Time, b brevity) string {
	if b == brief {
		return t.Local().Format("01-02 15:04:05")
	}
	return t.Local().Format(time.DateTime)
}

func (h *happening) job(r ipc.Record, b brevity) {
	h.event, h.result, h.took = r.Verb, string(r.State), span(r.Seconds)
	switch {
	case r.From != 0 && r.Generation != 0 && r.From != r.Generation:
		h.gen = fmt.Sprintf("%d -> %d", r.From, r.Generation)
	case r.Generation != 0:
		h.gen = fmt.Sprint(r.Generation)
	}
	if r.UID != nil {
		h.uid = fmt.Sprint(*r.UID)
	}
	h.style = map[ipc.JobState]style{ipc.JobDone: good, ipc.JobFailed: bad, ipc.JobRefused: bad}[r.State]
	h.note = jobNote(r, b)
}

// jobNote is what was lost in the course of a job, why it did not end well, and,
// where there is room, what the kernel counted.
func jobNote(r ipc.Record, b brevity) string {
	var notes []string
	if n := dropped(r.Sockets...); n > 0 {
		notes = append(notes, fmt.Sprintf("%d dropped", n))
	}
	if r.Error != nil {
		why := strings.TrimPrefix(r.Error.Message, fmt.Sprintf("cannot %s %s: ", r.Verb, r.Unit))
		notes = append(append(notes, why), r.Error.Notes...)
	}
	for _, a := range r.Sockets {
		if a.Limit > 0 && b == whole {
			notes = append(notes, accountText(a))
		}
	}
	return strings.Join(notes, "; ")
}

func (h *happening) exit(r ipc.Record) {
	h.took, h.gen = span(r.Seconds), fmt.Sprint(r.Generation)
	who := fmt.Sprintf("pid %d", r.PID)
	if r.Instance > 0 {
		who = fmt.Sprintf("instance %d, pid %d", r.Instance, r.PID)
	}
	h.note = fmt.Sprintf("%s (%s)", r.Text, who)
}

// span is seconds as a duration, with hundredths where they matter.
func span(seconds float64) string {
	if seconds < 10 {
		return fmt.Sprintf("%.2fs", max(seconds, 0))
	}
	return short(time.Duration(min(seconds, 1e9) * float64(time.Second)))
}
