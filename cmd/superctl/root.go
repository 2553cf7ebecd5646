package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// A command makes its part of the command line.
type command func(*app) *cobra.Command

// commands is all that superctl can do, in the order in which it says so.
var commands = []command{
	statusCommand,
	startCommand,
	stopCommand,
	restartCommand,
	reloadCommand,
	killCommand,
	resetFailedCommand,
	logsCommand,
	daemonReloadCommand,
	versionCommand,
}

// An app is what all commands share: who speaks, and whom they ask.
type app struct {
	*voice
	socket string
	owner  int
	colour string
}

// run does what the arguments say, and returns the exit status.
func run(ctx context.Context, v *voice, args []string) int {
	root := rootCommand(&app{voice: v, owner: ipc.NoOwner})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	v.complain(err)
	return exitStatus(err)
}

func rootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:               "superctl",
		Short:             "Show and change what supervisord does",
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.setColour(a.colour) },
		Args:              noSuchCommand,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", "", "supervisord's control socket, a `path`")
	f.IntVar(&a.owner, "socket-owner", ipc.NoOwner, "trust a supervisord that runs as this `uid` as well")
	f.Lookup("socket-owner").DefValue = ""
	f.StringVar(&a.colour, "color", "auto", "use colours: `when` is auto, always or never")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return misuse(c, "%v", err) })
	root.SetOut(a.out)
	root.SetErr(a.err)
	for _, make := range commands {
		root.AddCommand(make(a))
	}
	return root
}

// noSuchCommand is for words that name no command.
func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := misuse(c, "there is no command %.40q", args[0])
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		err.Hints = []string{"superctl " + strings.Join(near, ", superctl ")}
	}
	return err
}

// misuse is an error in how superctl was called.
func misuse(c *cobra.Command, format string, args ...any) *ipc.Error {
	return &ipc.Error{Code: ipc.Usage, Message: fmt.Sprintf(format, args...), Hints: []string{c.CommandPath() + " --help"}}
}

// someUnits and anyUnits check the names that a command is given.
func someUnits(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return misuse(c, "%s of which service?", c.Name())
	}
	return anyUnits(c, args)
}

func anyUnits(c *cobra.Command, args []string) error {
	for _, name := range args {
		if err := ipc.CheckUnit(name); err != nil {
			return misuse(c, "%v", err)
		}
	}
	return nil
}

func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misuse(c, "%s takes no arguments: %.40q", c.Name(), args[0])
	}
	return nil
}

// unique is args without those that are there already.
func unique(args []string) (names []string) {
	for _, name := range args {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// outputFlag adds -o.
func outputFlag(c *cobra.Command, json *bool, other string) {
	c.Flags().VarP(&choice{of: []string{other, "json"}, set: func(s string) { *json = s == "json" }, is: other}, "output", "o", "print the answer as "+other+" or json")
}

// A choice is a flag with few values.
type choice struct {
	of  []string
	is  string
	set func(string)
}

func (c *choice) String() string { return c.is }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }
func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("there is no such choice: it is %s", strings.Join(c.of, " or "))
	}
	c.is = s
	c.set(s)
	return nil
}
