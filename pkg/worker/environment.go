package worker

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// firstFD is the descriptor that passed descriptors begin at, sd_listen_fds(3).
const firstFD = 3

// maxFDs bounds what LISTEN_FDS may claim.
const maxFDs = 65536

// An environment is what the supervisor said by environment variables.
type environment struct {
	sockets  *Sockets
	err      error         // why sockets is nil
	notify   string        // NOTIFY_SOCKET, or empty
	watchdog time.Duration // 0: none
	pair     *pair         // nil: no handover
	pairErr  error         // why, if the supervisor wanted one
}

// inherited reads the environment once, and takes what it read out of it: the
// descriptors are this process's, and so is what the supervisor expects to hear.
// A program that this one starts must have neither.
var inherited = sync.OnceValue(func() *environment {
	e := &environment{
		notify:   os.Getenv("NOTIFY_SOCKET"),
		watchdog: watchdogInterval(os.Getenv("WATCHDOG_PID"), os.Getenv("WATCHDOG_USEC")),
	}
	n, foreign, err := passed()
	handover := os.Getenv("SUPERVISORD_HANDOVER")
	names := os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{
		"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
		"SUPERVISORD_HANDOVER", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC",
	} {
		os.Unsetenv(name)
	}
	if err != nil {
		e.err = err
		return e
	}
	for fd := firstFD; fd < firstFD+n; fd++ {
		if err := closeOnExec(fd); err != nil {
			e.err = fmt.Errorf("cannot take descriptor %d, which LISTEN_FDS=%d counts: %w", fd, n, err)
			return e
		}
	}
	if n > 0 && handover != "" {
		e.pair, e.pairErr = takePair(handover, firstFD+n) // one can serve without
	}
	e.sockets, e.err = takeSockets(n, names)
	if e.sockets != nil {
		e.sockets.foreign = foreign
	}
	return e
})

// passed returns the number of descriptors that were passed to this process. A
// pid that is not ours is returned as foreign: the descriptors are that
// process's, often a shell's that should have called exec.
func passed() (n int, foreign string, err error) {
	pid := os.Getenv("LISTEN_PID")
	if pid == "" {
		return 0, "", nil
	}
	if pid != strconv.Itoa(os.Getpid()) || !isOurs(os.Getenv("LISTEN_PIDFDID")) {
		return 0, pid, nil
	}
	fds := os.Getenv("LISTEN_FDS")
	n, err = strconv.Atoi(fds)
	if err != nil || n < 0 || n > maxFDs {
		return 0, "", fmt.Errorf("cannot take the sockets: LISTEN_FDS=%q is not a number of descriptors", fds)
	}
	return n, "", nil
}

// isOurs reports whether id is the inode number of this process's pidfd, or
// cannot be compared. A pid alone may have been used again.
func isOurs(id string) bool {
	if id == "" {
		return true
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return true
	}
	return id == strconv.FormatUint(st.Ino, 10)
}

func watchdogInterval(pid, usec string) time.Duration {
	if pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(1<<63-1)/int64(time.Microsecond) {
		return 0
	}
	return time.Duration(n) * time.Microsecond
}

// closeOnExec fails for a descriptor that is not open.
func closeOnExec(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		return err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags|syscall.FD_CLOEXEC)
	return err
}

// splitNames returns n names. As in sd_listen_fds_with_names(3) they are
// "unknown" if none were given.
func splitNames(names string, n int) ([]string, error) {
	if names == "" && n != 1 {
		all := make([]string, n)
		for i := range all {
			all[i] = "unknown"
		}
		return all, nil
	}
	all := strings.Split(names, ":")
	if len(all) != n {
		return nil, fmt.Errorf("cannot take the sockets: LISTEN_FDNAMES=%q has %d names for %d descriptors", names, len(all), n)
	}
	if n == 1 && names == "" {
		all[0] = "unknown"
	}
	return all, nil
}
