package process

import (
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

// converse sends the task and reads the answer, until the stage is gone: it has
// become its program, or has ended. The error is that of ctx.
func (c control) converse(ctx context.Context, message []byte) (answer []byte, err error) {
	stop := context.AfterFunc(ctx, func() { c.file.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err = c.file.Write(message)
	if err == nil || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		const longest = 1 << 16
		answer, err = io.ReadAll(io.LimitReader(c.file, longest))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, context.Cause(ctx)
	}
	return answer, nil // any other error is the stage's death, and the answer is what there is
}
