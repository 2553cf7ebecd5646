package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// completionPatience is how long a shell that completes a word waits for
// supervisord. Then nothing is offered, and nothing said.
const completionPatience = 300 * time.Millisecond

// completeUnits offers the names of services that are not yet on the line.
func (s *session) completeUnits(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(contextOf(c)), completionPatience)
	defer cancel()
	st, err := s.client().Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, u := range st.Services {
		if !slices.Contains(args, u.Name) && unit.Name.MatchString(u.Name) {
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
