package socket

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A ring is taken over as it is: its sockets, maps and program are the very objects by
// which the kernel has steered all the time, and goes on to. A former supervisord may
// have died in the middle of a change. Then what is there counts, and not its record:
//
//   - The map of sockets says which socket is the room, whatever is recorded.
//   - A shard that is not kept any more had been closed.
//   - A shard that is kept and not recorded was given to no process yet.
//   - What nobody has taken is closed. Those who wait there go where the cards say.
//   - Nobody knows what else was under way. So who is to have new connections is said
//     anew, and until then the cards stay as they are.

// record is what a later supervisord needs to go on with the ring.
func (r *ring) record() (SocketRecord, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.room < 0 {
		return SocketRecord{}, false
	}
	cookie, err := cookieOf(r.room)
	s := SocketRecord{Bound: r.at(), Cookie: cookie, Ring: &RingRecord{UID: r.uid, Past: r.past}}
	for _, key := range slices.Sorted(maps.Keys(r.shards)) {
		x := r.shards[key]
		s.Ring.Shards = append(s.Ring.Shards, ShardRecord{Key: key, Cookie: x.cookie, Holder: x.holder, Ended: x.ended, Options: x.base})
	}
	return s, err == nil
}

func (t *Table) resumeRing(g *group, spec *unit.Socket, s *SocketRecord, take take) (*ring, error) {
	r := t.newRing(g, spec, s.Address)
	err := g.deal.resume(take)
	if err == nil {
		err = r.resume(s, take)
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// resume takes the map, and goes on with the cards that are in it.
func (d *deal) resume(take take) (err error) {
	if d.fd >= 0 { // it was there for another ring
		return nil
	}
	if d.fd, err = d.kept.take(d.key(), take); err != nil {
		return err
	}
	if err = get(d.fd, 0, &d.now); err != nil {
		d.close()
		return fmt.Errorf("its map of connections is none: %w", err)
	}
	return nil
}

// take has what is kept under a key.
func (c *custody) take(key string, take take) (int, error) {
	fd, ok := take(key)
	if !ok {
		return -1, fmt.Errorf("%s: %w", strings.SplitN(key, "/", 2)[0], errNotKept)
	}
	c.own(key, fd)
	return fd, nil
}

func (r *ring) resume(s *SocketRecord, take take) (err error) {
	if r.to, err = sockaddr(s.Bound); err != nil {
		return err
	}
	r.uid, r.past = s.Ring.UID, s.Ring.Past
	if r.sockets, err = r.kept.take(r.key("sockets"), take); err != nil {
		return err
	}
	if r.program, err = r.kept.take(r.key("program"), take); err != nil {
		return err
	}
	var room uint64
	if err = get(r.sockets, roomKey, &room); err != nil {
		return fmt.Errorf("its map of sockets is none, or has no room: %w", err)
	}
	if r.room, err = r.takeSocket(room, s.Bound, take); err != nil {
		return err
	}
	if err = r.attach(); err != nil {
		return err
	}
	for _, x := range s.Ring.Shards {
		r.resumeShard(x, s.Bound, take)
	}
	r.finish()
	return nil
}

// takeSocket has the socket with a cookie.
func (r *ring) takeSocket(cookie uint64, bound unit.Address, take take) (int, error) {
	fd, err := r.kept.take(keyOf(cookie), take)
	if err != nil {
		return -1, err
	}
	if err := inspect(fd, cookie, bound); err != nil {
		r.discard(fd)
		return -1, err
	}
	return fd, nil
}

// resumeShard takes a shard that is still there.
func (r *ring) resumeShard(x ShardRecord, bound unit.Address, take take) {
	fd, err := r.takeSocket(x.Cookie, bound, take)
	if err != nil {
		return
	}
	s := &shard{fd: fd, cookie: x.Cookie, holder: x.Holder, base: x.Options, ended: x.Ended}
	if s.base == nil {
		s.base = observe(fd, r.addr)
	}
	r.shards[x.Key] = s
}

// finish gives those who wait in the room to processes, if the former supervisord had
// dealt the cards and did not come to that.
func (r *ring) finish() {
	cards := map[uint16]int{}
	for _, key := range r.deal.now.Card {
		cards[key]++
	}
	r.watchFor(cards)
	if !r.served {
		return
	}
	if err := r.release(); err != nil {
		r.strained(err)
	}
}

// enroll counts those who have shards among the processes of the unit.
func (g *group) enroll() {
	for _, r := range g.rings() {
		g.unsaid = true
		for key, s := range r.shards {
			m := &member{key: key}
			m.told.Store(g.hands.leaves(s.holder))
			g.mu.Lock()
			g.members[s.holder] = m
			g.mu.Unlock()
			g.last = max(g.last, key)
		}
	}
	if g.unsaid {
		g.count()
	}
}

// leaves says whether a process was told to end.
func (h *hands) leaves(holder unit.Invocation) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leaving[holder]
}
