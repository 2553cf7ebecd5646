package safepath

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Chmod changes the mode of what a descriptor, also an O_PATH one, is open on.
func Chmod(fd int, mode uint32) error {
	err := retry(func() error { return unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH) })
	if err != unix.EOPNOTSUPP && err != unix.EINVAL {
		return err
	}
	return chmodByProc(fd, mode)
}

// chmodByProc is for kernels without fchmodat2 (before 6.6): /proc has a name
// for the very inode.
func chmodByProc(fd int, mode uint32) error {
	return retry(func() error { return unix.Fchmodat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), mode, 0) })
}

// Chown changes the owner of what a descriptor, also an O_PATH one, is open on.
// -1 leaves an id as it is.
func Chown(fd, uid, gid int) error {
	return retry(func() error { return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH) })
}

// self is asked of the kernel, never of the environment.
func self() uint32 { return uint32(os.Geteuid()) }

func kind(st unix.Stat_t) uint32 { return st.Mode & unix.S_IFMT }

func stat(fd int) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstat(fd, &st) })
	return st, err
}

func openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dir, name, flags, mode)
		return err
	})
	return fd, err
}

// readlink reads the link that an O_PATH descriptor is open on.
func readlink(fd int) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", b)
	if err != nil {
		return "", err
	}
	if n == 0 || n == len(b) {
		return "", unix.ENAMETOOLONG
	}
	return string(b[:n]), nil
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// SameFile says whether two looks were at one inode.
func SameFile(a, b unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }
