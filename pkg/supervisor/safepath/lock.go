package safepath

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Lock is an exclusive flock(2) on a file that says whose it is.
type Lock struct {
	dir  *Dir
	name string
	fd   int
}

// A HeldError says that another process has a lock.
type HeldError struct {
	Path string // of the lock file
	PID  int    // of the holder, as it wrote it there; 0: it has not
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return e.Path + " is locked by another process"
	}
	return fmt.Sprintf("%s is locked by pid %d", e.Path, e.PID)
}

// Lock takes a lock file of ours in this directory, without waiting. The file
// is 0600: whoever could open it, if only for reading, could hold the lock. The
// error is a [*HeldError] if another process has it. The directory must stay
// open for as long as the lock is held.
func (d *Dir) Lock(name string) (*Lock, error) {
	for {
		f, err := d.Open(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		// A descriptor of our own: an os.File closes itself when it is collected.
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", d.join(name), err)
		}
		l := &Lock{dir: d, name: name, fd: fd}
		gone, err := l.take()
		if err == nil && !gone {
			return l, nil
		}
		unix.Close(fd)
		if err != nil {
			return nil, err
		}
	}
}

// take locks the open file and writes our pid into it for those who come later.
// A file that lost its name between open and lock keeps nobody out: gone.
func (l *Lock) take() (gone bool, err error) {
	err = retry(func() error { return unix.Flock(l.fd, unix.LOCK_EX|unix.LOCK_NB) })
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, &HeldError{Path: l.dir.join(l.name), PID: l.holder()}
	case err != nil:
		return false, fmt.Errorf("cannot lock %s: %w", l.dir.join(l.name), err)
	}
	st, err := stat(l.fd)
	if err != nil || st.Nlink == 0 {
		return true, err
	}
	// On a full disk those who come later will not see our pid: no more than that.
	if unix.Ftruncate(l.fd, 0) == nil {
		unix.Pwrite(l.fd, []byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return false, nil
}

// holder is the pid in the file, or 0.
func (l *Lock) holder() int {
	var b [20]byte
	n, _ := unix.Pread(l.fd, b[:], 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:max(n, 0)])))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}

// Unlock gives the lock back and leaves the file.
func (l *Lock) Unlock() error { return unix.Close(l.fd) }

// Remove removes the file, if it still is the one that was locked, and then
// gives the lock back; who waits for this file finds that it is gone.
func (l *Lock) Remove() error {
	var there unix.Stat_t
	err := unix.Fstatat(l.dir.fd, l.name, &there, unix.AT_SYMLINK_NOFOLLOW)
	if st, e := stat(l.fd); err == nil && e == nil && SameFile(st, there) {
		err = l.dir.Remove(l.name)
	}
	return errors.Join(err, l.Unlock())
}
