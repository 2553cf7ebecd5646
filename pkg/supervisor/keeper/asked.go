package keeper

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errLater says that there is a done later, or none.
const errLater = syscall.Errno(1 << 13)

// take takes the files of a message over.
func (q *message) take() (files []int) {
	files, q.files = q.files, nil
	return files
}

// do does what is asked.
func (m *manager) do(q *message) {
	err := m.answerTo(q)
	then := func() {}
	switch err {
	case errLater:
	case errBroken:
		m.rubbish()
	default:
		then = m.whenClosed(q.number, err)
	}
	m.k.table.discard(m.k.table.hold(q.files...), then) // which nobody has taken
}

func (m *manager) answerTo(q *message) error {
	if !m.rules && q.verb != askList && q.verb != askUp && q.verb != askPong {
		return unix.EPERM
	}
	switch q.verb {
	case askPut:
		return m.k.put(q)
	case askDrop:
		return m.drop(q)
	case askList:
		return m.list(q)
	case askSpawn:
		return m.k.spawn(m, q)
	case askAdopt:
		return m.k.adopt(m, q)
	case askTell:
		return m.k.systemd.tell(q)
	case askUp:
		return m.isUp()
	case askServing:
		return m.isServing()
	case askHeard:
		return m.k.heard(q)
	case askPong:
		return m.pong(q)
	case askExit:
		return m.exit(q)
	}
	return unix.ENOSYS
}

// refuse closes descriptors that are nobody's.
func (k *keeper) refuse(fds ...int) { k.table.discard(k.table.hold(fds...), nil) }

// put keeps descriptors.
func (k *keeper) put(q *message) error {
	r := q.read()
	key, meta := r.text(), r.text()
	if err := k.table.free(key, meta); err != nil {
		return err
	}
	if err := k.table.room(len(q.files)); err != nil {
		return err
	}
	k.table.fill(k.table.add(&entry{key: key, meta: meta}), q.take()...)
	return nil
}

// drop closes an entry, and reaps its process. One that is done twice is right.
func (m *manager) drop(q *message) error {
	e := m.k.table.entries[q.fields[0]]
	switch {
	case e == nil:
		return nil
	case e.state == spawning, e.state == Running && !e.foreign:
		return unix.EBUSY
	case e.state == Ended && !e.foreign:
		reap(unix.P_PIDFD, e.files.fds[0])
	}
	for _, fd := range e.files.fds {
		m.k.forget(fd)
	}
	e.files.then = m.whenClosed(q.number, nil)
	m.k.table.remove(e)
	return errLater
}

// heldUp is how long an answer waits for a close. One that takes longer is held up by
// another process.
const heldUp = time.Second

// whenClosed puts off an answer. What it returns is called when everything is closed; the
// answer is given then, or after heldUp, whichever comes first.
func (m *manager) whenClosed(number uint32, err error) func() {
	late := m.k.timer(func() { m.done(number, err) })
	late.in(heldUp)
	return func() {
		if late.set() {
			late.stop()
			m.done(number, err)
		}
	}
}

func (m *manager) list(q *message) error {
	m.say(&listing{k: m.k, number: q.number, upTo: m.k.table.last})
	return errLater
}

// isUp: nobody else rules, so it is its turn.
func (m *manager) isUp() error {
	if m.up {
		return nil
	}
	m.up, m.rules = true, true
	m.by.in(m.k.Times.Patience)
	p := m.k.past
	m.say(&fixed{&message{verb: sayGo, fields: []string{decimal(p.managers), decimal(p.pid), decimal(p.status), p.why}}})
	m.alarm()
	return nil
}

func (m *manager) isServing() error {
	if !m.serves {
		m.serves, m.k.served = true, true
		m.by.stop()
		m.next.in(m.k.Times.Ping)
	}
	return nil
}

// exit: the next end of a manager is ours.
func (m *manager) exit(q *message) error {
	r := q.read()
	status := r.number(32)
	if r.broken {
		return errBroken
	}
	m.k.ending, m.k.status = true, status&0xff
	m.next.stop()
	m.answer.stop()
	m.by.in(m.k.Times.Patience)
	return nil
}
