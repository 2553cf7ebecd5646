package socket

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// In a steered unit each process has a listening socket of its own, a shard, at each of
// the unit's TCP addresses. What has come to a shard stays there for as long as the shard
// listens; only new connections go by shares. When it ends, however it ends, the kernel
// moves its queue and the handshakes under way to whoever has a share then.
//
//	Open -> Files -> process starts, is ready -> Steer -> Waiting? -> Leaving, signal -> exit -> Free
//
// Who comes while nobody has a share waits in a room of which no process knows, and is
// given to the next who has. So nobody waits for the dead.
//
// Unix sockets and those of systemd are shared by all processes, also in a steered unit;
// [Status] says so.

// keyCount is how many keys a unit has, the room's included: a process has one, the same
// in all rings. They are used in turn, so that a late word of an old process is not taken
// for one of a new one.
const keyCount = 1024

// maxWeight bounds sums.
const maxWeight = 1 << 20

// A member is a process that has shards.
type member struct {
	key   uint16
	told  atomic.Bool // to end; said by who waits for nobody
	queue int         // at the last look
	since time.Time   // when somebody was last taken from there, or nobody waited; zero: no look yet
}

// Open gives a process a shard at each steered address of a unit. Its clients come by
// [Table.Steer], which may have named it before. A process that has shards keeps them as
// they are, also if the unit has more addresses by now. A unit that is not steered has
// none, and nothing is done.
func (t *Table) Open(name string, holder unit.Invocation) error {
	if holder == 0 {
		return fmt.Errorf("cannot give socket %s to a process: it has no id", name)
	}
	g, end := t.begin(name)
	defer end()
	rings := g.rings()
	if len(rings) == 0 || g.members[holder] != nil {
		return nil
	}
	key, err := g.freeKey(name)
	if err != nil {
		return err
	}
	for _, r := range rings {
		if err := r.admit(key, holder); err != nil {
			for _, r := range rings {
				r.remove(key)
			}
			return err
		}
	}
	g.mu.Lock()
	g.members[holder] = &member{key: key}
	g.mu.Unlock()
	err = g.redeal()
	if err != nil {
		g.dismiss(holder)
	}
	return err
}

// dismiss closes the shards of a process.
func (g *group) dismiss(holder unit.Invocation) {
	key := g.keyOf(holder)
	g.mu.Lock()
	delete(g.members, holder)
	g.mu.Unlock()
	g.failed(g.redeal()) // before the shards go: what waits there goes by the new cards
	for _, r := range g.rings() {
		r.remove(key)
	}
}

// freeKey is the next that nobody has.
func (g *group) freeKey(name string) (uint16, error) {
	if len(g.members) >= keyCount-1 {
		return 0, fmt.Errorf("cannot give socket %s to one more process: %d have it, and no more can", name, len(g.members))
	}
	taken := map[uint16]bool{}
	for _, m := range g.members {
		taken[m.key] = true
	}
	for {
		if g.last = g.last%(keyCount-1) + 1; !taken[g.last] {
			return g.last, nil
		}
	}
}

// Steer divides the new connections of a unit among its processes, in proportion to
// shares (0 to 2^20). It replaces the earlier shares: who is not named gets none, and who
// is named before [Table.Open] gets its part from then on. If nobody has a share, who
// comes waits until somebody has; but if the unit is closed, nobody will, and clients
// meet what when_down says. It takes effect at once, between two connections, and puts
// the program back if a worker took it off. If there is an error the shares are what they
// were. What is left to do at an address, such as to move who waited, is tried again; its
// [Status] has the cause. For a unit that is not steered nothing is done.
func (t *Table) Steer(name string, shares map[unit.Invocation]int, closed bool) error {
	for _, share := range shares {
		if share < 0 || share > maxWeight {
			return fmt.Errorf("cannot steer socket %s: a share of %d is not between 0 and %d", name, share, maxWeight)
		}
	}
	g, end := t.begin(name)
	defer end()
	if len(g.rings()) == 0 {
		return nil
	}
	before, was := g.shares, g.closed
	g.share(maps.Clone(shares), closed)
	g.unsaid = false
	err := g.redeal()
	if err != nil {
		g.share(before, was)
	}
	return err
}

func (g *group) share(shares map[unit.Invocation]int, closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shares, g.closed = shares, closed
}

// redeal puts in force what follows from shares, members and doors, and gives those who
// wait in rooms to who has them now. If there is an error everything is as it was. It
// needs op.
func (g *group) redeal() error {
	rings := g.rings()
	if len(rings) == 0 || g.unsaid {
		return nil
	}
	weights := g.weights()
	changed, err := g.deal.set(g.cards(g.spec, weights))
	if err != nil {
		return err
	}
	if changed || g.inForce == nil {
		g.count()
	}
	for _, r := range rings {
		if r.follow(weights) != nil {
			r.watch.after(r.spec.Name, retry)
		}
	}
	return nil
}

// retry is when a ring is looked at again that could not do all that was asked.
const retry = time.Second

// count has it known how many cards each key has.
func (g *group) count() {
	n := map[uint16]int{}
	for _, key := range g.deal.now.Card {
		n[key]++
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inForce = n
}

// weights are the shares of those who have shards that listen. Nobody may be there to
// say anything of a unit that is to be shared as soon as no process has it. Until then it
// is as if it was: those have it who are not told to end.
func (g *group) weights() map[uint16]int {
	weights, all := map[uint16]int{}, map[uint16]int{}
	for id, m := range g.members {
		if !g.listensAt(m.key) || m.told.Load() && !g.spec.Steer {
			continue
		}
		all[m.key] = 1
		if share := g.shares[id]; share > 0 {
			weights[m.key] = share
		}
	}
	if len(weights) == 0 && !g.spec.Steer && !g.closed {
		return all
	}
	return weights
}

// listensAt says that no shard with this key has ended.
func (g *group) listensAt(key uint16) bool {
	return !slices.ContainsFunc(g.rings(), func(r *ring) bool { return r.ended(key) })
}

func (g *group) cards(s *unit.Socket, weights map[uint16]int) [cardCount]uint16 {
	switch {
	case len(weights) > 0:
		return dealt(weights)
	case s.WhenDown == unit.Queue, g.up && !g.closed:
		return alone(roomKey)
	}
	return alone(refusal)
}

// Free is for a process that is gone, or did not start: it has the unit's sockets no
// more, and its shards are closed. Who waited there is given to others. What the process
// did to the unit's sockets, steered or not, is looked for and mended, as by
// [Table.Audit]; those who [Table.Watch] hear of it. If it was the last that had a
// socket, what waited for that is done.
func (t *Table) Free(name string, holder unit.Invocation) {
	g, end := t.begin(name)
	m := g.members[holder]
	g.hands.free(holder)
	if holder == 0 || m == nil && len(g.members) > 0 {
		end()
		return
	}
	found := g.audit()
	if m != nil {
		g.dismiss(holder)
	}
	end()
	t.watch.say(name, found)
}

// failed has a status say what could not be done, where nobody waits for an answer.
func (g *group) failed(err error) {
	for _, r := range g.rings() {
		if err != nil {
			r.strained(err)
		}
	}
}

// Leaving is for a process that was told to end. It has the unit's sockets until
// [Table.Free], but if they die no process needs to take its place for that: a server may
// shut its listener down when it is to go. Who waits at its shards is given to others if
// it takes nobody any more. Leaving waits for nobody.
func (t *Table) Leaving(name string, holder unit.Invocation) {
	g := t.find(name)
	if g == nil || !g.hands.leave(holder) {
		return
	}
	g.mu.Lock()
	if m := g.members[holder]; m != nil {
		m.told.Store(true)
	}
	g.mu.Unlock()
	t.watch.later(name)
}

// Waiting returns how many connections wait for a process to accept them, in all of its
// shards, and for how long it has taken none of them, as far as it was looked. Of a unit
// that is not steered it is 0.
func (t *Table) Waiting(name string, holder unit.Invocation) (n int, still time.Duration) {
	g := t.find(name)
	if g == nil {
		return 0, 0
	}
	return g.waiting(holder)
}

func (g *group) waiting(holder unit.Invocation) (n int, still time.Duration) {
	rings := g.rings()
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[holder]
	if m == nil {
		return 0, 0
	}
	for _, r := range rings {
		n += r.queued(m.key)
	}
	return n, m.look(n, time.Now())
}

// look notes how many wait now, and says for how long nobody was taken.
func (m *member) look(n int, now time.Time) time.Duration {
	if n == 0 || n < m.queue || m.since.IsZero() {
		m.since = now
	}
	m.queue = n
	return now.Sub(m.since)
}

// A Process is one of those that a steered unit has, at this moment. The first that is
// listed is the waiting room, with Holder 0.
type Process struct {
	Holder unit.Invocation
	Share  int     // of 10,000 new connections
	Shards []Shard // in the order of the unit's steered addresses
}

// A Shard is one socket of a process.
type Shard struct {
	Address string
	Cookie  uint64 // SO_COOKIE
	Queue   int
	Limit   int
	Drops   uint64 // connections that found no room
}

// Processes describes who has a steered unit; nil if it is not steered.
func (t *Table) Processes(name string) []Process {
	g := t.find(name)
	if g == nil {
		return nil
	}
	rings := g.rings()
	if len(rings) == 0 {
		return nil
	}
	g.mu.Lock()
	members, now := maps.Clone(g.members), g.inForce
	g.mu.Unlock()
	all := []Process{{Share: now[roomKey]}}
	for _, id := range slices.SortedFunc(maps.Keys(members), byNumber) {
		all = append(all, Process{Holder: id, Share: now[members[id].key]})
	}
	for i, p := range all {
		for _, r := range rings {
			key := uint16(roomKey)
			if p.Holder != 0 {
				key = members[p.Holder].key
			}
			all[i].Shards = append(all[i].Shards, r.describe(key)...)
		}
	}
	return all
}

func byNumber(a, b unit.Invocation) int { return cmp.Compare(a, b) }

// rings lists the steered addresses, those of an earlier configuration too.
func (g *group) rings() (rings []*ring) {
	for _, e := range g.each() {
		if r, ok := e.(*ring); ok {
			rings = append(rings, r)
		}
	}
	return rings
}
