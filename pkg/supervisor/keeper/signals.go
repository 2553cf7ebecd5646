package keeper

import (
	"math/bits"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarded are the signals of supervisord. They mean something to the manager alone.
var forwarded = []syscall.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
}

// hearSignals has signals wake us. Of each there is a channel of its own, with room for
// one: package os/signal drops what a channel has no room for, and so only a signal is
// dropped that is about to be heard.
func (k *keeper) hearSignals() error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	var came atomic.Uint64
	for _, s := range append([]syscall.Signal{syscall.SIGCHLD, syscall.SIGTSTP}, forwarded...) {
		c := make(chan os.Signal, 1)
		signal.Notify(c, s)
		go relay(c, &came, fd)
	}
	return k.watch(fd, unix.EPOLLIN, func() {
		lower(fd)
		for set := came.Swap(0); set != 0; set &= set - 1 {
			k.signalled(syscall.Signal(bits.TrailingZeros64(set)))
		}
	})
}

func relay(c <-chan os.Signal, came *atomic.Uint64, fd int) {
	for s := range c {
		came.Or(1 << s.(syscall.Signal))
		raise(fd)
	}
}

func (k *keeper) signalled(s syscall.Signal) {
	switch {
	case s == syscall.SIGCHLD:
		k.reaper.sweep()
	case s == syscall.SIGTSTP: // the terminal's user wants the prompt back
		unix.Kill(unix.Getpid(), unix.SIGSTOP)
	case s == syscall.SIGHUP && k.hungUp():
	default:
		k.signals++
		k.pending[s] = k.signals
		if k.now != nil && k.now.rules {
			k.now.alarm()
		}
	}
}

// hungUp says whether the terminal is gone that we were started from: then SIGHUP told
// of that, and of nothing that anybody wants.
func (k *keeper) hungUp() bool { return k.terminal && !hasTerminal() }

func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// alarm tells of each signal that nobody has stored, one that came again as well.
func (m *manager) alarm() {
	for _, s := range forwarded {
		if m.k.pending[s] > m.known[s] && !m.alarmed[s] {
			m.alarmed[s] = true
			m.say(&alarm{m: m, signal: s})
		}
	}
}

// heard: what a signal orders is stored.
func (k *keeper) heard(q *message) error {
	r := q.read()
	s, serial := r.number(8), r.unsigned(32)
	switch {
	case r.broken:
		return errBroken
	case s < 1 || s >= len(k.pending):
		return unix.EINVAL
	}
	if k.pending[s] == uint32(serial) {
		k.pending[s] = 0
	}
	return nil
}
