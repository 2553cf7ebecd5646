// Package socket owns the listening sockets of all services.
//
// A socket is bound once and stays bound for as long as the configuration names
// it, whatever becomes of the processes that accept from it: they get copies of
// its descriptor, and all copies share one queue. So the rules are about what is
// shared:
//
//   - O_NONBLOCK lies on the open file description, which every worker shares.
//     It is set when the socket is made and never again: a change would turn a
//     running server's accept into one that blocks. For the same reason a socket
//     never becomes an os.File, whose Fd method clears the flag and whose
//     finalizer closes the descriptor.
//   - Only this package binds, listens, shuts down and unlinks. A worker that
//     leaves takes nothing with it, and what one does to a socket is looked for
//     and mended ([Table.Audit]), at events: a question changes nothing.
//   - A socket that nothing can mend is replaced. Processes that have the old one
//     must be replaced as well, so they are told ([Finding.Dead]), and until then
//     clients are refused: nobody would accept from the new one.
//   - Where a unit is steered, each process has a socket of its own at each TCP
//     address, and the kernel is told how to divide the clients ([Table.Open]).
//   - While every service of a socket is down, its clients are refused or wait,
//     as when_down says. Refusing keeps the address: nobody else can have it.
//   - What systemd gave (LISTEN_FDS) is taken by name, then by address, and is
//     systemd's: never bound again, never shut down, never unlinked.
package socket

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Table holds the sockets of all socket units. It is safe for use by several
// goroutines. A slow file system below one unit's paths holds up only what changes
// that unit: whoever asks for its status is answered, and other units notice nothing.
type Table struct {
	mu    sync.Mutex
	units map[string]*group
	given []Given                            // not taken yet
	save  func(name string, r *Record) error // nil: nothing is saved

	owners OwnerFunc

	watch   *watch
	custody *custody
}

// NewTable returns a Table that owns the given sockets and no other.
func NewTable(given []Given) *Table {
	t := &Table{units: map[string]*group{}, given: slices.Clone(given), owners: noOwners, custody: &custody{keys: map[int]string{}}}
	t.watch = newWatch(func(name string) { t.Audit(name) })
	return t
}

// find is nil for a unit that has nothing.
func (t *Table) find(name string) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.units[name]
}

func (t *Table) group(name string) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.units[name]
	if g == nil {
		g = &group{
			all: map[unit.Address]endpoint{}, hands: newHands(),
			deal: newDeal(name, t.custody), members: map[unit.Invocation]*member{},
		}
		t.units[name] = g
	}
	return g
}

// retire lets go of a unit that has nothing any more. It needs op.
func (t *Table) retire(name string, g *group) {
	if len(g.all) > 0 || !g.hands.empty() || g.unsaved != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.units[name] == g {
		delete(t.units, name)
		g.gone = true
	}
}

// Unclaimed lists what systemd gave and no Bind has taken; see [Given.Unused].
func (t *Table) Unclaimed() []Given {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.given)
}

// CloseUnclaimed closes what [Table.Unclaimed] lists, and says what that was.
// systemd has descriptors of its own.
func (t *Table) CloseUnclaimed() []Given {
	t.mu.Lock()
	given := t.given
	t.given = nil
	t.mu.Unlock()
	for _, g := range given {
		closeFD(g.FD)
	}
	return given
}

// Names lists the units that have sockets, sorted.
func (t *Table) Names() (names []string) {
	t.mu.Lock()
	units := maps.Clone(t.units)
	t.mu.Unlock()
	for name, g := range units {
		if len(g.snapshot()) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Close drops all units and ends Watch. Given sockets that nobody took are closed
// too.
func (t *Table) Close() (err error) {
	t.watch.close()
	t.mu.Lock()
	names := slices.Collect(maps.Keys(t.units))
	t.mu.Unlock()
	for _, name := range names {
		err = errors.Join(err, t.Drop(name))
	}
	t.CloseUnclaimed()
	return err
}

// one is the error itself where a join has a single one.
func one(err error) error {
	if j, ok := err.(interface{ Unwrap() []error }); ok && len(j.Unwrap()) == 1 {
		return one(j.Unwrap()[0])
	}
	return err
}
