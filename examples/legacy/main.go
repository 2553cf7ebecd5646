// Legacy is a web server that knows nothing about supervisors: it binds its own port.
// Two copies of it cannot run side by side, so a reload stops the old one first, and
// clients are refused in between.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	address := flag.String("listen", "127.0.0.1:8082", "`address` to listen on")
	flag.Parse()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from pid %d\n", os.Getpid())
	})
	log.Fatal(http.ListenAndServe(*address, nil))
}
