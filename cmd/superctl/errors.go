package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// Exit statuses that are not those of an error's code, for which see [ipc.Codes].
const (
	exitOK        = 0
	exitNotActive = 3
	exitDetached  = 130 // 128 + SIGINT, as a shell has it
)

// order is that of exit statuses, the worst first, for commands on several units.
var order = []int{6, 5, 4, 1, 3, 7, 0}

func worst(statuses ...int) int {
	for _, s := range order {
		if slices.Contains(statuses, s) {
			return s
		}
	}
	return exitOK
}

// An exitStatus ends superctl without a further word.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// conclude says what went wrong, if anything did, and returns the exit status.
func (s *session) conclude(ctx context.Context, err error) int {
	var status exitStatus
	var e *ipc.Error
	switch {
	case s.out.lost != nil:
		return s.complain(&ipc.Error{Code: ipc.Internal, Message: fmt.Sprintf("cannot write the answer: %v", s.out.lost)})
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &e):
		return s.complain(e)
	case ctx.Err() != nil:
		return exitDetached
	}
	return s.complain(&ipc.Error{Code: ipc.Usage, Message: err.Error(), Hints: []string{"superctl --help"}})
}

// complain says in three steps what went wrong, what still holds, and what to do.
func (s *session) complain(e *ipc.Error) int {
	s.err.print("%s%s\n", s.err.paint(bad, "superctl: "), e.Message)
	for _, n := range e.Notes {
		s.note(n)
	}
	for _, h := range e.Hints {
		s.hint(h)
	}
	return e.Code.Meaning().Exit
}

func (s *session) note(text string) {
	s.err.print("%s%s\n", s.err.paint(faint, "note: "), text)
}

func (s *session) hint(text string) {
	s.err.print("%s%s\n", s.err.paint(moving, "hint: "), s.pasteable(text))
}

// simple is a path that needs no quotes.
var simple = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9/._@+-]+$`) })

// pasteable is a hint that is a command for the supervisord that was asked, and
// not for the one that would be asked without --socket.
func (s *session) pasteable(hint string) string {
	if args, ok := strings.CutPrefix(hint, "superctl "); ok && simple().MatchString(s.socket) {
		return "superctl --socket " + s.socket + " " + args
	}
	return hint
}

// misuse is an error of the command line.
func misuse(c *cobra.Command, format string, args ...any) *ipc.Error {
	return &ipc.Error{Code: ipc.Usage, Message: fmt.Sprintf(format, args...), Hints: []string{c.CommandPath() + " --help"}}
}

// plainly is what is wrong with a flag, without the names of Go's functions.
func plainly(err error) string {
	text := err.Error()
	for _, w := range []struct{ theirs, ours string }{
		{`: strconv\.Parse.*: value out of range$`, ": it is too large"},
		{`: strconv\.Parse.*$`, ": it must be a whole number"},
		{`: time: missing unit .*$`, ": it needs a unit, like 5s"},
		{`: time: .*$`, ": it must be a duration, like 1m30s"},
	} {
		text = regexp.MustCompile(w.theirs).ReplaceAllString(text, w.ours)
	}
	return text
}

// noSuchCommand is for words that name no command.
func noSuchCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	e := misuse(root, "there is no command %q", args[0])
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		e.Hints = []string{"did you mean superctl " + near[0] + "?"}
	}
	return e
}

// asError is any error in the form in which it is told.
func asError(err error) *ipc.Error {
	var e *ipc.Error
	if !errors.As(err, &e) {
		e = &ipc.Error{Code: ipc.Internal, Message: err.Error()}
	}
	return e
}

// someUnits is for commands that need at least one unit, noUnits for those that
// take none.
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

// unique is names without those that came before.
func unique(names []string) (first []string) {
	for _, n := range names {
		if !slices.Contains(first, n) {
			first = append(first, n)
		}
	}
	return first
}

func nothing(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misuse(c, "%s takes no argument: %q", c.Name(), args[0])
	}
	return nil
}
