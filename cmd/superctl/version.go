package main

import (
	"context"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:               "version",
		Short:             "print the versions of superctl and of the running supervisord",
		Args:              nothing,
		Annotations:       offline,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s.outputFlag(c, "text")
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := versions{Superctl: version()}
		ctx, cancel := context.WithTimeout(c.Context(), answerTime)
		defer cancel()
		if s.locate() == nil {
			if i, err := s.client().Info(ctx); err == nil {
				v.Supervisord, v.PID = i.Version, i.PID
			}
		}
		if s.json {
			return s.out.json(v)
		}
		s.out.print("superctl %s\n", v.Superctl)
		if v.PID != 0 {
			s.out.print("supervisord %s, pid %d\n", v.Supervisord, v.PID)
		}
		return nil
	}
	return c
}

type versions struct {
	Superctl    string `json:"superctl"`
	Supervisord string `json:"supervisord,omitempty"` // empty: none answers
	PID         int    `json:"pid,omitempty"`
}

// version is what the binary was built from.
func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(devel)"
}
