// Worker is the program that the bench has supervised: a web server on plain
// go-systemd, good or broken in one way. Which way is in the name of its file,
// as a deploy exchanges files and nothing else.
//
//	plain           stops accepting, answers with Connection: close until its
//	                connections are gone (at most 5 s), then calls Shutdown
//	stock           calls Shutdown at once, as most programs do
//	never-ready     runs and says nothing
//	exits-at-start  exits with status 1 before it is ready
//	exits-in-bake   is ready, accepts nothing, exits with status 3
//	dies-accepting  is ready, accepts and answers, exits with status 4
//	deaf            serves, and does nothing on SIGTERM
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/supervisord-go/supervisord/bench/ledger"
)

// builds says what each build does. None of them returns before it is to exit.
var builds = map[string]func(*worker){
	"plain":          (*worker).plain,
	"stock":          (*worker).stock,
	"never-ready":    (*worker).neverReady,
	"exits-at-start": (*worker).exitsAtStart,
	"exits-in-bake":  (*worker).exitsInBake,
	"dies-accepting": (*worker).diesAccepting,
	"deaf":           (*worker).deaf,
}

const (
	patience = 5 * time.Second       // of a leaving worker with its clients
	life     = 50 * time.Millisecond // of a build that dies while it bakes
)

func main() {
	log.SetFlags(0)
	record := flag.String("ledger", "", "`file` to keep the record in")
	flag.Parse()
	build, err := self()
	if err != nil {
		log.Fatal(err)
	}
	behave, ok := builds[build]
	if !ok {
		log.Fatalf("no build is called %q", build)
	}
	w := &worker{build: build, record: *record, terminate: make(chan os.Signal, 1)}
	if w.listeners, err = activation.Listeners(); err != nil {
		log.Fatal(err)
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
	build     string
	record    string
	listeners []net.Listener
	terminate chan os.Signal
}

func (w *worker) plain() {
	s := w.up()
	<-w.terminate
	w.left(s, s.leave(patience))
}

func (w *worker) stock() {
	s := w.up()
	<-w.terminate
	w.left(s, s.shutdown())
}

func (w *worker) deaf() {
	w.up()
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
	s := w.up()
	time.Sleep(life)
	s.close()
	e := s.count()
	e.Event = ledger.Died
	w.note(e)
	os.Exit(4)
}

func (w *worker) up() *server {
	signal.Notify(w.terminate, syscall.SIGTERM)
	s := serve(w.listeners)
	w.ready()
	return s
}

func (w *worker) ready() {
	w.note(ledger.Entry{Event: ledger.Ready})
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Fatal(err)
	}
}

func (w *worker) left(s *server, err error) {
	e := s.count()
	e.Event = ledger.Left
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
