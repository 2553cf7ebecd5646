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
func (s *session) conclude(ctx context.Context, c *cobra.Command, err error) int {
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
		return s.complain(helped(c, e))
	case ctx.Err() != nil:
		return exitDetached
	}
	return s.complain(misuse(c, "%s", together(err.Error())))
}

// helped is an error that names the help of the command, if the command line was wrong
// and nothing better is known.
func helped(c *cobra.Command, e *ipc.Error) *ipc.Error {
	if e.Code != ipc.Usage || len(e.Hints) > 0 {
		return e
	}
	with := *e
	with.Hints = misuse(c, "").Hints
	return &with
}

// group is how cobra says that flags exclude each other.
var group = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^if any flags in the group \[([a-z-]+) ([a-z-]+)\] are set none`)
})

// together says in our words that two flags exclude each other.
func together(message string) string {
	if m := group().FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("--%s and --%s cannot be used together", m[1], m[2])
	}
	return message
}

// complain says in three steps what went wrong, what still holds, and what to do.
func (s *session) complain(e *ipc.Error) int {
	s.err.print("%s%s\n", s.err.paint(bad, "superctl: "), e.Message)
	for _, n := range e.Notes {
		s.note(n)
	}
	if e.Code == ipc.Outdated {
		s.note(fmt.Sprintf("superctl is version %s (API %d)", version(), ipc.APIVersion))
	}
	if s.guess != "" && e.Code.Meaning().Exit == ipc.Unreachable.Meaning().Exit {
		s.note(s.guess)
	}
	for _, h := range e.Hints {
		s.hint(h)
	}
	return e.Code.Meaning().Exit
}

func (s *session) note(text string) {
	s.err.print("%s%s\n", s.err.paint(faint, "note: "), s.pasteable(text))
}

func (s *session) hint(text string) {
	s.err.print("%s%s\n", s.err.paint(moving, "hint: "), s.pasteable(text))
}

// simple is a path that needs no quotes.
var simple = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9/._@+-]+$`) })

const ourselves = "superctl "

// pasteable is a hint whose command, with which it ends, is for the supervisord that
// was asked, and not for the one that would be asked without --socket or -c.
func (s *session) pasteable(hint string) string {
	at := strings.LastIndex(hint, ourselves)
	if at < 0 || at > 0 && !strings.HasSuffix(hint[:at], ": ") || strings.HasSuffix(hint, "--help") {
		return hint
	}
	why, args := hint[:at], hint[at+len(ourselves):]
	switch {
	case simple().MatchString(s.socket):
		return why + ourselves + "--socket " + s.socket + " " + args
	case simple().MatchString(s.config):
		return why + ourselves + "-c " + s.config + " " + args
	}
	return hint
}

// asError is any error in the form in which it is told.
func asError(err error) *ipc.Error {
	var e *ipc.Error
	if !errors.As(err, &e) {
		e = &ipc.Error{Code: ipc.Internal, Message: err.Error()}
	}
	return e
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
