// Superctl controls a running supervisord, and reports what came of it.
//
// Each command is a value made by one function in a file of its own. What they
// share: session.go finds supervisord, jobs.go begins jobs and follows them,
// live.go shows their progress, table.go and detail.go show units, flags.go checks
// command lines, errors.go says what went wrong, and speak.go is the only file that
// writes.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// commands is all that superctl can do.
var commands = []func(*session) *cobra.Command{
	statusCommand,
	startCommand, stopCommand, restartCommand, reloadCommand, scaleCommand,
	killCommand, resetFailedCommand,
	logsCommand, historyCommand, socketsCommand,
	verifyCommand, daemonReloadCommand,
	versionCommand, completionCommand,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], newSession(os.Stdout, os.Stderr, os.Getenv))
	stop()
	os.Exit(status)
}

// run is superctl without a process: it returns the exit status.
func run(ctx context.Context, args []string, s *session) int {
	root := newRoot(s)
	root.SetArgs(args)
	root.SetOut(s.out.w)
	root.SetErr(s.err.w)
	c, err := root.ExecuteContextC(ctx)
	s.close()
	return s.conclude(ctx, c, err)
}

// newRoot makes the tree of commands.
func newRoot(s *session) *cobra.Command {
	root := &cobra.Command{
		Use:   "superctl",
		Short: "control a running supervisord",
		Long: `superctl controls a running supervisord.

reload starts a new process of a service next to the old one, waits until the new
one is ready and has stayed ready, and only then stops the old one. Unlike
systemctl reload, it replaces the process.

It finds supervisord by the first of these that is there: --socket PATH, -c FILE,
$SUPERVISORD_SOCKET, $SUPERVISORD_CONFIG, your own supervisord, the system's. Of a
configuration file it reads runtime_directory alone.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              unknownCommand,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return s.settle(c) },
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	s.flags(root)
	versionFlag(root)
	root.SetHelpCommand(helpCommand(s))
	for _, command := range commands {
		root.AddCommand(command(s))
	}
	return root
}
