package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// demoServiceArg makes this binary the service of --demo.
const demoServiceArg = "demo-service"

// demoService is a web server on plain go-systemd: what a service of one's own
// would be. docs/tutorial.md explains it.
func demoService() int {
	listeners, err := activation.Listeners()
	if err != nil || len(listeners) == 0 {
		fmt.Fprintln(os.Stderr, "demo-service: no socket was passed: supervisord --demo starts this")
		return 1
	}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)

	var open atomic.Int64
	var leaving atomic.Bool
	var serving sync.WaitGroup
	s := &http.Server{
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if leaving.Load() {
				w.Header().Set("Connection", "close")
			}
			fmt.Fprintf(w, "hello from pid %d, up for %s\n", os.Getpid(), time.Since(demoBegan).Round(time.Second))
		}),
	}
	for _, l := range listeners {
		serving.Go(func() { s.Serve(l) })
	}
	daemon.SdNotify(false, daemon.SdNotifyReady)
	fmt.Printf("pid %d is ready\n", os.Getpid())

	<-terminate
	daemon.SdNotify(false, daemon.SdNotifyStopping)
	leaving.Store(true) // clients are told with their next answer
	for _, l := range listeners {
		l.Close() // new connections are the next process's
	}
	serving.Wait()
	for end := time.Now().Add(5 * time.Second); open.Load() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s.Shutdown(ctx)
	fmt.Printf("pid %d is exiting\n", os.Getpid())
	return 0
}

var demoBegan = time.Now()
