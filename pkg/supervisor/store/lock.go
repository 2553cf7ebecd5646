package store

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

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

// lock takes the lock file for as long as the file is open. The file is 0600:
// whoever can open it, even for reading, can hold the lock.
func lock(dir *safepath.Dir, name string) (*os.File, error) {
	for {
		f, err := dir.Open(name, os.O_RDWR|os.O_CREATE, 0600)
		if err != nil {
			return nil, err
		}
		gone, err := hold(dir, f)
		if err == nil && !gone {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// hold locks an open file and writes our pid into it for those who come later.
// A file that was removed between open and lock keeps nobody out: gone.
func hold(dir *safepath.Dir, f *os.File) (gone bool, err error) {
	switch err := flock(f); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, &LockedError{Path: dir.Path(), PID: holder(f)}
	case err != nil:
		return false, fmt.Errorf("cannot lock %s: %w", f.Name(), err)
	}
	st, err := f.Stat()
	if err != nil {
		return false, err
	}
	if st.Sys().(*syscall.Stat_t).Nlink == 0 {
		return true, nil
	}
	// A full disk costs those who come later our pid, not us the lock.
	if f.Truncate(0) == nil {
		f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return false, nil
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}

// holder is the pid that the holder of the lock wrote into its file.
func holder(f *os.File) int {
	var b [20]byte
	n, _ := f.ReadAt(b[:], 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}
