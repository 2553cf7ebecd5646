package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

func statusCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "status [UNIT...]",
		Short: "show all units, or some of them in detail",
		Long: `status shows all units in a table. Units that are named are shown in detail: state,
command, processes by role, sockets, last exit and last output, what the unit is
waiting for, and what to do next.

NAME.socket is a socket. With names, the exit status is 0 if every unit is active or
reloading, else 3.`,
		Args:              checkUnits,
		ValidArgsFunction: s.completeUnits,
	}
	s.outputFlag(c, "table")
	c.RunE = func(c *cobra.Command, names []string) error {
		st, err := s.client().Status(c.Context(), names...)
		if err != nil {
			return err
		}
		return s.showStatus(st, names)
	}
	return c
}

func (s *session) showStatus(st ipc.Status, names []string) error {
	switch {
	case s.json:
		if err := s.out.json(st); err != nil {
			return err
		}
	case len(names) > 0:
		s.showDetails(st, names)
	default:
		s.showTable(st)
	}
	if !s.json {
		s.showRemarks(st)
	}
	if len(names) > 0 {
		return statusOf(st, names)
	}
	return nil
}

// showRemarks says what is to be said of supervisord as a whole.
func (s *session) showRemarks(st ipc.Status) {
	for _, d := range st.Degraded {
		s.err.print("%s%s\n", s.err.paint(bad, "degraded: "), s.pasteable(d))
	}
	for _, n := range st.Notes {
		s.note(n)
	}
}

// statusOf is 3 unless all services that were named can be used.
func statusOf(st ipc.Status, names []string) error {
	for _, u := range st.Services {
		if slices.Contains(names, u.Name) && u.ActiveState != "active" && u.ActiveState != "reloading" {
			return exitStatus(exitNotActive)
		}
	}
	for _, u := range st.Sockets {
		if slices.Contains(names, u.Name+".socket") && !open(u) {
			return exitStatus(exitNotActive)
		}
	}
	return nil
}

// open: every socket of the unit lets clients in.
func open(u ipc.SocketUnit) bool {
	return !slices.ContainsFunc(u.Sockets, func(x ipc.Socket) bool { return !x.Listening || x.Error != "" })
}
