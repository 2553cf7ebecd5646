package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func daemonReloadCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "daemon-reload",
		Short: "take in the configuration's files",
		Long: `daemon-reload has supervisord read its files. If there is an error in them
nothing changes. Else the next start, reload or restart of a service runs what
they say now; services that are new are not started, and what is no longer named
stays until it is stopped.`,
		Args:              nothing,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s.outputFlag(c, "text")
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := s.client().DaemonReload(c.Context())
		if err != nil {
			return err
		}
		if s.json {
			return s.out.json(r)
		}
		for _, w := range r.Warnings {
			s.err.print("%s%s\n", s.err.paint(moving, "warning: "), w)
		}
		for _, x := range []struct {
			what  string
			names []string
		}{{"added", r.Added}, {"changed", r.Changed}, {"removed", r.Removed}} {
			if len(x.names) > 0 {
				s.out.print("%-8s %s\n", x.what, strings.Join(x.names, " "))
			}
		}
		return nil
	}
	return c
}
