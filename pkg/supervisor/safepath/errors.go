package safepath

import "fmt"

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
