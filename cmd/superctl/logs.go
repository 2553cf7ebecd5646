package main

import (
	"context"
	"fmt"
	"hash/fnv"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

func logsCommand(s *session) *cobra.Command {
	var q ipc.LogRequest
	var raw bool
	c := &cobra.Command{
		Use:   "logs [SERVICE...]",
		Short: "show what services have written",
		Long: `logs shows the last lines that services wrote to stdout and stderr; of several
services, or of all, each line begins with the service's name. What could do
something to a terminal is shown as \x1b; colours stay on a terminal, and are
left out elsewhere. --raw writes the bytes as they are.`,
		Args:              checkUnits,
		ValidArgsFunction: s.completeUnits,
	}
	f := c.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on with what comes")
	f.IntVarP(&q.N, "lines", "n", 100, fmt.Sprintf("how `many` lines of the past, at most %d", ipc.MaxLines))
	f.Uint32Var(&q.Generation, "generation", 0, "only of this `generation`")
	f.StringVar(&q.Invocation, "invocation", "", "only of the process with this INVOCATION_`ID`")
	f.BoolVar(&raw, "raw", false, "write the bytes as they are")
	s.outputFlag(c, "text")
	c.RunE = func(c *cobra.Command, names []string) error {
		q.Units = names
		return s.showLogs(c.Context(), q, raw)
	}
	return c
}

func (s *session) showLogs(ctx context.Context, q ipc.LogRequest, raw bool) error {
	several := len(q.Units) != 1
	for l, err := range s.client().Logs(ctx, q) {
		switch {
		case err != nil:
			return err
		case s.json:
			if err := s.out.jsonLine(l); err != nil {
				return err
			}
		case l.Lost > 0:
			s.note(fmt.Sprintf("%d lines of %s are missing here", l.Lost, l.Unit))
		case l.Type == "error":
			s.note(l.Text)
		case raw:
			s.out.raw(append(bytesOf(l), '\n'))
		case several:
			s.out.print("%s %s\n", s.out.paint(colorOf(l.Unit), l.Unit+" |"), s.out.logText(string(bytesOf(l))))
		default:
			s.out.print("%s\n", s.out.logText(string(bytesOf(l))))
		}
	}
	return nil
}

func bytesOf(l ipc.LogLine) []byte {
	if l.Raw != nil {
		return l.Raw
	}
	return []byte(l.Text)
}

// colorOf is a unit's own colour, the same each time.
func colorOf(name string) style {
	palette := []style{"36", "35", "34", "92", "93", "94"}
	h := fnv.New32a()
	h.Write([]byte(name))
	return palette[int(h.Sum32()%uint32(len(palette)))]
}
