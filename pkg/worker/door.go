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
	inbox   *inbox // what came from other processes
}

func newDoor(g *Group, s *service, l net.Listener, name string) *door {
	return &door{Listener: l, group: g, service: s, name: name, inbox: newInbox(l)}
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

// An inbox is a listener for connections that were accepted elsewhere. It has the
// address of the door that it belongs to, and stays open while the group leaves:
// a connection that waits in it may have to be served after all.
type inbox struct {
	net.Listener
	conns  chan *conn
	once   sync.Once
	closed chan struct{}
}

func newInbox(l net.Listener) *inbox {
	return &inbox{Listener: l, conns: make(chan *conn), closed: make(chan struct{})}
}

func (i *inbox) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.closed:
		return nil, net.ErrClosed
	}
}

// put passes c to whoever accepts, or closes it if nobody will.
func (i *inbox) put(c *conn) {
	select {
	case i.conns <- c:
	case <-i.closed:
		c.Close()
	}
}

func (i *inbox) Close() error {
	i.once.Do(func() { close(i.closed) })
	return nil
}
