package main

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
)

// harden makes this process one that nobody looks into and that leaks nothing to
// what it starts. Of the descriptors that it was started with it keeps 0, 1, 2 and
// the sockets that were given to it. Whoever waits for the end of another, such as
// a pipe to the script that started us, would wait for as long as we run.
//
// It comes before anything else opens descriptors.
func harden() ([]socket.Given, error) {
	if err := process.Harden(); err != nil {
		return nil, err
	}
	given, err := socket.Inherited()
	if err != nil {
		return nil, err
	}
	rest, err := inherited()
	if err != nil {
		return nil, err
	}
	if err := socket.CloexecRest(); err != nil {
		return nil, err
	}
	closeAll(rest)
	return given, nil
}

// inherited lists what is open from 3 on and was open before this program ran:
// execve(2) leaves only what is not close-on-exec. All that was opened since is, by
// Go's runtime (its poller, the processor limits of a cgroup) and by us, and so is
// what [socket.Inherited] has taken.
func inherited() (fds []int, err error) {
	fail := func(err error) ([]int, error) {
		return nil, fmt.Errorf("cannot find out which descriptors supervisord was started with: %w", err)
	}
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return fail(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return fail(err)
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds, nil
}

// closers is how many descriptors are closed at once.
const closers = 64

// closeAll closes descriptors that nobody else knows of, beside us: to close a file
// whose server does not answer can take for ever. One that hangs so holds a thread, and
// up to closers of them do not keep the others open. Their numbers are taken until then,
// so no other file can have got one.
func closeAll(fds []int) {
	todo := make(chan int, len(fds))
	for _, fd := range fds {
		todo <- fd
	}
	close(todo)
	for range min(closers, len(fds)) {
		go func() {
			for fd := range todo {
				unix.Close(fd)
			}
		}()
	}
}
