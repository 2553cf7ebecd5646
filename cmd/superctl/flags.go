package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// What is wrong with a command line is said in our words. The flag package's own
// are Go's: strconv.ParseInt: parsing "1e9": invalid syntax.

// flagError says what is wrong with a flag.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		return unknownFlag(c, unknown.GetSpecifiedName(), unknown.GetSpecifiedShortnames() != "")
	case errors.As(err, &missing):
		f := missing.GetFlag()
		return misuse(c, "--%s needs a value: --%s %s", f.Name, f.Name, placeholder(f))
	case errors.As(err, &invalid):
		return invalidFlag(c, invalid)
	}
	return misuse(c, "%v", err)
}

func invalidFlag(c *cobra.Command, err *pflag.InvalidValueError) error {
	f, value := err.GetFlag(), fmt.Sprintf("%.80q", err.GetValue())
	why := wanted(f, errors.Unwrap(err))
	if strings.HasPrefix(why, value) {
		return misuse(c, "invalid --%s: %s", f.Name, why)
	}
	return misuse(c, "invalid --%s %s: %s", f.Name, value, why)
}

func unknownFlag(c *cobra.Command, name string, short bool) error {
	if short {
		return misuse(c, "unknown flag -%s", name)
	}
	e := misuse(c, "unknown flag --%.80s", name)
	var names []string
	for _, set := range []*pflag.FlagSet{c.Flags(), c.InheritedFlags()} {
		set.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	}
	if near := meant(name, names); near != "" {
		e.Hints = []string{"did you mean --" + near + "?"}
	}
	return e
}

// placeholder is what stands for a flag's value in help texts: in capitals, but for
// words that are typed as they are.
func placeholder(f *pflag.Flag) string {
	name, _ := pflag.UnquoteUsage(f)
	return name
}

// wanted says what would be right.
func wanted(f *pflag.Flag, err error) string {
	switch kind := f.Value.Type(); {
	case kind == "duration":
		return "use a number with a unit, such as 30s, 5m or 1h30m"
	case kind == "bool":
		return "use true or false"
	case errors.Is(err, strconv.ErrRange):
		return "the number is out of range"
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "use a whole number, such as 50"
	}
	return err.Error()
}

// misuse is an error of the command line.
func misuse(c *cobra.Command, format string, args ...any) *ipc.Error {
	return &ipc.Error{Code: ipc.Usage, Message: fmt.Sprintf(format, args...), Hints: []string{c.CommandPath() + " --help"}}
}

// unknownCommand is for words that name no command.
func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	e := misuse(root, "unknown command %.80q", args[0])
	if near := meant(args[0], commandNames(root)); near != "" {
		e.Hints = []string{"did you mean: superctl " + near}
	}
	return e
}

// meant is the word that was probably meant: one that begins so, else the closest.
func meant(word string, words []string) string {
	for _, w := range words {
		if len(word) > 2 && strings.HasPrefix(w, word) {
			return w
		}
	}
	return unit.Closest(word, words)
}

func commandNames(root *cobra.Command) (names []string) {
	for _, c := range root.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

// someUnits is for commands that need at least one unit.
func someUnits(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return misuse(c, "%s needs the name of a service", c.Name())
	}
	return checkUnits(c, args)
}

func checkUnits(_ *cobra.Command, args []string) error {
	for _, a := range args {
		if err := ipc.CheckUnit(a); err != nil {
			return err
		}
	}
	return nil
}

// nothing is for commands that take no argument.
func nothing(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misuse(c, "%s takes no arguments: %q", c.Name(), args[0])
	}
	return nil
}

// A choice is a flag that takes one of a few words.
type choice struct {
	of  []string
	is  *string
	set func(string) // told of each change; may be nil
}

func (c *choice) String() string { return *c.is }

// Type is what stands for a value in help texts.
func (c *choice) Type() string { return strings.Join(c.of, "|") }

func (c *choice) Set(word string) error {
	if !slices.Contains(c.of, word) {
		return fmt.Errorf("use %s", alternatives(c.of))
	}
	*c.is = word
	if c.set != nil {
		c.set(word)
	}
	return nil
}

func alternatives(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// choose gives a command a flag that takes one of a few words, which a shell
// completes.
func choose(c *cobra.Command, flag *choice, name, short, usage string) {
	c.Flags().VarP(flag, name, short, usage)
	offer(c, name, flag.of...)
}

// offer completes a flag by these words.
func offer(c *cobra.Command, flag string, words ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}
