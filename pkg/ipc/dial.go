package ipc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// NoOwner means that a control socket may belong to root or to our own user, and to
// nobody else.
const NoOwner = -1

// A dialer connects to a control socket, and says nothing to one that somebody
// else listens on: a planted path or variable must not make root tell an
// impostor what it wants, or believe what that answers.
type dialer struct {
	path  string
	owner int // a further uid that may listen; NoOwner: none
}

func (d dialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	dir, name, err := openParent(d.path)
	if err != nil {
		return nil, d.unreachable(err)
	}
	defer unix.Close(dir)
	c, err := new(net.Dialer).DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(dir)+"/"+name)
	if err != nil {
		return nil, d.unreachable(err)
	}
	u := c.(*net.UnixConn)
	pid, err := d.inspect(u)
	if err != nil {
		u.Close()
		return nil, err
	}
	return &known{u, pid}, nil
}

// openParent lets a path be longer than the 107 bytes that fit into a sockaddr.
func openParent(path string) (dir int, name string, err error) {
	at, name := filepath.Split(path)
	if at == "" {
		at = "."
	}
	dir, err = unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return dir, name, err
}

// inspect asks the kernel who called listen(2).
func (d dialer) inspect(c *net.UnixConn) (pid int, err error) {
	who, err := peer(c)
	if err != nil {
		return 0, d.unreachable(err)
	}
	if who.UID == 0 || int(who.UID) == os.Geteuid() || int(who.UID) == d.owner {
		return who.PID, nil
	}
	return 0, &Error{
		Code:    Unreachable,
		Message: fmt.Sprintf("cannot trust %s: uid %d listens there (pid %d), not root or you", d.path, who.UID, who.PID),
		Notes:   []string{"nothing was sent"},
		Hints:   []string{fmt.Sprintf("if that is the supervisord you mean, add --socket-owner %d", who.UID)},
	}
}

// unreachable says why nobody answers.
func (d dialer) unreachable(err error) error {
	e := &Error{Code: Unreachable, Message: fmt.Sprintf("cannot reach supervisord at %s: %s", d.path, cause(err))}
	switch {
	case errors.Is(err, unix.ENOENT):
		e.Hints = []string{"is it running? supervisord prints the path for --socket when it starts"}
	case errors.Is(err, unix.ECONNREFUSED):
		e.Message = fmt.Sprintf("cannot reach supervisord at %s: nobody listens there", d.path)
		e.Hints = []string{"it has ended; start supervisord"}
		if st, err := os.Stat(d.path); err == nil && st.Mode()&fs.ModeSocket == 0 {
			e.Message = fmt.Sprintf("cannot reach supervisord at %s: it is not a socket", d.path)
			e.Hints = []string{"supervisord prints the path for --socket when it starts"}
		}
	case errors.Is(err, unix.EAGAIN):
		e.Message = fmt.Sprintf("cannot reach supervisord at %s: too many wait there to be answered", d.path)
		e.Hints = []string{"it hangs or is stopped; to see its pid, and how many wait: ss -xlp"}
	case errors.Is(err, unix.EACCES):
		e.Code = Denied
		e.Message = fmt.Sprintf("cannot use %s: permission denied", d.path)
		e.Hints = []string{"only root and supervisord's own user may: use sudo"}
	}
	return e
}

// cause is the innermost error: what the system says, without Go's account of
// how it came to ask.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
