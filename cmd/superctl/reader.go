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
	go func() { // until superctl ends
		for {
			// No events are asked for: POLLERR, that of a pipe without a reader, and
			// POLLHUP come without.
			poll := []unix.PollFd{{Fd: int32(f.Fd())}}
			n, err := unix.Poll(poll, -1)
			if err == unix.EINTR {
				continue
			}
			if err == nil && n > 0 {
				cancel(errNobodyReads)
			}
			return
		}
	}()
	return ctx, stop
}
