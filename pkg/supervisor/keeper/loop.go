package keeper

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A loop waits in epoll(7) for what happens, and for nothing else. What it calls does
// not wait, and looks for itself: it may be called when there is nothing to do.
type loop struct {
	epoll   int
	watched map[int32]*watch
	serial  int32
	timers  []*timer // that are set
	woke    time.Time
}

// A watch is a descriptor that is waited for.
type watch struct {
	serial int32 // tells a later one of the same number
	events uint32
	ready  func()
}

// A timer calls due at its time. One that judges is another process's
// deadline: a pause of our own does not count, as that one may have been paused too.
type timer struct {
	loop   *loop
	judges bool
	due    func()
	at     time.Time
}

func newLoop() *loop { return &loop{epoll: -1, watched: map[int32]*watch{}, woke: time.Now()} }

func (l *loop) open() (err error) {
	l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return err
}

func (l *loop) timer(due func()) *timer { return &timer{loop: l, due: due} }

func (l *loop) judge(due func()) *timer { return &timer{loop: l, due: due, judges: true} }

func (t *timer) in(d time.Duration) {
	t.stop()
	t.at = time.Now().Add(d)
	t.loop.timers = append(t.loop.timers, t)
}

func (t *timer) set() bool { return slices.Contains(t.loop.timers, t) }

func (t *timer) stop() {
	t.loop.timers = slices.DeleteFunc(t.loop.timers, func(o *timer) bool { return o == t })
}

// watch calls ready whenever there is one of events.
func (l *loop) watch(fd int, events uint32, ready func()) error {
	l.serial++
	w := &watch{serial: l.serial, events: events, ready: ready}
	if err := l.control(unix.EPOLL_CTL_ADD, fd, w); err != nil {
		return err
	}
	l.watched[int32(fd)] = w
	return nil
}

// listen changes the events that are waited for. Without any an end is still told.
func (l *loop) listen(fd int, events uint32) {
	w := l.watched[int32(fd)]
	if w == nil || w.events == events {
		return
	}
	w.events = events
	l.control(unix.EPOLL_CTL_MOD, fd, w)
}

// forget must come before close: another process may hold the same description, and
// epoll would go on to tell of it.
func (l *loop) forget(fd int) {
	if w := l.watched[int32(fd)]; w != nil {
		l.control(unix.EPOLL_CTL_DEL, fd, w)
		l.closed(fd)
	}
}

// closed is for a descriptor that was closed already, of which we had the only copy.
func (l *loop) closed(fd int) { delete(l.watched, int32(fd)) }

func (l *loop) control(op, fd int, w *watch) error {
	return unix.EpollCtl(l.epoll, op, fd, &unix.EpollEvent{Events: w.events, Fd: int32(fd), Pad: w.serial})
}

// round waits until something happens, and does it. What is there comes before what is
// due: an answer that has come is not late.
func (l *loop) round() {
	var events [64]unix.EpollEvent
	wait := l.wait()
	n, err := unix.EpollWait(l.epoll, events[:], wait)
	if err != nil && err != unix.EINTR {
		panic("keeper: epoll_wait: " + err.Error()) // our own bug
	}
	l.forgive(wait)
	for _, e := range events[:max(n, 0)] {
		if w := l.watched[e.Fd]; w != nil && w.serial == e.Pad {
			w.ready()
		}
	}
	if n < len(events) {
		l.expire()
	}
}

func (l *loop) expire() {
	now := time.Now()
	for _, t := range slices.Clone(l.timers) {
		if t.set() && !now.Before(t.at) {
			t.stop()
			t.due()
		}
	}
}

// wait is the time to the first timer in milliseconds; -1: there is none.
func (l *loop) wait() int {
	if len(l.timers) == 0 {
		return -1
	}
	first := slices.MinFunc(l.timers, func(a, b *timer) int { return a.at.Compare(b.at) })
	const longest = time.Hour
	return int((min(max(time.Until(first.at), 0), longest) + time.Millisecond - 1) / time.Millisecond)
}

// forgive moves the timers that judge by the time that we were stopped.
func (l *loop) forgive(wait int) {
	const usual = time.Second
	now := time.Now()
	late := now.Sub(l.woke) - time.Duration(wait)*time.Millisecond
	if l.woke = now; wait < 0 || late < usual {
		return
	}
	for _, t := range l.timers {
		if t.judges {
			t.at = t.at.Add(late)
		}
	}
}
