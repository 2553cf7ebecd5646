package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func killCommand(s *session) *cobra.Command {
	var signal string
	whom := "all"
	c := &cobra.Command{
		Use:   "kill SERVICE...",
		Short: "send a signal to processes of services",
		Long: `kill sends a signal. What comes of it is up to the process, and to restart: a
service that is killed may be started again. To end a service, stop it.`,
		Args:              someUnits,
		ValidArgsFunction: s.completeUnits,
	}
	c.Flags().StringVarP(&signal, "signal", "s", "SIGTERM", "`signal` by name or number")
	c.Flags().Var(&choice{of: []string{"main", "next", "old", "all"}, is: &whom}, "whom", "the processes that get it, by role, or all with their children")
	c.RunE = func(c *cobra.Command, names []string) error {
		number, err := parseSignal(c, signal)
		if err != nil {
			return err
		}
		return s.eachUnit(c.Context(), unique(names), func(name string) error {
			return s.client().Kill(c.Context(), ipc.KillRequest{Unit: name, Signal: number, Whom: unit.Whom(whom)})
		})
	}
	return c
}

// parseSignal takes TERM, SIGTERM and 15.
func parseSignal(c *cobra.Command, word string) (int, error) {
	n, err := strconv.Atoi(word)
	if err != nil {
		n = int(unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(word), "SIG")))
	}
	if n < 1 || n > 64 {
		return 0, misuse(c, "%q is no signal: a name such as SIGTERM, or 1 to 64", word)
	}
	return n, nil
}

// eachUnit does something to one unit after the other, also when it fails for
// one of them.
func (s *session) eachUnit(ctx context.Context, names []string, do func(string) error) error {
	status := exitOK
	for _, name := range names {
		err := do(name)
		if err != nil && ctx.Err() != nil {
			return exitStatus(exitDetached)
		}
		if err != nil {
			status = worst(status, s.complain(asError(err)))
		}
	}
	if status != exitOK {
		return exitStatus(status)
	}
	return nil
}
