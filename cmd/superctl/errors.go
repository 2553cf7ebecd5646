package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// Exit statuses that are no [ipc.Code]'s.
const (
	statusNotActive = 3   // of superctl status NAME
	statusDetached  = 130 // as of a shell's command that Ctrl-C ended
)

// severity is the order in which one of several exit statuses is taken: the
// first of these that is among them.
var severity = []int{6, 5, 4, 2, 1, 3, 7, 0}

// errDetached: the user would not wait any longer.
var errDetached = errors.New("detached")

// A quiet error is an exit status of which all has been said.
type quiet int

func (q quiet) Error() string { return fmt.Sprintf("exit status %d", int(q)) }

// exitStatus of superctl.
func exitStatus(err error) int {
	var q quiet
	var e *ipc.Error
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDetached), errors.Is(err, context.Canceled):
		return statusDetached
	case errors.As(err, &q):
		return int(q)
	case errors.As(err, &e):
		return e.Code.Meaning().Exit
	}
	return 1
}

// worst is the exit status for several units: that of the one that matters most.
func worst(statuses []int) int {
	for _, s := range severity {
		if slices.Contains(statuses, s) {
			return s
		}
	}
	return slices.Max(append(statuses, 0))
}

// complain says what went wrong, what still holds, and what to do.
func (v *voice) complain(err error) {
	var q quiet
	if err == nil || errors.As(err, &q) {
		return
	}
	if exitStatus(err) == statusDetached {
		return // Ctrl-C needs no comment; a job's id was said
	}
	v.warn(bad, "superctl: ", err.Error())
	var e *ipc.Error
	if !errors.As(err, &e) {
		return
	}
	for _, n := range e.Notes {
		v.warn(dim, "note: ", n)
	}
	for _, h := range e.Hints {
		v.warn(dim, "hint: ", h)
	}
}

// brief is an error's message without the "cannot reload api: " that the reader
// knows already.
func brief(e *ipc.Error, verb, unit string) string {
	return strings.TrimPrefix(e.Message, fmt.Sprintf("cannot %s %s: ", verb, unit))
}
