package main

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

func logsCommand(s *session) *cobra.Command {
	var q ipc.LogRequest
	var since, until instant
	var raw, times bool
	c := &cobra.Command{
		Use:   "logs [SERVICE...]",
		Short: "show the output of services",
		Long: `logs shows the last lines that services wrote to stdout and stderr. With several
services, or without a name, each line begins with the service's name.

Control characters are shown escaped, as \x1b, so that output cannot take over the
terminal. Colours stay on a terminal and are left out elsewhere; --raw writes the
bytes as they are.

--since and --until take a time ("2026-01-31 15:04", "15:04", "yesterday", or what
--time prints) or how long ago ("1h", "90s", "2d"). With --since, all lines since
then are shown unless --lines says how many.

If there is no such line, logs says so on stderr and exits with 0, or keeps waiting
for new lines with --follow.

The INVOCATION_ID of a running process is in superctl status -o json.`,
		Args:              checkUnits,
		ValidArgsFunction: s.completeUnits,
	}
	f := c.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "keep printing new lines")
	f.IntVarP(&q.N, "lines", "n", 100, fmt.Sprintf("`NUMBER` of past lines, at most %d", ipc.MaxLines))
	f.BoolVarP(&times, "time", "t", false, "print when each line was written")
	f.Var(&since, "since", "only lines since `TIME`")
	f.Var(&until, "until", "only lines until `TIME`")
	f.Uint32Var(&q.Generation, "generation", 0, "only lines of generation `NUMBER`")
	f.StringVar(&q.Invocation, "invocation", "", "only lines of the process whose $INVOCATION_ID begins with `ID`, of 8 digits or more")
	f.BoolVar(&raw, "raw", false, "write the bytes as they are")
	s.outputFlag(c, "text")
	c.MarkFlagsMutuallyExclusive("follow", "until")
	c.MarkFlagsMutuallyExclusive("raw", "time")
	c.RunE = func(c *cobra.Command, names []string) error {
		names = unique(names)
		q.Units, q.Since, q.Until = names, since.Time, until.Time
		if !q.Since.IsZero() && !c.Flags().Changed("lines") {
			q.N = ipc.MaxLines
		}
		return s.showLogs(c.Context(), q, &lineWriter{console: s.out, several: len(names) != 1, raw: raw, times: times})
	}
	return c
}

func (s *session) showLogs(ctx context.Context, q ipc.LogRequest, w *lineWriter) error {
	ctx, stop := s.out.whileRead(ctx)
	defer stop()
	for l, err := range s.client().Logs(ctx, q) {
		switch {
		case context.Cause(ctx) == errNobodyReads:
			return nil
		case err != nil:
			return err
		case l.Type == ipc.LineNone:
			w.end()
			s.note(noLines(q, l.Unit))
		case s.json:
			if err := s.out.jsonLine(l); err != nil {
				return err
			}
		case l.Lost > 0:
			w.end()
			s.note(fmt.Sprintf("%d lines of %s are missing here", l.Lost, l.Unit))
		case l.Type == "error":
			w.end()
			s.note(l.Text)
		default:
			w.line(l)
		}
		if s.out.lost != nil {
			return nil // as is told at the end
		}
	}
	if !s.json {
		w.end()
	}
	return nil
}

// noLines says which lines there are none of.
func noLines(q ipc.LogRequest, name string) string {
	text := "no lines of " + cmp.Or(name, "any service")
	if q.Generation != 0 {
		text += fmt.Sprintf(" of generation %d", q.Generation)
	}
	if q.Invocation != "" {
		text += " of invocation " + q.Invocation
	}
	if !q.Since.IsZero() {
		text += " since " + q.Since.Local().Format(time.DateTime)
	}
	if !q.Until.IsZero() {
		text += " until " + q.Until.Local().Format(time.DateTime)
	}
	if q.Follow {
		text += " yet"
	}
	return text
}

// A lineWriter prints lines of services. One may come in pieces, with those of others
// between them.
type lineWriter struct {
	*console
	several, raw, times bool

	open *ipc.LogLine // the last piece, whose line has no end yet
}

func (w *lineWriter) line(l ipc.LogLine) {
	if w.open == nil || !same(*w.open, l) {
		w.end()
		w.begin(l)
	}
	w.text(l)
	w.open = nil
	if l.Part {
		w.open = &l
		return
	}
	w.console.raw([]byte("\n"))
}

// same says whether two lines are of one process.
func same(a, b ipc.LogLine) bool {
	return a.Unit == b.Unit && a.Instance == b.Instance && a.Generation == b.Generation && a.PID == b.PID
}

// end ends a line whose own end has not come. Raw bytes are what was written, so there
// it ends only before another's.
func (w *lineWriter) end() {
	if w.open != nil {
		w.console.raw([]byte("\n"))
		w.open = nil
	}
}

func (w *lineWriter) begin(l ipc.LogLine) {
	if w.raw {
		return
	}
	if w.times {
		at := "-"
		if l.Time != nil {
			at = l.Time.Local().Format(time.RFC3339)
		}
		w.print("%s ", w.paint(faint, at))
	}
	if w.several {
		w.print("%s ", w.paint(colorOf(l.Unit), l.Unit+" |"))
	}
}

func (w *lineWriter) text(l ipc.LogLine) {
	if w.raw {
		w.console.raw(bytesOf(l))
		return
	}
	w.print("%s", w.logText(textOf(l)))
}

func bytesOf(l ipc.LogLine) []byte {
	if l.Raw != nil {
		return l.Raw
	}
	return []byte(l.Text)
}

// textOf is a line without the carriage return that programs end it with for the sake
// of a terminal, as sshd does.
func textOf(l ipc.LogLine) string { return strings.TrimRight(string(bytesOf(l)), "\r") }

// colorOf is a unit's own colour, the same each time.
func colorOf(name string) style {
	palette := []style{"36", "35", "34", "92", "93", "94"}
	h := fnv.New32a()
	h.Write([]byte(name))
	return palette[int(h.Sum32()%uint32(len(palette)))]
}
