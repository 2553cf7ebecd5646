package socket

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// What processes have in hand decides what may be done to a socket. O_NONBLOCK lies
// on what they all share: it is set only while no process has the socket. And where
// a socket had to be replaced, those that have the old one are to be named, since
// nothing reaches them any more. So each hand-out is noted, from [Table.Files] to
// [Table.Free].

// hands says which processes have which sockets of a unit.
type hands struct {
	mu      sync.Mutex
	of      map[unit.Invocation][]Held
	leaving map[unit.Invocation]bool // of those: it was told to end
}

// A Held is one socket that a process was given.
type Held struct {
	Cookie  uint64 // SO_COOKIE
	Address string
	Dead    bool `json:",omitempty"` // it was replaced: no client reaches it
}

func newHands() *hands {
	return &hands{of: map[unit.Invocation][]Held{}, leaving: map[unit.Invocation]bool{}}
}

// give notes what a process gets. Holder 0 is not counted.
func (h *hands) give(holder unit.Invocation, sockets []Held) {
	if holder == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Clone(h.of[holder])
	for _, s := range sockets {
		if !slices.ContainsFunc(all, func(x Held) bool { return x.Cookie == s.Cookie }) {
			all = append(all, s)
		}
	}
	h.of[holder] = all
}

// free takes all from a process.
func (h *hands) free(holder unit.Invocation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, holder)
	delete(h.leaving, holder)
}

// leave notes that a process was told to end, and says whether it has anything.
func (h *hands) leave(holder unit.Invocation) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	has := len(h.of[holder]) > 0
	if has {
		h.leaving[holder] = true
	}
	return has
}

// need says whether a process has a socket that is not leaving.
func (h *hands) need(cookie uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.needs(cookie)
}

// needs needs mu.
func (h *hands) needs(cookie uint64) bool {
	for id, sockets := range h.of {
		if !h.leaving[id] && slices.ContainsFunc(sockets, func(s Held) bool { return s.Cookie == cookie }) {
			return true
		}
	}
	return false
}

// have says whether a process has a socket, alive or dead.
func (h *hands) have(cookie uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, sockets := range h.of {
		if slices.ContainsFunc(sockets, func(s Held) bool { return s.Cookie == cookie }) {
			return true
		}
	}
	return false
}

// bury notes that a socket is dead, and says whether a process needs another.
func (h *hands) bury(cookie uint64) (held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held = h.needs(cookie)
	for id, sockets := range h.of {
		sockets = slices.Clone(sockets) // a record may have the other
		for i := range sockets {
			if sockets[i].Cookie == cookie {
				sockets[i].Dead = true
			}
		}
		h.of[id] = sockets
	}
	return held
}

// dead lists the dead sockets that processes have, each once.
func (h *hands) dead() []Held {
	h.mu.Lock()
	defer h.mu.Unlock()
	each := map[uint64]Held{}
	for _, sockets := range h.of {
		for _, s := range sockets {
			if s.Dead { // whoever was leaving is told again
				each[s.Cookie] = s
			}
		}
	}
	return slices.SortedFunc(maps.Values(each), func(a, b Held) int { return cmp.Compare(a.Cookie, b.Cookie) })
}

func (h *hands) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.of) == 0
}

// records lists them for a later supervisord.
func (h *hands) records() (all []HolderRecord) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(h.of)) {
		all = append(all, HolderRecord{Holder: id, Leaving: h.leaving[id], Sockets: h.of[id]})
	}
	return all
}
