package worker

import (
	"crypto/tls"
	"errors"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
)

// A door is a listening socket of a group. The connections that it accepts are
// known to the group.
type door struct {
	net.Listener              // the socket
	front        net.Listener // what the service accepts from: the door, or TLS upon it
	group        *Group
	service      *service
	name         string // as it was passed, or empty
	asked        sync.Once
	closed       atomic.Bool // the group has closed it, or is about to
	once         sync.Once
	closeErr     error
	inbox        *inbox // what came from other processes
}

// newDoor puts a door in front of l, or below the TLS that l is: its server has to
// get what crypto/tls accepts, and the group what is below that.
func newDoor(g *Group, s *service, l net.Listener) *door {
	d := &door{Listener: l, group: g, service: s}
	d.front = d
	if below := belowTLS(l); below.IsValid() {
		d.Listener, d.front = below.Interface().(net.Listener), l
		below.Set(reflect.ValueOf(d))
	}
	d.inbox = newInbox(d.Listener)
	return d
}

var (
	listenerType = reflect.TypeFor[net.Listener]()
	tlsType      = reflect.TypeOf(tls.NewListener(noListener{}, nil))
)

// belowTLS returns the listener that l encrypts, if l is of crypto/tls.
func belowTLS(l net.Listener) (below reflect.Value) {
	v := reflect.ValueOf(l)
	if v.Type() != tlsType {
		return
	}
	field := v.Elem().FieldByName("Listener") // it is embedded
	if !field.IsValid() || field.Type() != listenerType || !field.CanSet() {
		return
	}
	return field
}

// Close closes the socket, once: net/http calls it as well.
func (d *door) Close() error {
	d.once.Do(func() { d.closeErr = d.Listener.Close() })
	return d.closeErr
}

func (d *door) isTLS() bool { return d.front != net.Listener(d) }

// takes is what may be handed over of this door.
func (d *door) takes() kind {
	if d.isTLS() {
		return 0 // the keys are here
	}
	return d.service.takes()
}

var errTLSInTLS = errors.New("its listener encrypts already, and TLSConfig of the server has certificates: remove one of them")

// Accept returns a connection that connOf or the registry knows. The first call makes
// the door count as accepting.
func (d *door) Accept() (net.Conn, error) {
	d.asked.Do(d.group.accepting.Done)
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if isTLS(c) && d.service.secure() {
		c.Close()
		return nil, errTLSInTLS
	}
	return d.enter(c), nil
}

// enter makes the group know a connection.
func (d *door) enter(c net.Conn) net.Conn {
	in := newConn(d, c)
	if _, isHTTP := d.service.protocol.(*httpProtocol); isHTTP && isTLS(c) {
		d.group.conns.addForeign(in)
		return c // net/http has to see what it is
	}
	d.group.conns.add(in)
	switch t := c.(type) {
	case *net.TCPConn:
		return tcpConn{in, t}
	case stater:
		return encryptedConn{in, t}
	}
	return in
}

func isTLS(c net.Conn) bool {
	_, ok := c.(*tls.Conn)
	return ok
}

// An inbox is a listener for connections that were accepted elsewhere. It has the
// address of the door that it belongs to, and stays open while the group leaves:
// a connection that waits in it may have to be served after all.
type inbox struct {
	net.Listener
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newInbox(l net.Listener) *inbox {
	return &inbox{Listener: l, conns: make(chan net.Conn), closed: make(chan struct{})}
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
func (i *inbox) put(c net.Conn) {
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
