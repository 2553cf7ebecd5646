package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// control is our end of the socket pair that a stage hangs on. When it closes
// before the task was sent whole, the stage ends.
type control struct{ file *os.File }

// newControl returns both ends; the stage's is an fd that the caller closes, and
// is above least.
func newControl(least int) (c control, stageEnd int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return control{}, -1, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	c = control{os.NewFile(uintptr(pair[0]), "stage")}
	defer unix.Close(pair[1])
	// The stage reads without a poller. The flag is each end's own.
	if err := unix.SetNonblock(pair[1], false); err != nil {
		c.close()
		return control{}, -1, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	if stageEnd, err = unix.FcntlInt(uintptr(pair[1]), unix.F_DUPFD_CLOEXEC, least+1); err != nil {
		c.close()
		return control{}, -1, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	return c, stageEnd, nil
}

func (c control) close() { c.file.Close() }

// converse sends the task with its fds and reads the answer, until the stage is
// gone: it has become its program, or has ended. The error is that of ctx.
func (c control) converse(ctx context.Context, message []byte, fds []int) (answer []byte, err error) {
	stop := context.AfterFunc(ctx, func() { c.file.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.send(message, fds); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	const longest = 1 << 16
	answer, err = io.ReadAll(io.LimitReader(c.file, longest))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, context.Cause(ctx)
	}
	return answer, nil // any other error is the stage's death, and the answer is what there is
}

// maxRights is how many fds are sent with one byte; the kernel takes 253.
const maxRights = 250

// send sends the message; fds go with its first bytes.
func (c control) send(message []byte, fds []int) error {
	conn, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Write(func(fd uintptr) bool {
		for len(message) > 0 {
			part, rights := message, fds
			if len(fds) > maxRights {
				part, rights = message[:1], fds[:maxRights]
			}
			n, err := sendRights(int(fd), part, rights)
			switch err {
			case nil:
				message, fds = message[n:], fds[len(rights):]
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				failed = err
				return true
			}
		}
		return true
	})
	return errors.Join(failed, err)
}

func sendRights(fd int, b []byte, fds []int) (int, error) {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	return unix.SendmsgN(fd, b, oob, nil, unix.MSG_NOSIGNAL)
}
