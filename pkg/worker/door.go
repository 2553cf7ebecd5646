package worker

import (
	"net"
	"sync"
	"sync/atomic"
)

// A door is a listening socket of a group. The connections that it accepts are
// known to the group.
type door struct {
	net.Listener
	group   *Group
	service *service
	name    string // as it was passed, or empty
	asked   sync.Once
	closed  atomic.Bool
}

func newDoor(g *Group, s *service, l net.Listener, name string) *door {
	return &door{Listener: l, group: g, service: s, name: name}
}

// Accept returns a *conn. The first call makes the door count as accepting.
func (d *door) Accept() (net.Conn, error) {
	d.asked.Do(d.group.accepting.Done)
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return d.enter(c), nil
}

func (d *door) enter(c net.Conn) *conn {
	in := newConn(d, c)
	d.group.conns.add(in)
	return in
}

// shut stops accepting. The socket itself stays open, if others have it.
func (d *door) shut() {
	d.closed.Store(true)
	d.Listener.Close()
}
