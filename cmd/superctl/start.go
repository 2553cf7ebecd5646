package main

import (
	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func startCommand(s *session) *cobra.Command {
	return s.jobCommand(unit.Start, &cobra.Command{
		Use:   "start SERVICE...",
		Short: "start services, and wait until they are ready",
		Long: `start runs services as the loaded configuration and the executables on disk are now.
It returns when they are ready, or says why they are not. Services that already run
are left alone.`,
	})
}
