package worker

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// joinTime is how long it may take to stop accepting. For ever is what it takes
	// if another process has made a shared socket blocking.
	joinTime = time.Second

	// lastSecond is what those get that are told that the drain time is over.
	lastSecond = time.Second
)

// leave ends everything within joinTime, the drain time and lastSecond. It returns
// ErrCut if that took something from a client.
func (g *Group) leave() error {
	saying, said := context.WithTimeout(context.Background(), joinTime)
	defer said()
	if err := Stopping(saying); err != nil {
		g.logf("%v", err)
	}
	g.leaving.Store(true)
	g.join()
	over := time.NewTimer(g.drain())
	defer over.Stop()
	gone := g.conns.gone() // whatever was accepted is known from here on
	for _, s := range g.services {
		s.leave()
	}
	stop := g.conns.spread(g.drain() * 4 / 5)
	defer stop()
	gave := g.give()
	g.await(gone, over.C)
	gave()
	return g.finish(gone)
}

// join stops accepting and taking, and returns when nobody does it any more.
func (g *Group) join() {
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		for _, d := range g.doors {
			d.closed.Store(true)
			g.served.Go(func() { d.Close() })
		}
		g.served.Wait()
		if g.taker != nil {
			g.taker.stop()
		}
	}()
	select {
	case <-joined:
	case <-time.After(joinTime):
		g.logf("a socket is still accepted from after %v: has somebody made it blocking?", joinTime)
	}
}

// await waits for one of them, and tells the supervisor what for.
func (g *Group) await(gone <-chan struct{}, over <-chan time.Time) {
	ctx, end := context.WithCancel(context.Background())
	defer end()
	go g.report(ctx)
	select {
	case <-gone:
	case <-over:
	}
}

// report says each second who is still there, until ctx is done.
func (g *Group) report(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			g.conns.sweep()
			Status(ctx, fmt.Sprintf("leaving, %d connections are open", len(g.conns.all())))
		}
	}
}

// give begins to hand connections over. The returned function ends that.
func (g *Group) give() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	if g.giver == nil {
		return cancel
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.giver.run(ctx, min(answerTime, g.drain()/8), g.conns.wake)
	}()
	return func() { cancel(); <-done }
}

// finish is for those who did not leave in time. Requests that are under way have
// lastSecond.
func (g *Group) finish(gone <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), lastSecond)
	defer cancel()
	cut := g.conns.cut((*conn).isServers)
	g.shutdown(ctx)
	for _, d := range g.doors {
		d.inbox.Close()
	}
	cut += g.conns.cut(nil)
	select {
	case <-gone:
	case <-ctx.Done():
		g.conns.kill()
	}
	if cut > 0 {
		return fmt.Errorf("cannot leave in time: %w: %d were in use after %v", ErrCut, cut, g.drain())
	}
	return nil
}

// shutdown shuts all services down at once. It returns when ctx is done even if
// one of them waits for a socket that cannot be closed, see joinTime.
func (g *Group) shutdown(ctx context.Context) {
	var all sync.WaitGroup
	for _, s := range g.services {
		all.Go(func() { s.shutdown(ctx) })
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
