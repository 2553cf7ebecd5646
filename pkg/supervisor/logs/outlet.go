package logs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What may wait for one descriptor.
const (
	maxOutlet  = 1 << 20
	maxWaiting = 10_000 // writes
	maxAtOnce  = 64 << 10
)

// ErrStuck says that whoever reads a descriptor does not, and has had its time.
var ErrStuck = errors.New("whoever reads it does not keep up")

// An Outlet writes lines to a descriptor whose reader may be slow or stuck: a
// terminal after Ctrl-S, a pipe to a program that hangs. Nobody who has something
// to say waits for that reader. What finds no room is dropped and counted, and as
// soon as something can be written again, it is said how many lines are missing.
//
// The descriptor often belongs to others as well (a shell, a parent), so its flags
// stay as they are: one goroutine makes the calls that block, and there is one only
// while there is something to write.
//
// All methods are safe for use by several goroutines.
type Outlet struct {
	write  func([]byte) (int, error)
	notice func(lost uint64) []byte
	told   func(lost uint64)

	mu      sync.Mutex
	queue   []saying
	queued  int    // bytes in queue and on their way
	lost    uint64 // lines, of which nothing in queue tells
	busy    bool   // the goroutine exists
	stalled bool   // somebody has lost patience, and nothing was written since
	turn    chan struct{}
}

// A saying is whole lines, after some that were lost.
type saying struct {
	lost  uint64
	lines []byte
}

// NewOutlet makes an outlet of a descriptor, which it does not close. Where lines
// are missing it writes what notice makes of their number, and then calls told,
// which may tell it elsewhere. Neither may wait or write to this outlet; either
// may be nil.
func NewOutlet(fd int, notice func(lost uint64) []byte, told func(lost uint64)) *Outlet {
	return newOutlet(func(b []byte) (int, error) { return writeAll(fd, b) }, notice, told)
}

func newOutlet(write func([]byte) (int, error), notice func(uint64) []byte, told func(uint64)) *Outlet {
	o := &Outlet{write: write, notice: notice, told: told, turn: make(chan struct{})}
	if notice == nil {
		o.notice = func(uint64) []byte { return nil }
	}
	if told == nil {
		o.told = func(uint64) {}
	}
	return o
}

// Write takes whole lines. It never waits and never fails.
func (o *Outlet) Write(lines []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.add(lines) {
		o.lost += uint64(countLines(lines))
	}
	return len(lines), nil
}

// Patient is a writer to the same descriptor for those who can wait a little. When
// there is no room it waits for half a second after the last sign of life. Then, and
// at once until the reader goes on, its error is [ErrStuck] and the lines are lost.
func (o *Outlet) Patient() io.Writer { return patient{o} }

type patient struct{ o *Outlet }

func (p patient) Write(lines []byte) (int, error) {
	o := p.o
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.add(lines) {
		if o.stalled {
			o.lost += uint64(countLines(lines))
			return 0, ErrStuck
		}
		o.wait()
	}
	return len(lines), nil
}

// wait waits for a sign of life, and releases mu meanwhile.
func (o *Outlet) wait() {
	turn := o.turn
	late := time.NewTimer(patience / 2) // less than those wait who wait for us
	defer late.Stop()
	o.mu.Unlock()
	select {
	case <-turn:
	case <-late.C:
	}
	o.mu.Lock()
	o.stalled = o.turn == turn
}

// Flush waits until all is written, but no longer than d, and says whether it is.
func (o *Outlet) Flush(d time.Duration) bool {
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		o.mu.Lock()
		busy, turn := o.busy, o.turn
		o.mu.Unlock()
		if !busy {
			return true
		}
		select {
		case <-turn:
		case <-end.C:
			return false
		}
	}
}

// add queues lines if there is room; an empty queue has room for any. mu is held.
func (o *Outlet) add(lines []byte) bool {
	if o.queued > 0 && o.queued+len(lines) > maxOutlet || len(o.queue) >= maxWaiting {
		return false
	}
	o.queue = append(o.queue, saying{o.lost, bytes.Clone(lines)})
	o.queued += len(lines)
	o.lost = 0
	if !o.busy {
		o.busy = true
		go o.run()
	}
	return true
}

// run writes until nothing is left to say.
func (o *Outlet) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.queue) > 0 {
		if o.round() && len(o.queue) == 0 && o.lost > 0 {
			o.queue, o.lost = append(o.queue, saying{lost: o.lost}), 0
		}
		o.beat()
	}
	o.busy, o.queue = false, nil
	o.beat()
}

// beat wakes those who wait.
func (o *Outlet) beat() {
	o.stalled = false
	close(o.turn)
	o.turn = make(chan struct{})
}

// round writes some of the queue. What cannot be written for another reason than
// that it takes long is lost: the disk is full, the terminal has gone.
func (o *Outlet) round() (ok bool) {
	next := o.take()
	o.mu.Unlock()
	var notice []byte
	if next.lost > 0 {
		notice = o.notice(next.lost)
	}
	n, err := o.write(append(notice, next.lines...))
	if err == nil && next.lost > 0 {
		o.told(next.lost)
	}
	o.mu.Lock()
	o.queued -= len(next.lines)
	if err != nil {
		if len(notice) == 0 || n < len(notice) {
			o.lost += next.lost
		}
		whole := wholeLines(next.lines[:max(n-len(notice), 0)])
		o.lost += uint64(countLines(next.lines[whole:]))
	}
	return err == nil
}

// take removes from the queue what is to be written at once. mu is held.
func (o *Outlet) take() saying {
	next := o.queue[0]
	o.queue = o.queue[1:]
	for len(o.queue) > 0 && o.queue[0].lost == 0 && len(next.lines)+len(o.queue[0].lines) <= maxAtOnce {
		next.lines = append(next.lines, o.queue[0].lines...)
		o.queue = o.queue[1:]
	}
	return next
}

// writeAll writes to a descriptor whose flags are somebody else's: if it does not
// block, the waiting is done here.
func writeAll(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Write(fd, b[n:])
		n += max(m, 0)
		switch err {
		case nil, unix.EINTR:
		case unix.EAGAIN:
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1); err != nil && err != unix.EINTR {
				return n, os.NewSyscallError("poll", err)
			}
		default:
			return n, os.NewSyscallError("write", err)
		}
	}
	return n, nil
}
