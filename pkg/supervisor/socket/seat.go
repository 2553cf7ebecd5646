package socket

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A steered unit has seats. Each process that serves the unit holds one: one
// shard of each of its TCP addresses. What a shard has taken in, from the first
// packet of a handshake on, stays with it; only new connections go by shares.
//
//	Seat -> Files -> process starts, is ready -> Steer -> Settled? -> signal -> exit -> Free
//
// A seat that is free keeps its queue and its share: a successor of the only
// process finds there who waited. There is one seat more than processes may hold,
// so that one is always empty: a connection there shows that somebody has
// detached the program, and it waits for the next holder instead of being lost.
//
// Unix sockets and those of systemd are shared by all processes, also in a
// steered unit; [Status] says so.

// A seat is one place for a process, in all rings of a unit.
type seat struct {
	holder unit.Invocation // 0: free
	weight uint32
	wait   map[uint64]bool // handshakes in flight when its share was last lowered
	blind  bool            // the kernel did not tell them
	strays uint64
}

// defaultShards is what unit.Socket.Shards = 0 stands for.
const defaultShards = 11

// maxShards bounds descriptors and the length of the program, whose memory the
// kernel charges to a socket: before Linux 6.7 it gave 20 KiB
// (net.core.optmem_max).
const maxShards = unit.MaxShards

// maxWeight bounds sums.
const maxWeight = 1 << 20

// A NoSeatError says that every seat of a unit is held.
type NoSeatError struct {
	Socket  string
	Holders []unit.Invocation // in the order of the seats
}

// Error says how many processes have the socket, and which.
func (e *NoSeatError) Error() string {
	return fmt.Sprintf("cannot give socket %s to one more process: all %d seats are held (by invocations %s)",
		e.Socket, len(e.Holders), list(e.Holders))
}

// Hint is what to do about it.
func (e *NoSeatError) Hint() string {
	return "wait until a process that drains is gone, or stop one"
}

func list(ids []unit.Invocation) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = fmt.Sprint(id)
	}
	return strings.Join(words, ", ")
}

// Seat gives a process its seat: one that nobody holds and that new connections
// go to, the one with most waiting first; else one whose queues are empty; else
// the one with the fewest waiting. An heir is to serve in the place of a process
// that has ended: seats where clients wait come first for it. New connections
// come to a process as [Table.Steer] says, which Seat does not change. The error
// is a [*NoSeatError]. Who has a seat keeps it. A unit that is not steered has no
// seats, and nothing is done.
func (t *Table) Seat(name string, holder unit.Invocation, heir bool) error {
	if holder == 0 {
		return fmt.Errorf("cannot give socket %s to a process: it has no id", name)
	}
	g, end := t.begin(name)
	defer end()
	if len(g.seats) == 0 || g.seatOf(holder) >= 0 {
		return nil
	}
	held := g.holders()
	if len(held) >= len(g.seats)-1 {
		return &NoSeatError{Socket: name, Holders: held}
	}
	best := g.vacant(heir)
	g.mu.Lock()
	g.seats[best].holder = holder
	g.mu.Unlock()
	return nil
}

// vacant is the free seat that a new process should have.
func (g *group) vacant(heir bool) int {
	best, bestRank := -1, 0
	for i, s := range g.seats {
		if s.holder != 0 {
			continue
		}
		rank := -g.queued(i)
		if s.weight > 0 || heir && rank < 0 {
			rank = 1 - rank
		}
		if best < 0 || rank > bestRank {
			best, bestRank = i, rank
		}
	}
	return best
}

// queued is how many connections wait at a seat.
func (g *group) queued(seat int) (n int) {
	for _, r := range g.rings() {
		n += r.queued(seat)
	}
	return n
}

func (r *ring) queued(seat int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seat >= len(r.shards) {
		return 0
	}
	return r.shards[seat].status().Queue
}

// Free is for a process that is gone, or did not start: it has the unit's sockets no
// more, nor a seat. Its shards stay open, with their queues and their share. What the
// process did to the unit's sockets, steered or not, is looked for and mended, as by
// [Table.Audit]; those who [Table.Watch] hear of it. If it was the last that had a
// socket, what waited for that is done.
func (t *Table) Free(name string, holder unit.Invocation) {
	g, end := t.begin(name)
	i := g.seatOf(holder)
	g.hands.free(holder)
	if holder == 0 || i < 0 && len(g.seats) > 0 {
		end()
		return
	}
	found := g.audit(g.seats)
	if i >= 0 {
		g.mu.Lock()
		g.seats[i].holder = 0
		g.mu.Unlock()
		g.lapse()
	}
	end()
	t.watch.say(name, found)
}

// Leaving is for a process that was told to end. It has the unit's sockets until
// [Table.Free], but if they die no process needs to take its place for that: a server
// may shut its listener down when it is to go. It waits for nobody.
func (t *Table) Leaving(name string, holder unit.Invocation) {
	if g := t.find(name); g != nil && g.hands.leave(holder) {
		t.watch.later(name)
	}
}

// Steer divides the new connections of a unit among its processes, in proportion
// to shares (0 to 2^20). It replaces the earlier shares: who is not named gets
// none. It takes effect at once, between two connections, and puts the program back
// if a worker took it off. If nobody that has a seat gets a share, new connections go
// where they went: into some queue, since there is no other place.
//
// A process that has no seat is an error; the others have their shares then. Any
// other error means that the shares are what they were. For a unit that is not
// steered nothing is done.
func (t *Table) Steer(name string, shares map[unit.Invocation]int) error {
	g, end := t.begin(name)
	defer end()
	return g.steer(name, shares)
}

func (g *group) steer(name string, shares map[unit.Invocation]int) error {
	if len(g.seats) == 0 {
		return nil
	}
	weights, err := g.weigh(name, shares)
	if weights == nil {
		return err
	}
	before := g.weights()
	for _, r := range g.rings() {
		if e := r.steer(weights); e != nil {
			for _, r := range g.rings() {
				e = errors.Join(e, r.steer(before))
			}
			return one(e)
		}
	}
	g.settle(weights)
	return err
}

// weigh makes weights by seat of shares by process; nil if they are all 0.
func (g *group) weigh(name string, shares map[unit.Invocation]int) (weights []uint32, err error) {
	weights = make([]uint32, len(g.seats))
	var without []unit.Invocation
	some := false
	for id, share := range shares {
		i := g.seatOf(id)
		switch {
		case share < 0 || share > maxWeight:
			return nil, fmt.Errorf("cannot steer socket %s: a share of %d is not between 0 and %d", name, share, maxWeight)
		case share == 0:
		case i < 0:
			without = append(without, id)
		default:
			weights[i], some = uint32(share), true
		}
	}
	if slices.Sort(without); len(without) > 0 {
		err = fmt.Errorf("cannot steer socket %s to %s: no seat is theirs", name, list(without))
	}
	if !some {
		return nil, err
	}
	return weights, err
}

// settle takes the new weights in, and what is under way to those that got less.
func (g *group) settle(weights []uint32) {
	less := lessened(g.weights(), weights)
	var wait map[uint64]bool
	if slices.Contains(less, true) {
		wait = g.handshakes()
	}
	for _, r := range g.rings() {
		r.count()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.seats {
		if less[i] {
			g.seats[i].wait, g.seats[i].blind = wait, wait == nil
		}
		g.seats[i].weight = weights[i]
	}
}

// lessened says whose part of the whole became less.
func lessened(before, after []uint32) []bool {
	less := make([]bool, len(after))
	old, now := sum(before), sum(after)
	for i := range after {
		less[i] = uint64(after[i])*old < uint64(before[i])*now
	}
	return less
}

func sum(weights []uint32) (n uint64) {
	for _, w := range weights {
		n += uint64(w)
	}
	return n
}

// A Settling is what still comes to a process from before its share was lowered.
type Settling struct {
	Handshakes int // in flight at the last Steer that lowered its share, and not finished; -1: not known
	Queue      int // connections that it has not accepted
}

// Done says that nothing more is under way, as far as the kernel can tell: who
// has accepted a connection may not have read its request. Half-open handshakes
// of clients that are gone last for a minute (net.ipv4.tcp_synack_retries), so
// whoever waits for Done needs a bound.
func (s Settling) Done() bool { return s.Handshakes <= 0 && s.Queue <= 0 }

// Settled looks at what a process has still to accept. The handshakes are those
// of all seats of a port: the kernel does not tell them apart.
func (t *Table) Settled(name string, holder unit.Invocation) (Settling, error) {
	g := t.find(name)
	if g == nil {
		return Settling{}, nil
	}
	g.mu.Lock()
	i := g.seatOf(holder)
	var at seat
	if i >= 0 {
		at = g.seats[i]
	}
	steered := len(g.seats) > 0
	g.mu.Unlock()
	switch {
	case !steered:
		return Settling{}, nil
	case i < 0:
		return Settling{}, fmt.Errorf("cannot look at socket %s for %d: no seat is its own", name, holder)
	}
	// In this order: a handshake that ends goes into the queue.
	s := Settling{Handshakes: g.unfinished(at)}
	s.Queue = g.queued(i)
	return s, nil
}

// unfinished counts the handshakes that a seat waits for; -1: not known.
func (g *group) unfinished(at seat) (n int) {
	if at.blind {
		return -1
	}
	if len(at.wait) == 0 {
		return 0
	}
	now := g.handshakes()
	if now == nil {
		return -1
	}
	for id := range at.wait {
		if now[id] {
			n++
		}
	}
	return n
}

// A SeatStatus is one seat of a steered unit at this moment.
type SeatStatus struct {
	Index  int
	Holder unit.Invocation // 0: free
	Share  int             // of the sum of all shares
	Strays uint64          // connections seen here that by the shares should have gone elsewhere
	Shards []ShardStatus   // in the order of the unit's steered addresses
}

// A ShardStatus is one socket of a seat. The kernel shows nowhere which place in
// its group a socket has: who takes the sockets over needs it from here.
type ShardStatus struct {
	Address string
	Cookie  uint64 // SO_COOKIE
	Place   int    // in the kernel's group; 0 is the anchor's
	Queue   int
	Limit   int
	Drops   uint64 // connections that found no room
}

// Seats describes the seats of a unit; nil if it is not steered.
func (t *Table) Seats(name string) []SeatStatus {
	g := t.find(name)
	if g == nil {
		return nil
	}
	g.mu.Lock()
	seats := slices.Clone(g.seats)
	g.mu.Unlock()
	var all []SeatStatus
	for i, s := range seats {
		st := SeatStatus{Index: i, Holder: s.holder, Share: int(s.weight), Strays: s.strays}
		for _, r := range g.rings() {
			st.Shards = append(st.Shards, r.shardStatus(i)...)
		}
		all = append(all, st)
	}
	return all
}

func (r *ring) shardStatus(seat int) []ShardStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seat >= len(r.shards) {
		return nil
	}
	st := r.shards[seat].status()
	st.Address = r.at().String()
	return []ShardStatus{st}
}

// seatOf needs op or mu.
func (g *group) seatOf(holder unit.Invocation) int {
	return slices.IndexFunc(g.seats, func(s seat) bool { return holder != 0 && s.holder == holder })
}

// holders needs op or mu, as weights does.
func (g *group) holders() (held []unit.Invocation) {
	for _, s := range g.seats {
		if s.holder != 0 {
			held = append(held, s.holder)
		}
	}
	return held
}

func (g *group) weights() []uint32 {
	w := make([]uint32, len(g.seats))
	for i, s := range g.seats {
		w[i] = s.weight
	}
	return w
}

// rings lists the steered addresses, those of an earlier configuration too.
func (g *group) rings() (rings []*ring) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.order {
		if r, ok := e.(*ring); ok {
			rings = append(rings, r)
		}
	}
	for _, e := range g.all {
		if r, ok := e.(*ring); ok && !slices.Contains(rings, r) {
			rings = append(rings, r)
		}
	}
	return rings
}
