package main

import "github.com/spf13/cobra"

func resetFailedCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "reset-failed SERVICE...",
		Short: "forget the failures of services",
		Long: `reset-failed turns failed services into stopped ones, and makes the next crash count
as the first.`,
		Args:              someUnits,
		ValidArgsFunction: s.completeUnits,
	}
	c.RunE = func(c *cobra.Command, names []string) error {
		return s.eachUnit(c.Context(), unique(names), func(name string) error { return s.client().ResetFailed(c.Context(), name) })
	}
	return c
}
