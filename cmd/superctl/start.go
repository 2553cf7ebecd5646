package main

import (
	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func startCommand(s *session) *cobra.Command {
	return s.jobCommand(unit.Start, &cobra.Command{
		Use:   "start SERVICE...",
		Short: "start services, and wait until they are ready",
		Long: `start runs what the configuration that was last taken in and the files on disk
have now. It returns when the service is ready, or says why it is not. What is
up stays as it is.`,
	})
}
