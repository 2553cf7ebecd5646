package main

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// errNobodyReads ends what is written for somebody who has gone.
var errNobodyReads = errors.New("nobody reads the output any more")

// whileRead returns a context that also ends when nobody has the other end of the pipe
// any more to which the console writes. Who follows something quiet would find that out
// only when there is something to write, perhaps never.
func (c *console) whileRead(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop = func() { cancel(nil) }
	f, ok := c.w.(*os.File)
	if !ok {
		return ctx, stop
	}
	if st, err := f.Stat(); err != nil || st.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return ctx, stop
	}
	raw, err := f.SyscallConn() // and not Fd, which may change the flags of what others share
	if err != nil {
		return ctx, stop
	}
	go raw.Control(func(fd uintptr) { // until superctl ends
		if hungUp(int(fd)) {
			cancel(errNobodyReads)
		}
	})
	return ctx, stop
}

// hungUp waits until the other end of a pipe or socket has gone. No events are asked for:
// POLLERR, that of a pipe without a reader, and POLLHUP come without.
func hungUp(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, -1)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}
