// Swap is a web server whose code is exchanged while it runs: at SIGHUP it opens
// the plugin that a link names, and answers by that from then on. It is here to be
// compared with a reload. Package plugin needs cgo.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"plugin"
	"sync/atomic"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
)

func main() {
	log.SetFlags(0)
	address := flag.String("listen", "127.0.0.1:8080", "`address`")
	current := flag.String("plugin", "", "`link` to the plugin")
	flag.Parse()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	l, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	var handler atomic.Pointer[http.HandlerFunc]
	for first := true; ; first = false {
		h, err := open(*current)
		if err != nil {
			log.Fatal(err)
		}
		handler.Store(&h)
		if first {
			go serve(l, &handler)
		}
		if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
			log.Fatal(err)
		}
		<-hangup
	}
}

func serve(l net.Listener, handler *atomic.Pointer[http.HandlerFunc]) {
	log.Fatal(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*handler.Load())(w, r)
	})))
}

// open resolves the link first: a plugin is opened once for each path.
func open(link string) (http.HandlerFunc, error) {
	path, err := filepath.EvalSymlinks(link)
	if err != nil {
		return nil, err
	}
	p, err := plugin.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := p.Lookup("Handler")
	if err != nil {
		return nil, err
	}
	h, ok := s.(func(http.ResponseWriter, *http.Request))
	if !ok {
		return nil, fmt.Errorf("%s: Handler is a %T", path, s)
	}
	return h, nil
}
