package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// completeUnits offers the names of services that are not yet on the line. A
// shell waits for it: what does not come at once is not offered, and nothing is
// said of it.
func (s *session) completeUnits(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	services, ok := s.known(c)
	if !ok {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, u := range services {
		if !slices.Contains(args, u.Name) && unit.IsName(u.Name) {
			words = append(words, u.Name+"\t"+printable(u.SubState))
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// known are all services, if supervisord says so at once.
func (s *session) known(c *cobra.Command) ([]ipc.UnitStatus, bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(contextOf(c)), s.haste)
	defer cancel()
	if s.locate() != nil {
		return nil, false
	}
	st, err := s.client().Status(ctx)
	return st.Services, err == nil
}

// completeScale offers services, then the number of instances that one has.
func (s *session) completeScale(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return s.completeUnits(c, args, word)
	}
	services, _ := s.known(c)
	for _, u := range services {
		if u.Name == args[0] && len(args) == 1 {
			return []string{fmt.Sprintf("%d\tas now", u.Want)}, cobra.ShellCompDirectiveNoFileComp
		}
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func contextOf(c *cobra.Command) context.Context {
	if ctx := c.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
