package main

import (
	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func stopCommand(s *session) *cobra.Command {
	return s.jobCommand(unit.Stop, &cobra.Command{
		Use:   "stop SERVICE...",
		Short: "stop services and all their processes",
		Long: `stop sends SIGTERM (or kill_signal) to every process of a service, then SIGKILL to those
that are still there after timeout_stop_sec, and returns when none is left. It overrides
any other job of the service.`,
	})
}
