package worker

import (
	"cmp"
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

// Serve serves srv as its own ListenAndServe does, until SIGTERM, SIGINT or the end of
// ctx. It tells the supervisor when it is ready and when it stops, and returns nil when
// it has left as the package's description says: main should return then. Of the
// errors, [ErrCut] says that connections were in use until the drain time was over,
// and [http.ErrServerClosed], which is returned as it is, that srv was ended by its
// own Shutdown or Close.
//
// srv serves all inherited stream sockets; without any it listens on srv.Addr. Its
// Handler may be nil, which means [http.DefaultServeMux]. It serves TLS if
// srv.TLSConfig has certificates. All its options mean what they mean to net/http,
// also for connections that another process has accepted. What was registered by
// srv.RegisterOnShutdown is called when the process begins to leave.
//
// Serve replaces Handler, BaseContext, ConnContext and ConnState of srv by functions
// that call them, and may set TLSNextProto. A server is served once.
func Serve(ctx context.Context, srv *http.Server) error {
	var g Group
	g.HTTP(srv)
	return g.Serve(ctx)
}

// A Group is what one process serves. Its zero value is ready to use; it must not
// be changed once [Group.Serve] is called, which may be done once. What is wrong with
// what was added, such as a listener that is nil, is an error of Serve.
type Group struct {
	// Drain bounds how long the connections that are open may take to leave. It
	// should be some seconds less than the supervisor waits before it sends
	// SIGKILL. Zero means 25 s.
	Drain time.Duration

	// ErrorLog receives errors that Serve recovered from. Nil means the standard
	// logger of package log.
	ErrorLog *log.Logger

	mu        sync.Mutex // until Serve has begun
	begun     bool
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
	open() error                                // says why it cannot be served
	secure() bool                               // whether it encrypts what is accepted
	address() string                            // to listen on if there are no sockets, if it can
	serve(l net.Listener, encrypted bool) error // until l is closed
	leave()                                     // asks clients to go, does not wait
	takes() kind                                // of connections that are handed over, 0 for none
	patience(fresh bool) time.Duration          // with a client that asks for nothing (yet), 0 for ever
	shutdown(ctx context.Context)               // ends what is there when ctx is done
}

// A service is a protocol with the sockets that it is served on.
type service struct {
	protocol
	listeners []net.Listener // nil: all that nobody else has, or the address
}

// HTTP adds a server. Without listeners it gets all inherited stream sockets that
// no other service of the group was given, or else listens on srv.Addr. A listener of
// [crypto/tls.NewListener] is served as it is, whatever srv.TLSConfig says. See
// [Serve] for what becomes of srv. HTTP must not be called once [Group.Serve] is, and
// panics then.
func (g *Group) HTTP(srv *http.Server, listeners ...net.Listener) {
	g.add("HTTP", &service{protocol: &httpProtocol{group: g, srv: srv}, listeners: listeners})
}

func (g *Group) add(method string, s *service) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begun {
		panic("worker: " + method + " of a Group was called after its Serve")
	}
	g.services = append(g.services, s)
}

// Serve serves the group until SIGTERM, SIGINT or the end of ctx, tells the
// supervisor READY=1 when each of its sockets is accepted from, and STOPPING=1
// when it leaves. It returns nil when all connections have left, [ErrCut] if some were
// in use until the drain time was over. A second SIGINT ends the process.
//
// If one service of the group fails, the others leave and Serve returns the error.
func (g *Group) Serve(ctx context.Context) error {
	if err := g.begin(); err != nil {
		return fmt.Errorf("cannot serve: %w", err)
	}
	if err := g.open(); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	g.start()
	failure := g.untilReady(ctx)
	if failure == nil {
		failure = g.untilEnd(ctx)
	}
	cut := g.leave()
	if failure == nil || cut == nil {
		return cmp.Or(failure, cut) // not joined, since http.ErrServerClosed is compared
	}
	return errors.Join(failure, cut)
}

// begin closes the group to further services, and finds what is wrong with it.
func (g *Group) begin() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begun {
		return errors.New("the group has been served already")
	}
	g.begun = true
	return g.check()
}

// untilEnd waits for the end of ctx, which is none of Serve, or a failure.
func (g *Group) untilEnd(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-g.failed:
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
		if err := s.find(sockets, taken); err != nil {
			return err
		}
		taken = append(taken, s.listeners...)
	}
	for _, s := range g.services {
		if err := s.open(); err != nil {
			return fmt.Errorf("cannot serve: %w", err)
		}
	}
	g.mount(sockets)
	return nil
}

// mount makes the doors. Listeners are not what they were from then on.
func (g *Group) mount(sockets *Sockets) {
	for _, s := range g.services {
		for _, l := range s.listeners {
			d := newDoor(g, s, l)
			d.name = sockets.nameOf(d.Listener)
			g.doors = append(g.doors, d)
		}
	}
}

// find gives s what nobody else has, or listens on its address.
func (s *service) find(sockets *Sockets, taken []net.Listener) error {
	address := s.address()
	if len(sockets.sockets) == 0 && address == "" {
		return errors.New("cannot serve: no socket was passed to this process")
	}
	if len(sockets.sockets) == 0 {
		l, err := net.Listen("tcp", address)
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
		if !slices.ContainsFunc(taken, func(t net.Listener) bool { return same(t, l) }) {
			s.listeners = append(s.listeners, l)
		}
	}
	if len(s.listeners) == 0 {
		return fmt.Errorf("cannot serve: a service without listeners finds no stream socket left; %s", sockets.inventory())
	}
	return nil
}

// start serves each door.
func (g *Group) start() {
	g.failed = make(chan error, 1)
	g.accepting.Add(len(g.doors))
	if err := inherited().pairErr; err != nil {
		g.logf("no connection will be handed over: %v", err)
	}
	if p := inherited().pair; p != nil {
		g.taker, g.giver = newTaker(g, p.in), newGiver(p.out)
		for _, d := range g.doors {
			if d.takes() != 0 {
				go d.service.serve(d.inbox, false)
			}
		}
	}
	for _, d := range g.doors {
		g.served.Go(func() {
			err := d.service.serve(d.front, d.isTLS())
			switch {
			case d.closed.Load():
			case errors.Is(err, http.ErrServerClosed):
				g.fail(err)
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
	if err := Ready(ctx); err != nil {
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
