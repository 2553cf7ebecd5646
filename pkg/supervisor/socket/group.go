package socket

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// An endpoint is what a unit has at one address: a [listener] that all its
// processes share, or a [ring] of which each has a shard. It stays what it was
// opened as. Its methods are called under the op lock of its group, but for
// where, status, look and file.
type endpoint interface {
	open() error
	configure(*unit.Socket)
	listen() error
	serving() bool
	refuse() error
	close() error
	steered() bool
	inUse() bool // a process has it, or a client waits there
	audit() []Finding
	forget() // what was done to it and is over
	look() []fault
	where() unit.Address
	status() Status
	file(key uint16) (File, error)
	record() (r SocketRecord, ok bool) // not ok: it has no socket at present
}

// A group is what one socket unit owns.
type group struct {
	op     sync.Mutex   // held by whoever changes it, however long that takes
	spec   *unit.Socket // of the last Bind; needs op, as saved does
	saved  *Record      // as it was last saved
	hands  *hands
	lost   map[unit.Address]uint64 // dead sockets that a former supervisord left with processes; needs op
	fresh  bool                    // taken over, and not told yet to listen or refuse; needs op
	unsaid bool                    // taken over, and nobody has said yet who is to have new connections; needs op
	gone   bool                    // it has nothing any more and is not in the table; needs op
	deal   *deal                   // where new connections of its rings go; needs op
	last   uint16                  // the key that was given last; needs op

	mu      sync.Mutex // held for moments, to read and to commit
	all     map[unit.Address]endpoint
	order   []endpoint     // as the last Bind named them
	opening []unit.Address // by a Bind in progress
	up      bool           // Listen was called last, not Refuse
	members map[unit.Invocation]*member
	shares  map[unit.Invocation]int // as Steer said, also of those that have no shards
	closed  bool                    // nobody will have a share, said Steer
	inForce map[uint16]int          // how many cards each key has

	unsaved error // why saved is not what it should be
}

// each lists the endpoints of a unit: those of the last Bind in its order, then the
// others.
func (g *group) each() []endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := slices.Clone(g.order)
	for _, a := range slices.SortedFunc(maps.Keys(g.all), func(a, b unit.Address) int { return cmp.Compare(a.String(), b.String()) }) {
		if e := g.all[a]; !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

func (g *group) snapshot() []endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.order)
}
