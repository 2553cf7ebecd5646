package process

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Harden makes this process one that keeps secrets: its memory cannot be read nor
// its fds taken by others of its user, it leaves no core, and what it creates is
// for itself. It is for the first lines of main, and again after a re-exec. It
// does all of that also if it fails. An error means that supervisord must not go
// on: the kernel gave it more rights than its caller has (set-user-ID, set-group-ID,
// file capabilities), or would not do what was asked.
func Harden() error {
	unix.Umask(0o077) // cannot fail
	err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		err = fmt.Errorf("cannot clear the dumpable flag: %w", err)
	}
	auxv, auxvErr := unix.Auxv()
	if auxvErr != nil {
		auxvErr = fmt.Errorf("cannot see whether we have more rights than our caller: %w", auxvErr)
	} else {
		auxvErr = mayRun(auxv)
	}
	return errors.Join(auxvErr, err)
}

// mayRun reads AT_SECURE of getauxval(3), which every kernel gives.
func mayRun(auxv [][2]uintptr) error {
	const key = 23
	for _, pair := range auxv {
		if pair[0] != key {
			continue
		}
		if pair[1] != 0 {
			return errors.New("cannot run with set-user-ID, set-group-ID or file capabilities: whoever starts supervisord tells it what to run")
		}
		return nil
	}
	return errors.New("cannot see whether we have more rights than our caller: the auxiliary vector has no AT_SECURE")
}
