package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func daemonReloadCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "daemon-reload",
		Short: "read the configuration files again",
		Long: `daemon-reload makes supervisord read its configuration files. If they contain an
error, nothing changes. Otherwise the next start, reload or restart of a service uses
them. New services are not started, and a service that is no longer named keeps
running until it is stopped.`,
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
