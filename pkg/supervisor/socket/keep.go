package socket

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Keeper holds duplicates of descriptors beyond our own end. Keep borrows fd
// until Drop; a key that it has already is replaced. When Drop returns, the
// duplicate is closed, if the Keeper lives: an address is free only when nobody has
// its socket, and is often bound anew at once. Each bounds its own wait, and neither
// calls the [Table].
type Keeper interface {
	Keep(key string, fd int)
	Drop(key string)
}

// keyOf names a socket by its cookie, which the kernel gives to no other.
func keyOf(cookie uint64) string { return "socket/" + strconv.FormatUint(cookie, 10) }

func cookieOf(fd int) (uint64, error) {
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
}

// A custody has the Keeper hold each socket from bind(2) to close(2). One descriptor
// is added and dropped under the op lock of its unit, so in this order; the Keeper is
// called under no lock of all units, as it may wait.
type custody struct {
	mu   sync.Mutex
	to   Keeper         // nil: nobody keeps
	keys map[int]string // by descriptor
}

// begin names the Keeper, and gives it what is open already.
func (c *custody) begin(k Keeper) {
	c.mu.Lock()
	c.to = k
	keys := maps.Clone(c.keys)
	c.mu.Unlock()
	for fd, key := range keys {
		k.Keep(key, fd)
	}
}

// own is for what the Keeper has already.
func (c *custody) own(key string, fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[fd] = key
}

// add must come before listen(2): from then on clients may wait in the socket.
// One whose cookie the kernel does not tell is not kept.
func (c *custody) add(fd int) {
	cookie, err := cookieOf(fd)
	if err != nil {
		return
	}
	c.hold(keyOf(cookie), fd)
}

// hold is add for what is no socket.
func (c *custody) hold(key string, fd int) {
	c.mu.Lock()
	c.keys[fd] = key
	to := c.to
	c.mu.Unlock()
	if to != nil {
		to.Keep(key, fd)
	}
}

// drop must come before close(2).
func (c *custody) drop(fd int) {
	c.mu.Lock()
	key, ok := c.keys[fd]
	delete(c.keys, fd)
	to := c.to
	c.mu.Unlock()
	if ok && to != nil {
		to.Drop(key)
	}
}

// reject is for what was kept and is not taken over.
func (c *custody) reject(key string) {
	c.mu.Lock()
	to := c.to
	c.mu.Unlock()
	if to != nil {
		to.Drop(key)
	}
}

// Remember makes the table have every socket kept by k from the moment it is bound
// (before it listens) until it is closed, and calls save with a unit's record
// whenever it has changed, before the change has consequences elsewhere. save(name, nil) says that a unit has no
// sockets left. A [Record] does not change after it was passed to save.
//
// An error of save closes no socket and fails nothing: it is the Err of the unit's
// [Status] until a later save works, which each call that can change the sockets
// tries. save is called while the unit is locked, so it must not call the Table.
//
// Remember comes before all other calls but NewTable, and once.
func (t *Table) Remember(k Keeper, save func(name string, r *Record) error) {
	t.custody.begin(k)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.save = save
}

// begin takes the op lock of a unit. The caller must call end, which has what
// changed saved.
func (t *Table) begin(name string) (g *group, end func()) {
	for {
		g = t.group(name)
		g.op.Lock()
		if !g.gone {
			break
		}
		g.op.Unlock()
	}
	return g, func() {
		t.remember(name, g)
		t.retire(name, g)
		g.op.Unlock()
	}
}

// remember saves the record of a unit if it is not as it was last saved. It needs
// the op lock.
func (t *Table) remember(name string, g *group) {
	t.mu.Lock()
	save := t.save
	t.mu.Unlock()
	if save == nil {
		return
	}
	r := g.record()
	if reflect.DeepEqual(r, g.saved) {
		return
	}
	err := save(name, r)
	if err == nil {
		g.saved = r
	} else {
		err = fmt.Errorf("cannot record its sockets for a later supervisord: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unsaved = err
}

// record is what the group has; nil: no sockets. It needs the op lock.
func (g *group) record() *Record {
	order := g.snapshot()
	r := &Record{Version: recordVersion, Spec: g.spec, Holders: g.hands.records()}
	for a, e := range g.all {
		if s, ok := e.record(); ok {
			s.Address, s.Former = a, !slices.Contains(order, e)
			r.Sockets = append(r.Sockets, s)
		}
	}
	if len(r.Sockets) == 0 {
		return nil
	}
	rank := func(s SocketRecord) int {
		i := slices.Index(order, g.all[s.Address])
		if i < 0 {
			return len(order)
		}
		return i
	}
	slices.SortFunc(r.Sockets, func(a, b SocketRecord) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Address.String(), b.Address.String()))
	})
	return r
}

func (l *listener) record() (r SocketRecord, ok bool) {
	if l.fd < 0 {
		return r, false
	}
	cookie, err := cookieOf(l.fd)
	if err != nil {
		return r, false
	}
	r = SocketRecord{Bound: boundTo(l.fd), Cookie: cookie, Given: l.given, Listening: l.listening, Gone: cmp.Or(l.gone, l.left), Options: l.base, Made: l.made}
	if l.place != nil {
		l.atDisk("looking at its path", func() { r.Node = l.place.identity() })
	}
	return r, l.place == nil || r.Node != nil
}

// boundTo is the address as the kernel has it.
func boundTo(fd int) unit.Address {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return unit.Address{}
	}
	return address(sa)
}
