package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The functions of this file speak sd_notify(3). Without a supervisor that wants to
// hear it they do nothing and return nil. With one that does not read they fail
// when ctx is done, or after 5 s.

// Ready tells the supervisor that the service serves. [Serve] and [Group.Serve]
// say it themselves.
func Ready(ctx context.Context) error { return Notify(ctx, "READY=1") }

// Stopping tells the supervisor that the service is about to leave, for good.
func Stopping(ctx context.Context) error { return Notify(ctx, "STOPPING=1") }

// Status tells the supervisor in one line what the service does.
func Status(ctx context.Context, text string) error {
	return Notify(ctx, "STATUS="+strings.ReplaceAll(text, "\n", " "))
}

// Reloading tells the supervisor that the service reloads its configuration.
// [Ready] ends it.
func Reloading(ctx context.Context) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("cannot notify: %w", os.NewSyscallError("clock_gettime", err))
	}
	return Notify(ctx, "RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(now.Nano()/1000, 10))
}

// Errno tells the supervisor the cause of a failure.
func Errno(ctx context.Context, errno syscall.Errno) error {
	return Notify(ctx, "ERRNO="+strconv.Itoa(int(errno)))
}

// ExtendTimeout asks for at least d, rounded down to microseconds, before the
// start, the stop or the run that is going on is given up.
func ExtendTimeout(ctx context.Context, d time.Duration) error {
	return Notify(ctx, "EXTEND_TIMEOUT_USEC="+strconv.FormatInt(d.Microseconds(), 10))
}

// Notify sends assignments such as "READY=1" to the supervisor in one message.
func Notify(ctx context.Context, assignments ...string) error {
	return notify(ctx, nil, assignments...)
}

// Barrier returns when the supervisor has read all that was said before, or with
// the error of ctx.
func Barrier(ctx context.Context) error {
	if inherited().notify == "" {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot notify: %w", err)
	}
	defer r.Close()
	err = withFD(w, func(fd int) error { return notify(ctx, []int{fd}, "BARRIER=1") })
	w.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	// The supervisor closes the other end.
	if _, err := r.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return ctx.Err()
	}
	return nil
}

// Store gives the supervisor a duplicate of each file to keep under a name, which
// outlives this process: [Stored] of the next one returns it. A name is at most
// 255 printable characters without ":". The files stay open and the caller's.
//
// The supervisor drops what it has no room for without saying so.
func Store(ctx context.Context, name string, files ...syscall.Conn) error {
	if !validName(name) {
		return fmt.Errorf("cannot store files: %q is not a name", name)
	}
	return withFDs(files, nil, func(fds []int) error {
		return notify(ctx, fds, "FDSTORE=1", "FDNAME="+name)
	})
}

// Unstore asks the supervisor to close all that is stored under a name.
func Unstore(ctx context.Context, name string) error {
	if !validName(name) {
		return fmt.Errorf("cannot remove stored files: %q is not a name", name)
	}
	return Notify(ctx, "FDSTOREREMOVE=1", "FDNAME="+name)
}

// Stored returns the files that were stored under a name before this process was
// started. It returns none, and no error, if there are none. A stored listener or
// datagram socket is among [Inherited] instead.
func Stored(name string) ([]*os.File, error) {
	s, err := Inherited()
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, i := range s.sockets {
		if i.name == name && i.file != nil {
			files = append(files, i.file)
		}
	}
	return files, nil
}

// Watchdog tells the supervisor that the service is well, as often as it wants to
// hear that, for as long as check returns nil. It returns when ctx is done, or at
// once if the supervisor does not want to hear it. A check that fails is asked
// again; if it fails for long, the supervisor ends the process.
func Watchdog(ctx context.Context, check func(context.Context) error) {
	interval := inherited().watchdog
	if interval == 0 {
		return
	}
	watch(ctx, interval/2, check, func() { Notify(ctx, "WATCHDOG=1") })
}

// watch calls ping now and at each interval, where check allows it.
func watch(ctx context.Context, interval time.Duration, check func(context.Context) error, ping func()) {
	ticker := time.NewTicker(max(interval, time.Millisecond))
	defer ticker.Stop()
	for {
		if check(ctx) == nil {
			ping()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// WatchdogInterval is the time after which the supervisor takes silence for a
// failure, 0 if it does not.
func WatchdogInterval() time.Duration { return inherited().watchdog }

// notify sends one message with descriptors. It uses sendmsg itself since
// WriteMsgUnix refuses a connected datagram socket, and a socket of its own for
// each message since a supervisor may come back under the same path.
func notify(ctx context.Context, fds []int, assignments ...string) error {
	path := inherited().notify
	if path == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, notifyTime)
	defer cancel()
	if err := send(ctx, path, strings.Join(assignments, "\n"), fds); err != nil {
		return fmt.Errorf("cannot notify %s: %w", path, err)
	}
	return nil
}

// notifyTime is how long a supervisor that does not read what it is told may hold
// up whoever tells it.
const notifyTime = 5 * time.Second

func send(ctx context.Context, path, message string, fds []int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if path[0] != '/' && path[0] != '@' {
		return errors.New("not an address of a unix socket")
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		for {
			sent = unix.Sendmsg(int(fd), []byte(message), rights, nil, unix.MSG_NOSIGNAL)
			if sent != unix.EINTR {
				return sent != unix.EAGAIN
			}
		}
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return os.NewSyscallError("sendmsg", sent)
}

func validName(name string) bool {
	if name == "" || len(name) > 255 {
		return false
	}
	for _, r := range []byte(name) {
		if r < ' ' || r > '~' || r == ':' {
			return false
		}
	}
	return true
}

// withFD lends f the descriptor of c, which stays open and as it is until f
// returns.
func withFD(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func withFDs(files []syscall.Conn, fds []int, f func([]int) error) error {
	if len(files) == 0 {
		return f(fds)
	}
	return withFD(files[0], func(fd int) error { return withFDs(files[1:], append(fds, fd), f) })
}
