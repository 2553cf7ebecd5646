// Library is a web server that can be replaced while it serves, with pkg/worker. Compare
// examples/hello, which does part of the same by hand.
//
// Started by hand (go run ./examples/library), it binds 127.0.0.1:8080 itself.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/supervisord-go/supervisord/pkg/worker"
)

// version is part of each response. Set it with go build -ldflags "-X main.version=2".
var version = "1"

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/", hello)
	mux.HandleFunc("/clock", clock)
	srv := &http.Server{Addr: "127.0.0.1:8080", Handler: mux}
	if err := worker.Serve(context.Background(), srv); err != nil {
		log.Fatal(err)
	}
}

func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello from version %s, pid %d\n", version, os.Getpid())
}

// clock streams the time and never ends by itself. When this process shuts down, clock
// ends the stream, and its client reconnects to the next process.
func clock(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	leaving := worker.Leaving(r.Context())
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		fmt.Fprintf(w, "data: %s by version %s\n\n", time.Now().Format(time.TimeOnly), version)
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-leaving.Done():
			return
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
	}
}
