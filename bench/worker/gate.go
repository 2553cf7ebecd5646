package main

import (
	"net"
	"sync"
	"time"
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
	g.once.Do(func() { close(g.closed) })
	return g.Listener.Close()
}
