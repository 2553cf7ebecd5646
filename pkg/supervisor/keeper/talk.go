package keeper

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what a manager can make us do or remember at a time.
const (
	longQueue = 1024 // one that asks, and does not read, waits
	atOnce    = 64   // messages; others have a turn then
	lastWords = 4096 // more than a line holds
)

// ready says what is to be said, and hears what was.
func (m *manager) ready() {
	m.flush()
	m.hear(atOnce)
	m.listen()
}

// hear does what a manager asks.
func (m *manager) hear(most int) {
	for ; most > 0; most-- {
		q, err := m.k.in.receive(m.line)
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EPIPE:
			m.hungUp()
			return
		case err == unix.EMFILE && q.verb.asks(): // whatever was meant, it cannot be done
			m.done(q.number, unix.EMFILE)
		case err != nil || !q.verb.asks():
			m.k.refuse(q.files...)
			m.rubbish()
			return
		default:
			m.do(&q)
		}
	}
}

func (m *manager) rubbish() {
	m.queue = nil
	m.kill("it talked rubbish")
}

// hungUp: nobody has the other end. A manager that is not about to end is of no use.
func (m *manager) hungUp() {
	if !m.gone {
		m.k.forget(m.line)
		m.queue = nil
		m.kill("it hung up")
	}
}

// say queues a word, and sends what can be sent.
func (m *manager) say(w word) {
	if m.gone {
		return
	}
	if m.queue = append(m.queue, w); !m.blocked && !m.resend.set() {
		m.flush()
		m.listen()
	}
}

func (m *manager) done(number uint32, err error) {
	e, ok := err.(syscall.Errno)
	if err != nil && !ok {
		e = unix.EIO
	}
	m.say(&fixed{&message{verb: sayDone, number: number, fields: []string{decimal(e)}}})
}

func (m *manager) flush() {
	m.blocked = false
	for len(m.queue) > 0 {
		w := m.queue[0]
		what := w.message()
		if what == nil {
			m.queue = m.queue[1:]
			continue
		}
		switch err := send(m.line, what); err {
		case nil:
			if w.sent() {
				m.queue = m.queue[1:]
			}
		case unix.EAGAIN:
			m.blocked = true
			return
		case unix.ETOOMANYREFS, unix.ENOBUFS, unix.ENOMEM: // there is no room for it just now
			m.resend.in(10 * time.Millisecond)
			return
		case unix.EPIPE, unix.ECONNRESET:
			m.queue = nil
		default: // it would wait for its answer for ever
			m.queue = nil
			m.kill("it could not be told something: " + err.Error())
		}
	}
	m.queue = nil
}

// listen waits for what can be done.
func (m *manager) listen() {
	events := uint32(0)
	if len(m.queue) < longQueue {
		events |= unix.EPOLLIN
	}
	if m.blocked {
		events |= unix.EPOLLOUT
	}
	m.k.listen(m.line, events)
}
