package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func killCommand(s *session) *cobra.Command {
	var signal string
	whom := "all"
	c := &cobra.Command{
		Use:   "kill SERVICE...",
		Short: "send a signal to the processes of services",
		Long: `kill sends a signal, nothing more. Whether a service whose process dies of it is started
again depends on its restart setting: with "on-failure", the default, not after SIGHUP,
SIGINT, SIGPIPE or SIGTERM, which count as a clean exit. To end a service, stop it.`,
		Args:              someUnits,
		ValidArgsFunction: s.completeUnits,
	}
	c.Flags().StringVarP(&signal, "signal", "s", "SIGTERM", "the `SIGNAL` to send: a name such as SIGTERM or SIGRTMIN+3, or a number")
	offer(c, "signal", signalNames()...)
	choose(c, &choice{of: []string{"main", "next", "old", "all"}, is: &whom}, "whom", "", "which processes get it: those of a role, or all and their children")
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

// parseSignal takes TERM, SIGTERM, RTMIN+3 and 15.
func parseSignal(c *cobra.Command, word string) (int, error) {
	n, err := strconv.Atoi(word)
	if err != nil {
		n = int(config.ParseSignal(strings.ToUpper(word)))
	}
	if n < 1 || n > 64 {
		return 0, unknownSignal(c, word)
	}
	return n, nil
}

func unknownSignal(c *cobra.Command, word string) error {
	e := misuse(c, "unknown signal %.40q: use a name such as SIGTERM or SIGRTMIN+3, or a number from 1 to 64", word)
	if near := meant("SIG"+strings.TrimPrefix(strings.ToUpper(word), "SIG"), signalNames()); near != "" {
		e.Hints = []string{"did you mean " + near + "?"}
	}
	return e
}

// signalNames are those of signals that have one, and the ends of those that have none.
func signalNames() (names []string) {
	for n := range unix.Signal(65) {
		if name := unix.SignalName(n); name != "" {
			names = append(names, name)
		}
	}
	return append(names, "SIGRTMIN", "SIGRTMAX")
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
