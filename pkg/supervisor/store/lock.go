package store

import (
	"errors"
	"fmt"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// A LockedError says that another supervisord has the runtime directory.
type LockedError struct {
	Path string // of the directory
	PID  int    // of the other; 0: it has not said
}

func (e *LockedError) Error() string {
	who := "another supervisord"
	if e.PID > 0 {
		who += fmt.Sprintf(" (pid %d)", e.PID)
	}
	return fmt.Sprintf("cannot use %s: %s has it", e.Path, who)
}

func lock(dir *safepath.Dir) (*safepath.Lock, error) {
	l, err := dir.Lock("supervisord.lock")
	if held := (*safepath.HeldError)(nil); errors.As(err, &held) {
		return nil, &LockedError{Path: dir.Path(), PID: held.PID}
	}
	return l, err
}
