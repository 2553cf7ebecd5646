package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// completeUnits offers the names of services that are not yet on the line. A
// shell waits for it: what does not come at once is not offered, and nothing is
// said of it.
func (s *session) completeUnits(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(contextOf(c)), s.haste)
	defer cancel()
	st, err := s.client().Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, u := range st.Services {
		if !slices.Contains(args, u.Name) && unit.IsName(u.Name) {
			words = append(words, u.Name+"\t"+printable(u.SubState))
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

func contextOf(c *cobra.Command) context.Context {
	if ctx := c.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
