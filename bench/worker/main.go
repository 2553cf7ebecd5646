// Worker is the program that the bench has supervised: a server of HTTP/1.1,
// HTTP/2, WebSockets and messages over TCP, good or broken in one way. Which way
// is in the name of its file, as a deploy exchanges files and nothing else.
//
//	library         is served by pkg/worker
//	plain           stops accepting, answers with Connection: close until its
//	                connections are gone (at most 5 s), then calls Shutdown
//	stock           calls Shutdown at once, as most programs do
//	cstyle          shuts its sockets down, and leaves as plain does when accept
//	                fails, as many servers in C do; so it does if accept fails
//	                before that
//	never-ready     runs and says nothing
//	exits-at-start  exits with status 1 before it is ready
//	exits-in-bake   is ready, accepts nothing, exits with status 3
//	dies-accepting  is ready, accepts and answers, exits with status 4
//	dies-with-queue is ready, accepts nothing, exits with status 5 and says how many
//	                were waiting for it
//	hangs           is ready, says that it stops, does nothing on SIGTERM
//	deaf            serves, and does nothing on SIGTERM
//
// With -stall each accepts no connection any more after SIGUSR1, as one that hangs, and
// goes on with those that it has. With -late all but library notice SIGTERM so much
// later.
//
// What it serves on a socket is in the socket's name: tls, tcp (messages), or else
// HTTP.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/supervisord-go/supervisord/bench/ledger"
)

// builds says what each build does. None of them returns before it is to exit.
var builds = map[string]func(*worker){
	"library":         (*worker).library,
	"plain":           (*worker).plain,
	"stock":           (*worker).stock,
	"cstyle":          (*worker).cstyle,
	"never-ready":     (*worker).neverReady,
	"exits-at-start":  (*worker).exitsAtStart,
	"exits-in-bake":   (*worker).exitsInBake,
	"dies-accepting":  (*worker).diesAccepting,
	"dies-with-queue": (*worker).diesWithQueue,
	"hangs":           (*worker).hangs,
	"deaf":            (*worker).deaf,
}

const (
	patience = 5 * time.Second       // of a leaving worker with its clients
	life     = 50 * time.Millisecond // of a build that dies while it bakes
)

func main() {
	log.SetFlags(0)
	w := &worker{terminate: make(chan os.Signal, 1), stall: make(chan os.Signal, 1)}
	flag.StringVar(&w.record, "ledger", "", "`file` to keep the record in")
	flag.StringVar(&w.certificate, "certificate", "", "`file` with a certificate and its key, for the socket tls")
	flag.StringVar(&w.listen, "listen", "", "`address` to serve HTTP on, if nobody passes sockets")
	flag.BoolVar(&w.stalls, "stall", false, "accept nothing any more after SIGUSR1")
	flag.DurationVar(&w.pace, "pace", 0, "`time` to take for each connection that is accepted")
	flag.DurationVar(&w.late, "late", 0, "`time` from SIGTERM until it is noticed")
	flag.Parse()
	if w.stalls {
		signal.Notify(w.stall, syscall.SIGUSR1)
	}
	var err error
	if w.build, err = self(); err != nil {
		log.Fatal(err)
	}
	behave, ok := builds[w.build]
	if !ok {
		log.Fatalf("no build is called %q", w.build)
	}
	w.note(ledger.Entry{Event: ledger.Began})
	behave(w)
}

// self is the name of the file that runs. The argument that names it may be a
// link to it.
func self() (string, error) {
	path, err := os.Readlink("/proc/self/exe")
	return filepath.Base(path), err
}

type worker struct {
	build       string
	record      string
	certificate string
	listen      string
	pace        time.Duration
	late        time.Duration
	stalls      bool
	terminate   chan os.Signal
	stall       chan os.Signal // when one comes, nothing more is accepted
	hung        atomic.Bool
}

func (w *worker) plain() {
	s := w.up(w.giveUp)
	<-w.told()
	w.left(&s.app, s.leave(patience))
}

func (w *worker) stock() {
	s := w.up(w.giveUp)
	<-w.told()
	w.left(&s.app, s.shutdown())
}

// cstyle does not close its sockets, so accept has to fail for it to end.
func (w *worker) cstyle() {
	failed := make(chan struct{}, 1)
	s := w.up(func(_ *server, err error) {
		w.acceptFailed(err)
		select {
		case failed <- struct{}{}:
		default:
		}
	})
	select {
	case <-w.told():
	case <-failed:
	}
	w.left(&s.app, s.end(patience))
}

// told is closed when the worker has noticed that it is to leave.
func (w *worker) told() <-chan struct{} {
	told := make(chan struct{})
	go func() {
		<-w.terminate
		time.Sleep(w.late)
		close(told)
	}()
	return told
}

// giveUp is what a program does when accept fails, unless it was written for that:
// it ends, and all its connections with it.
func (w *worker) giveUp(s *server, err error) {
	w.acceptFailed(err)
	w.note(ledger.Entry{Event: ledger.Died, Open: s.open(), Answered: s.answered.Load()})
	log.Fatal(err)
}

func (w *worker) acceptFailed(err error) {
	w.note(ledger.Entry{Event: ledger.AcceptFailed, Error: err.Error()})
}

func (w *worker) deaf() {
	w.up(w.giveUp)
	for range w.terminate {
	}
}

func (w *worker) neverReady() {
	time.Sleep(time.Hour) // whoever forgets it does not have it for ever
}

func (w *worker) exitsAtStart() {
	fmt.Fprintln(os.Stderr, "panic: missing DB_URL")
	os.Exit(1)
}

func (w *worker) exitsInBake() {
	w.ready()
	time.Sleep(life)
	os.Exit(3)
}

// diesAccepting dies with all the connections that it has. It stops accepting
// an instant before that, since a count could not be exact while it does.
func (w *worker) diesAccepting() {
	s := w.up(w.giveUp)
	time.Sleep(life)
	s.close()
	w.note(ledger.Entry{Event: ledger.Died, Open: s.open(), Answered: s.answered.Load()})
	os.Exit(4)
}

// diesWithQueue owes nothing to those who wait for it: it has accepted nobody.
func (w *worker) diesWithQueue() {
	listeners := w.listeners()
	w.ready()
	time.Sleep(life)
	waiting := map[string]int64{}
	for name, all := range listeners {
		for _, l := range all {
			waiting[class(l, name)] += queue(l)
		}
	}
	w.note(ledger.Entry{Event: ledger.Died, Waiting: waiting})
	os.Exit(5)
}

// hangs costs its supervisor all the time that a process is given to stop.
func (w *worker) hangs() {
	signal.Ignore(syscall.SIGTERM)
	w.ready()
	w.notify(daemon.SdNotifyStopping)
	time.Sleep(time.Hour)
}

// up serves. The function is called when an accept fails before the server has begun
// to leave.
func (w *worker) up(failed func(*server, error)) *server {
	signal.Notify(w.terminate, syscall.SIGTERM)
	s, err := newServer(w.certificate, w.gauges())
	if err != nil {
		log.Fatal(err)
	}
	s.failed = func(err error) { failed(s, err) }
	s.serve(w.listeners())
	w.ready()
	return s
}

// gauges are in the record, if there is one.
func (w *worker) gauges() *ledger.Gauges {
	if w.record == "" {
		return new(ledger.Gauges)
	}
	g, err := ledger.Gauge(w.record)
	if err != nil {
		log.Fatal(err)
	}
	return g
}

// listeners are those that were passed, by name; or one of its own.
func (w *worker) listeners() map[string][]net.Listener {
	listeners, err := activation.ListenersWithNames()
	if err == nil && len(listeners) == 0 && w.listen != "" {
		var l net.Listener
		l, err = net.Listen("tcp", w.listen)
		listeners = map[string][]net.Listener{"http": {l}}
	}
	if err != nil {
		log.Fatal(err)
	}
	for _, all := range listeners {
		w.gates(all)
	}
	return listeners
}

func (w *worker) ready() {
	w.note(ledger.Entry{Event: ledger.Ready})
	w.notify(daemon.SdNotifyReady)
}

func (w *worker) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Fatal(err)
	}
}

func (w *worker) left(a *app, err error) {
	e := ledger.Entry{Event: ledger.Left, Answered: a.answered.Load()}
	if err != nil {
		e.Error = err.Error()
	}
	w.note(e)
}

func (w *worker) note(e ledger.Entry) {
	if w.record == "" {
		return
	}
	e.PID, e.Build = os.Getpid(), w.build
	if err := ledger.Append(w.record, e); err != nil {
		log.Fatal(err)
	}
}
