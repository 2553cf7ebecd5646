package worker

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// spreadStep is how far apart clients are asked to go if there are few.
const spreadStep = 2 * time.Millisecond

// A registry knows the connections that are open.
type registry struct {
	mu      sync.Mutex
	conns   map[*conn]struct{}
	foreign map[net.Conn]*conn // that are served as they are, so that connOf does not find them
	crowded int                // how many foreign ones call for a sweep
	empty   chan struct{}      // not nil: to be closed when the last one leaves
	over    bool               // it is closed
}

func (r *registry) add(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		r.conns = make(map[*conn]struct{})
	}
	r.conns[c] = struct{}{}
}

// addForeign adds a connection that is closed without its conn. Those that were
// hijacked are found to be closed by a sweep, which is made when they have doubled.
func (r *registry) addForeign(c *conn) {
	r.add(c)
	if !r.keepForeign(c) {
		return
	}
	r.sweep()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.crowded = 2*len(r.foreign) + fewForeign
}

const fewForeign = 64

func (r *registry) keepForeign(c *conn) (crowded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.foreign == nil {
		r.foreign, r.crowded = make(map[net.Conn]*conn), fewForeign
	}
	r.foreign[c.Conn] = c
	return len(r.foreign) > r.crowded
}

// find returns what is known of a connection that a server speaks of.
func (r *registry) find(c net.Conn) *conn {
	if in := connOf(c); in != nil {
		return in
	}
	if !isTLS(c) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.foreign[c]
}

// sweep drops the foreign connections that have been closed by who hijacked them.
func (r *registry) sweep() {
	r.mu.Lock()
	foreign := slices.Collect(maps.Values(r.foreign))
	r.mu.Unlock()
	for _, c := range foreign {
		if isClosed(c.Conn) {
			c.kill()
		}
	}
}

func isClosed(c net.Conn) bool {
	for {
		switch t := c.(type) {
		case interface{ NetConn() net.Conn }:
			c = t.NetConn()
		case syscall.Conn:
			raw, err := t.SyscallConn()
			return err != nil || raw.Control(func(uintptr) {}) != nil
		default:
			return false
		}
	}
}

// forget takes out a connection whose descriptor is closed.
func (r *registry) forget(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.conns[c]; !ok {
		return
	}
	delete(r.conns, c)
	if isTLS(c.Conn) {
		delete(r.foreign, c.Conn)
	}
	r.check()
}

func (r *registry) check() {
	if r.empty != nil && len(r.conns) == 0 && !r.over {
		r.over = true
		close(r.empty)
	}
}

// gone returns a channel that is closed when there is no connection. It is called
// once, when none should be added any more.
func (r *registry) gone() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.empty = make(chan struct{})
	r.check()
	return r.empty
}

func (r *registry) all() []*conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*conn, 0, len(r.conns))
	for c := range r.conns {
		all = append(all, c)
	}
	return all
}

// wake lets each connection that rests find out that it may move.
func (r *registry) wake() {
	for _, c := range r.all() {
		c.wake()
	}
}

// cut closes all but those who may stay, and returns how many of them were in use.
func (r *registry) cut(mayStay func(*conn) bool) (cut int) {
	for _, c := range r.all() {
		if (mayStay == nil || !mayStay(c)) && c.cut() {
			cut++
		}
	}
	return cut
}

// kill closes all that are left.
func (r *registry) kill() {
	for _, c := range r.all() {
		c.kill()
	}
}

// spread asks those to leave who want to know, one after the other, so that they
// do not all come back in one moment: the last after d at the latest. The
// returned function ends that.
func (r *registry) spread(d time.Duration) (stop func()) {
	var asked []*conn
	for _, c := range r.all() {
		if c.wantsToKnow() {
			asked = append(asked, c)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	if len(asked) == 0 {
		return cancel
	}
	ticker := time.NewTicker(max(1, min(spreadStep, d/time.Duration(len(asked)))))
	go func() {
		defer ticker.Stop()
		for _, c := range asked {
			c.tell()
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return cancel
}
