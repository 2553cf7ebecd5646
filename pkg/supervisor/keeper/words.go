package keeper

import (
	"syscall"
)

// A word is something to be said. It is looked up when it can be sent, so what is told is
// always what is true, and no descriptor is closed under it.
type word interface {
	message() *message // nil: there is nothing to say any more
	sent() (over bool)
}

// A fixed word is true whenever it is said.
type fixed struct{ m *message }

func (f *fixed) message() *message { return f.m }

func (f *fixed) sent() bool { return true }

// about tells of an entry.
type about struct {
	k      *keeper
	e      *entry
	number uint32
}

func (a *about) message() *message {
	if a.e.dropped {
		return nil
	}
	return a.e.message(a.number, a.k.limit)
}

func (a *about) sent() bool { return true }

// A listing tells of all entries that are there when it is their turn.
type listing struct {
	k      *keeper
	number uint32
	at     uint64 // the last that was told
	upTo   uint64
}

func (l *listing) message() *message {
	if e := l.next(); e != nil {
		return e.message(l.number, l.k.limit)
	}
	return &message{verb: sayDone, number: l.number, fields: []string{"0"}}
}

func (l *listing) next() *entry {
	if e := l.k.table.next(l.at); e != nil && e.id <= l.upTo {
		return e
	}
	return nil
}

func (l *listing) sent() (over bool) {
	e := l.next()
	if e != nil {
		l.at = e.id
	}
	return e == nil
}

// news tells that a process has ended.
type news struct{ e *entry }

func (n *news) message() *message {
	if n.e.dropped {
		return nil
	}
	return &message{verb: sayEnded, fields: []string{n.e.key, decimal(n.e.status)}}
}

func (n *news) sent() bool { return true }

// An alarm tells of a signal that nobody has stored.
type alarm struct {
	m      *manager
	signal syscall.Signal
	serial uint32 // that was told
}

func (a *alarm) message() *message {
	a.serial = a.m.k.pending[a.signal]
	if a.serial == 0 {
		a.m.alarmed[a.signal] = false
		return nil
	}
	return &message{verb: saySignal, fields: []string{decimal(a.signal), decimal(a.serial)}}
}

func (a *alarm) sent() bool {
	a.m.alarmed[a.signal], a.m.known[a.signal] = false, a.serial
	return true
}
