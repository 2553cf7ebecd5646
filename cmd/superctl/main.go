// Superctl asks a running supervisord for status and changes, and says what
// comes of it.
//
// Each command is a value made by one function in a file of its own. What they
// share: session.go finds supervisord, jobs.go begins jobs and follows them,
// live.go shows their progress, table.go and detail.go show units, errors.go
// says what went wrong, and speak.go is the only file that writes.
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
	versionCommand,
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
	err := root.ExecuteContext(ctx)
	s.close()
	return s.conclude(ctx, err)
}

// newRoot makes the tree of commands.
func newRoot(s *session) *cobra.Command {
	root := &cobra.Command{
		Use:   "superctl",
		Short: "control supervisord",
		Long: `superctl asks a running supervisord for status and changes.

reload starts a new process of a service beside the old one, waits until it is
ready and has stayed so, and only then tells the old one to go: unlike
systemctl's reload it replaces the process. docs/reference has more.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              noSuchCommand,
		PersistentPreRunE: func(*cobra.Command, []string) error { return s.settle() },
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return misuse(c, "%s", plainly(err)) })
	s.flags(root.PersistentFlags())
	for _, command := range commands {
		root.AddCommand(command(s))
	}
	strict(root)
	return root
}

// strict has cobra's own commands refuse words that they do not know: they print
// their help and exit with 0.
func strict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Run, c.RunE = nil, func(_ *cobra.Command, args []string) error {
				about, rest, err := root.Find(args)
				if err != nil || len(rest) > 0 {
					return noSuchCommand(root, args)
				}
				return about.Help()
			}
		case "completion":
			c.Args = noSuchCommand
			c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
}
