// Library is a web server that can be replaced while it serves, by the library
// for that. Compare examples/hello, which does the same by hand, and less of it.
//
// Run alone (go run ./examples/library) it listens on 127.0.0.1:8080 itself.
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

// version is what the answers name: go build -ldflags "-X main.version=2".
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

// clock never ends by itself. When this process leaves, it ends the stream, and
// its client connects again, to the next.
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
