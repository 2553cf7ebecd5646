package doors

import (
	"sync"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A door is one socket unit, as of an instance. It is there as long as anybody
// wants it, uses it or has something of it.
type door struct {
	turn  chan struct{} // has room for one: who changes its sockets
	users int           // who have it in hand; guarded by Doors.mu
	due   chan struct{} // closed when the change that waits for its turn is done; nil: none waits; guarded by Doors.mu
	late  chan struct{} // the due of a change that somebody has waited for in vain; nil: none is; guarded by Doors.mu
	next  *division     // waits for its turn; nil: none does; guarded by Doors.mu

	state sync.Mutex // guards what follows, held for moments
	err   error      // why it is not what is wanted
	has   map[Process]holder
	wills map[string]will // by service
}

// A holder is what a process was given.
type holder struct {
	ticket  unit.Invocation
	cookies []uint64
}

// note remembers why the door is not what is wanted, and says whether that is new.
func (door *door) note(err error) bool {
	door.state.Lock()
	defer door.state.Unlock()
	was := door.err
	door.err = err
	return err != nil && (was == nil || was.Error() != err.Error())
}

func (door *door) give(who Process, h holder) {
	door.state.Lock()
	defer door.state.Unlock()
	door.has[who] = h
}

// look lets f have a look at what is known of a door, if there is one, and forgets
// it if it was the last that had something of it.
func (d *Doors) look(name string, f func(*door)) {
	d.mu.Lock()
	door := d.each[name]
	if door == nil {
		d.mu.Unlock()
		return
	}
	door.users++
	d.mu.Unlock()
	defer d.leave(name, door)
	door.state.Lock()
	defer door.state.Unlock()
	f(door)
}

// use takes a door in hand until [Doors.leave]. It needs d.mu.
func (d *Doors) use(name string) *door {
	if d.each[name] == nil {
		d.each[name] = &door{turn: make(chan struct{}, 1), has: map[Process]holder{}, wills: map[string]will{}}
	}
	d.each[name].users++
	return d.each[name]
}

// leave forgets a door that nobody uses, wants, or has something of.
func (d *Doors) leave(name string, door *door) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if door.users--; door.users > 0 || d.demand.names(name) {
		return
	}
	door.state.Lock()
	defer door.state.Unlock()
	if door.err == nil && len(door.has) == 0 {
		delete(d.each, name)
	}
}

// errOf needs d.mu.
func (d *Doors) errOf(name string) error {
	door := d.each[name]
	if door == nil {
		return nil
	}
	door.state.Lock()
	defer door.state.Unlock()
	return door.err
}
