package worker

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const defaultDrain = 25 * time.Second

// Serve serves srv until SIGTERM, SIGINT or the end of ctx, tells the supervisor
// when it is ready and when it stops, and returns nil when it has left as the
// package's description says: main should return then. srv serves all inherited stream sockets; without
// any it listens on srv.Addr. It serves TLS if srv.TLSConfig has certificates.
//
// It replaces Handler, BaseContext, ConnContext and ConnState of srv by functions
// that call them. What was registered by srv.RegisterOnShutdown is called when the
// connections have left. Do not use srv again.
func Serve(ctx context.Context, srv *http.Server) error {
	var g Group
	g.HTTP(srv)
	return g.Serve(ctx)
}

// A Group is what one process serves. Its zero value is ready to use; it must not
// be changed once [Group.Serve] is called, which may be done once.
type Group struct {
	// Drain bounds how long the connections that are open may take to leave. It
	// should be some seconds less than the supervisor waits before it sends
	// SIGKILL. Zero means 25 s.
	Drain time.Duration

	// ErrorLog is told what went wrong and could be helped. Nil means the standard
	// logger of package log.
	ErrorLog *log.Logger

	services  []*service
	doors     []*door
	accepting sync.WaitGroup // one for each door that does not accept yet
	served    sync.WaitGroup // one for each door
	failed    chan error     // the first failure of a door
	leaving   atomic.Bool
	conns     registry
	taker     *taker // nil: no handover
	giver     *giver
}

// A protocol is how the connections of a service are served.
type protocol interface {
	serve(l net.Listener) error // until l is closed
	leave()                     // asks clients to go, does not wait
	takes() kind                // of connections that are handed over, 0 for none
	patience() time.Duration    // with a client that asks for nothing, 0 for ever
	shutdown(ctx context.Context) error
}

// A service is a protocol with the sockets that it is served on.
type service struct {
	protocol
	listeners []net.Listener // nil: all that nobody else has, or address
	address   string
	network   string
}

// HTTP adds a server. Without listeners it gets all inherited stream sockets that
// no other service of the group was given, or else listens on srv.Addr. See
// [Serve] for what becomes of srv.
func (g *Group) HTTP(srv *http.Server, listeners ...net.Listener) {
	h := newHTTP(g, srv)
	s := &service{protocol: h, listeners: listeners, network: "tcp", address: srv.Addr}
	if s.address == "" {
		s.address = h.defaultAddress()
	}
	g.services = append(g.services, s)
}

// Serve serves the group until SIGTERM, SIGINT or the end of ctx, tells the
// supervisor READY=1 when each of its sockets is accepted from, and STOPPING=1
// when it leaves. It returns nil when all connections have left, or the drain
// time is over. A second SIGINT ends the process.
//
// If one service of the group fails, the others leave and Serve returns the error.
func (g *Group) Serve(ctx context.Context) error {
	if err := g.open(); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	ctx, end := context.WithCancel(ctx)
	defer end()
	g.start(end)
	if err := g.untilReady(ctx); err != nil {
		g.leave()
		return err
	}
	select {
	case <-ctx.Done():
		g.leave()
		return nil
	case err := <-g.failed:
		g.leave()
		return err
	}
}

// untilSignal is done at the first SIGTERM or SIGINT. Further SIGTERMs are
// ignored, since a supervisor may repeat itself; SIGINT is as it was.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	term, interrupt := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	signal.Notify(interrupt, os.Interrupt)
	go func() {
		select {
		case <-term:
		case <-interrupt:
		case <-ctx.Done():
		}
		signal.Stop(interrupt)
		cancel()
	}()
	return ctx, func() { cancel(); signal.Stop(term) }
}

// open finds the sockets of each service.
func (g *Group) open() error {
	if len(g.services) == 0 {
		return errors.New("cannot serve: the group has no service")
	}
	if g.doors != nil {
		return errors.New("cannot serve: the group has been served already")
	}
	sockets, err := Inherited()
	if err != nil {
		return err
	}
	var taken []net.Listener
	for _, s := range g.services {
		taken = append(taken, s.listeners...)
	}
	for _, s := range g.services {
		if s.listeners != nil {
			continue
		}
		if err := s.open(sockets, taken); err != nil {
			return err
		}
		taken = append(taken, s.listeners...)
	}
	for _, s := range g.services {
		for _, l := range s.listeners {
			g.doors = append(g.doors, newDoor(g, s, l, sockets.nameOf(l)))
		}
	}
	return nil
}

// open gives s what nobody else has, or listens on its address.
func (s *service) open(sockets *Sockets, taken []net.Listener) error {
	if len(sockets.sockets) == 0 && s.network == "" {
		return errors.New("cannot serve: no socket was passed to this process")
	}
	if len(sockets.sockets) == 0 {
		l, err := net.Listen(s.network, s.address)
		if err != nil {
			return sockets.explain(err)
		}
		s.listeners = []net.Listener{l}
		return nil
	}
	all, err := sockets.Listeners()
	if err != nil {
		return err
	}
	for _, l := range all {
		if !slices.Contains(taken, l) {
			s.listeners = append(s.listeners, l)
		}
	}
	if s.listeners == nil {
		return fmt.Errorf("cannot serve: a service without listeners finds no stream socket left; %s", sockets.inventory())
	}
	return nil
}

// start serves each door. A server that was shut down by its user calls end.
func (g *Group) start(end func()) {
	g.failed = make(chan error, 1)
	g.accepting.Add(len(g.doors))
	if err := inherited().pairErr; err != nil {
		g.logf("no connection will be handed over: %v", err)
	}
	if p := inherited().pair; p != nil {
		g.taker, g.giver = newTaker(g, p.in), newGiver(p.out)
		for _, d := range g.doors {
			if d.service.takes() != 0 {
				go d.service.serve(d.inbox)
			}
		}
	}
	for _, d := range g.doors {
		g.served.Go(func() {
			err := d.service.serve(d)
			switch {
			case d.closed.Load():
			case errors.Is(err, http.ErrServerClosed):
				end()
			default:
				g.fail(fmt.Errorf("cannot serve %s: %w", d.Addr(), err))
			}
		})
	}
}

// fail keeps the first failure.
func (g *Group) fail(err error) {
	select {
	case g.failed <- err:
	default:
	}
}

// untilReady says READY=1 as soon as each door accepts. That it is told to leave
// before that is no error.
func (g *Group) untilReady(ctx context.Context) error {
	ready := make(chan struct{})
	go func() {
		g.accepting.Wait()
		close(ready)
	}()
	select {
	case err := <-g.failed:
		return err
	case <-ctx.Done():
		return nil
	case <-ready:
	}
	if err := Ready(); err != nil {
		g.logf("%v", err)
	}
	if g.taker != nil {
		g.taker.start()
	}
	return nil
}

func (g *Group) drain() time.Duration {
	if g.Drain > 0 {
		return g.Drain
	}
	return defaultDrain
}

func (g *Group) logf(format string, args ...any) {
	if g.ErrorLog != nil {
		g.ErrorLog.Printf("worker: "+format, args...)
		return
	}
	log.Printf("worker: "+format, args...)
}
