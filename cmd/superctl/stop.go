package main

import (
	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func stopCommand(s *session) *cobra.Command {
	return s.jobCommand(unit.Stop, &cobra.Command{
		Use:   "stop SERVICE...",
		Short: "stop services with all their processes",
		Long: `stop sends the kill signal to every process of the service, SIGKILL to those
that are there after timeout_stop_sec, and returns when none is left. It
overrules whatever else is going on.`,
	})
}
