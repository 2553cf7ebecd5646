package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func scaleCommand(s *session) *cobra.Command {
	c := s.waitingCommand(&cobra.Command{
		Use:   "scale SERVICE INSTANCES",
		Short: "run more or fewer instances of a service",
		Long: `scale starts more instances, or stops the last ones the way a reload stops old
processes: they get no new connections and finish what they have. The number holds
until instances changes in the configuration.

A service that is stopped or has failed is not started: the number counts from its
next start.`,
		Args: cobra.MatchAll(func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return misuse(c, "scale needs a service and a number of instances: superctl scale api 4")
			}
			return nil
		}, func(c *cobra.Command, args []string) error { return someUnits(c, args[:1]) }),
	}, func(c *cobra.Command, args []string) (ipc.JobRequest, []string, error) {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 || n > ipc.MaxInstances {
			return ipc.JobRequest{}, nil, misuse(c, "invalid number of instances %.40q: use 1 to %d", args[1], ipc.MaxInstances)
		}
		return ipc.JobRequest{Verb: unit.Scale.String(), Size: n}, args[:1], nil
	})
	c.ValidArgsFunction = s.completeScale
	return c
}
