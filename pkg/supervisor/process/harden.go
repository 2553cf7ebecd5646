package process

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Harden makes this process one that keeps secrets: its memory cannot be read nor
// its fds taken by others of its user, it leaves no core, and what it creates is
// for itself. It is for the first lines of main, and again after a re-exec. It
// refuses to go on in a process that the kernel gave more rights than its caller
// has (set-user-ID, file capabilities).
func Harden() error {
	if secure, err := atSecure(); err != nil {
		return err
	} else if secure {
		return errors.New("cannot run with set-user-ID or file capabilities: whoever starts supervisord tells it what to run")
	}
	unix.Umask(0o077)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot clear the dumpable flag: %w", err)
	}
	return nil
}

// atSecure reads AT_SECURE of getauxval(3).
func atSecure() (bool, error) {
	const key = 23
	auxv, err := unix.Auxv()
	if err != nil {
		return false, fmt.Errorf("cannot see whether we have more rights than our caller: %w", err)
	}
	for _, pair := range auxv {
		if pair[0] == key {
			return pair[1] != 0, nil
		}
	}
	return false, nil
}
