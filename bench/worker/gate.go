package main

import (
	"log"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gates has listeners accept at the worker's pace, and not at all when it is to stall.
func (w *worker) gates(listeners []net.Listener) {
	if w.pace == 0 && !w.stalls {
		return // pkg/worker knows its own listeners, and passes their connections on
	}
	for i, l := range listeners {
		listeners[i] = &gate{Listener: l, worker: w, closed: make(chan struct{})}
	}
}

// A gate is a listener of which it is known how slowly it accepts.
type gate struct {
	net.Listener
	worker *worker
	once   sync.Once
	closed chan struct{}
}

func (g *gate) Accept() (net.Conn, error) {
	if g.worker.stalled() {
		<-g.closed
	}
	if g.worker.pace > 0 {
		select {
		case <-time.After(g.worker.pace):
		case <-g.closed:
		}
	}
	return g.Listener.Accept()
}

// stalled says whether the worker has been told to hang.
func (w *worker) stalled() bool {
	select {
	case <-w.stall:
		w.hung.Store(true)
	default:
	}
	return w.hung.Load()
}

func (g *gate) Close() error {
	g.open()
	return g.Listener.Close()
}

// open lets through whoever waits at the gate.
func (g *gate) open() { g.once.Do(func() { close(g.closed) }) }

// behind is the socket itself.
func behind(l net.Listener) syscall.RawConn {
	if g, ok := l.(*gate); ok {
		l = g.Listener
	}
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		log.Fatal(err)
	}
	return raw
}

// shut does what shutdown(2) does to a listening socket, for all who have it. One that
// somebody else has shut down stays so.
func shut(l net.Listener) {
	behind(l).Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_RD) })
	if g, ok := l.(*gate); ok {
		g.open()
	}
}

// queue is how many connections wait to be accepted, where the kernel says so: at TCP
// sockets.
func queue(l net.Listener) (n int64) {
	behind(l).Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int64(info.Unacked) // of a listening socket, see tcp_get_info in the kernel
		}
	})
	return n
}
