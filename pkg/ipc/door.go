package ipc

import (
	"net"
	"sync"
)

// How many connections others than root and our own user may have.
const (
	maxOfUID    = 64
	maxOfOthers = 512
)

// A door accepts connections, asks the kernel whose they are, and lets in only
// so many of each user. Root and our own user are never shut out by the others.
type door struct {
	*net.UnixListener
	role func(Caller) Role

	mu     sync.Mutex
	inside map[uint32]int
	others int
}

func newDoor(l *net.UnixListener, role func(Caller) Role) *door {
	return &door{UnixListener: l, role: role, inside: map[uint32]int{}}
}

// Accept returns a [*conn]. Who cannot be identified or is one too many is
// hung up on.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := peer(c)
		if err == nil && d.enter(who) {
			return &conn{UnixConn: c, caller: who, door: d}, nil
		}
		c.Close()
	}
}

func (d *door) enter(who Caller) bool {
	if d.role(who) == Admin {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inside[who.UID] >= maxOfUID || d.others >= maxOfOthers {
		return false
	}
	d.inside[who.UID]++
	d.others++
	return true
}

func (d *door) leave(who Caller) {
	if d.role(who) == Admin {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others--
	if d.inside[who.UID]--; d.inside[who.UID] == 0 {
		delete(d.inside, who.UID)
	}
}

// A conn is a connection whose other end is known.
type conn struct {
	*net.UnixConn
	caller Caller
	door   *door
	once   sync.Once
}

// Close counts the connection as gone only when it is.
func (c *conn) Close() error {
	err := c.UnixConn.Close()
	c.once.Do(func() { c.door.leave(c.caller) })
	return err
}
