package main

import (
	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func restartCommand(s *session) *cobra.Command {
	return s.jobCommand(unit.Restart, &cobra.Command{
		Use:   "restart SERVICE...",
		Short: "stop services, then start them",
		Long: `restart stops a service and starts it again. In between, its sockets queue clients.
To replace a service without a gap, reload it.`,
	})
}
