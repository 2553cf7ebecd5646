package ipc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// Listen creates the control socket in dir, which must stay open as long as the socket
// exists. The inode is created with mode 0600 or less, so at no moment can anybody
// connect who may not. Listen replaces a socket that an earlier supervisord left, but only
// if nothing answers there; the caller holds the lock on dir. Close does not remove the
// file: [Unlink] does.
func Listen(dir *safepath.Dir, name string) (*net.UnixListener, error) {
	fail := func(err error) (*net.UnixListener, error) {
		return nil, fmt.Errorf("cannot listen on %s/%s: %w", dir.Path(), name, err)
	}
	if err := vacate(dir, name); err != nil {
		return fail(err)
	}
	config := net.ListenConfig{Control: beforeBind}
	l, err := config.Listen(context.Background(), "unix", dir.ProcName(name))
	if err != nil {
		return fail(errors.Unwrap(err))
	}
	control := l.(*net.UnixListener)
	control.SetUnlinkOnClose(false)
	if err := setMode(dir, name, socketMode); err != nil {
		control.Close()
		return fail(err)
	}
	return control, nil
}

// socketMode lets in our own user, and root.
const socketMode = 0o600

// setMode says the mode again, since bind(2) takes off it what the umask says.
func setMode(dir *safepath.Dir, name string, mode uint32) error {
	fd, err := unix.Openat(dir.FD(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return safepath.Chmod(fd, mode)
}

// A Node identifies the inode of a control socket. The zero Node stands for none.
type Node struct{ dev, ino uint64 }

// NodeOf returns the inode that is there now. Compare it with the one right after
// [Listen] to find out whether the socket was removed or replaced.
func NodeOf(dir *safepath.Dir, name string) Node {
	var st unix.Stat_t
	if err := unix.Fstatat(dir.FD(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Node{}
	}
	return Node{st.Dev, st.Ino}
}

// Unlink removes the control socket, if it still is the one called was.
func Unlink(dir *safepath.Dir, name string, was Node) error {
	if NodeOf(dir, name) != was || was == (Node{}) {
		return nil
	}
	return dir.Remove(name)
}

// soPassRights, when 0, has the kernel refuse descriptors that are sent to us
// (Linux 6.16). We would only close them, and closing can block: socket(7).
const soPassRights = 83

// beforeBind gives the inode its mode at birth: bind(2) takes it from the
// socket, so that there is no moment between bind and a chmod.
func beforeBind(_, _ string, c syscall.RawConn) (err error) {
	cerr := c.Control(func(fd uintptr) {
		if err = unix.Fchmod(int(fd), socketMode); err != nil {
			return
		}
		if e := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, soPassRights, 0); e != nil && e != unix.ENOPROTOOPT {
			err = e
		}
	})
	return errors.Join(cerr, err)
}

// vacate removes a socket that nobody listens on.
func vacate(dir *safepath.Dir, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir.FD(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return errors.New("something that is no socket is there")
	}
	switch err := knock(dir.ProcName(name)); err {
	case unix.ECONNREFUSED:
		return dir.Remove(name)
	case nil, unix.EAGAIN:
		return errors.New("another supervisord answers there")
	default:
		return fmt.Errorf("cannot find out who is there: %w", err)
	}
}

// knock connects without waiting, and hangs up.
func knock(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}
