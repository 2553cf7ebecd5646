package safepath

import (
	"fmt"
	"strings"
)

// An Error says which component of a path is the matter, why, and what would
// be right. A path that is not to be trusted wraps [io/fs.ErrPermission].
type Error struct {
	Path      string // as it was asked for
	Component string // the part of it at fault, without links
	Why       string // in words; empty: Err says it
	Hint      string // what would be right; may be empty
	Err       error
}

// Error is `cannot use PATH: COMPONENT: why; hint`.
func (e *Error) Error() string {
	text := "cannot use " + e.Path + ": "
	if e.Component != e.Path {
		text += e.Component + ": "
	}
	if e.Why == "" {
		text += e.Err.Error()
	} else {
		text += e.Why
	}
	if e.Hint != "" {
		text = fmt.Sprintf("%s; %s", text, e.Hint)
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// quoted is a path as a shell takes it.
func quoted(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@", r)
	}
	if strings.TrimFunc(path, plain) == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
