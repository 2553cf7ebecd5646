package socket

import (
	"fmt"
	"slices"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A remnant is what came of a ring whose sockets did not all come, while processes
// have some of them. Those are served as they were, but nothing can be steered, and
// nothing can be bound beside them; so the next start fails, and says why. When no
// process has a seat any more the address is bound anew.
//
// If all that is missing is with processes, the kernel's group is as it was: what
// came is held, so that nothing moves, until the first of the processes ends. If
// more is missing, places have moved and the program means others. The kernel then
// spreads clients over all sockets, and those that no process has would be a trap:
// they are closed, and processes hold theirs themselves.
type remnant struct {
	is   SocketRecord
	err  error
	fds  []int // held
	kept *custody
}

// A partError says that a ring is not complete.
type partError struct {
	missing, all int
	err          error // why the last one is missing
}

func (e *partError) Error() string {
	return fmt.Sprintf("%d of its %d sockets did not outlive the former supervisord (%s)", e.missing, e.all, e.err)
}

func (e *partError) Unwrap() error { return e.err }

// remain makes a remnant of the descriptors that came, if it is of use to anybody.
func (t *Table) remain(r *Record, s *SocketRecord, fds []int, err error) (endpoint, error) {
	m := &remnant{is: *s, err: bindError(r.Spec.Name, s.Bound, err), kept: t.custody}
	intact := fds[0] >= 0
	for i, fd := range fds {
		if fd >= 0 {
			m.fds = append(m.fds, fd)
		} else if i > 0 && r.Seats[i-1].Holder == 0 {
			intact = false
		}
	}
	if !r.held() {
		m.close()
		return nil, err
	}
	if !intact {
		m.close()
	}
	return m, err
}

// remnants lists those of a unit.
func (g *group) remnants() (all []*remnant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.all {
		if m, ok := e.(*remnant); ok {
			all = append(all, m)
		}
	}
	return all
}

// lapse is for when a process that had a seat has ended.
func (g *group) lapse() {
	for _, m := range g.remnants() {
		m.close()
	}
}

// bury removes remnants once nobody has a part of them. Their addresses can be
// bound anew then.
func (g *group) bury() {
	left := g.remnants()
	if len(left) == 0 || len(g.holders()) > 0 {
		return
	}
	g.lapse()
	g.mu.Lock()
	for a, e := range g.all {
		if _, ok := e.(*remnant); ok {
			delete(g.all, a)
		}
	}
	g.order = slices.DeleteFunc(g.order, func(e endpoint) bool { _, ok := e.(*remnant); return ok })
	g.mu.Unlock()
	g.furnish()
}

func (m *remnant) open() error                  { return m.err }
func (m *remnant) configure(*unit.Socket)       {}
func (m *remnant) listen() error                { return m.err }
func (m *remnant) serving() bool                { return false }
func (m *remnant) audit() []Finding             { return nil }
func (m *remnant) look() []fault                { return nil }
func (m *remnant) forget()                      {}
func (m *remnant) where() unit.Address          { return m.is.Bound }
func (m *remnant) file(int) (File, error)       { return File{}, m.err }
func (m *remnant) record() (SocketRecord, bool) { return m.is, true }

// refuse lets go of what clients could wait in.
func (m *remnant) refuse() error { return m.close() }

func (m *remnant) status() Status {
	return Status{Address: m.is.Bound.String(), Listening: true, Steered: true, Queue: -1, Limit: -1, Err: m.err}
}

func (m *remnant) close() error {
	for _, fd := range m.fds {
		m.kept.drop(fd)
		closeFD(fd)
	}
	m.fds = nil
	return nil
}
