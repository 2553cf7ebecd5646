package main

import (
	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func reloadCommand(s *session) *cobra.Command {
	return s.jobCommand(unit.Reload, &cobra.Command{
		Use:   "reload SERVICE...",
		Short: "replace running services with what is on disk now, without a gap",
		Long: `reload starts a new process next to the old one, with the same sockets. Once it is
ready and has stayed ready for its bake time, it takes over, and only then is the
old one told to stop. If the new process fails, the old one was never touched, and
reload says why and exits with 1.

Unlike systemctl reload, it replaces the process. A service whose reload.mode is
"restart" is stopped first: if its new process fails, nothing serves until the build
before is up again, and reload exits with 3.`,
	})
}
