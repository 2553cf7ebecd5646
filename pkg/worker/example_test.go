package worker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/supervisord-go/supervisord/pkg/worker"
)

func ExampleServe() {
	srv := &http.Server{Addr: "127.0.0.1:8080", Handler: http.FileServer(http.Dir("/srv/www"))}
	if err := worker.Serve(context.Background(), srv); err != nil {
		log.Fatal(err)
	}
}

// Two servers and a protocol of one's own, each with its own sockets. READY=1 is
// said when all accept.
func ExampleGroup() {
	web, err := worker.Listen("web", "tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	admin, err := worker.Listen("admin", "unix", "/tmp/admin.sock")
	if err != nil {
		log.Fatal(err)
	}
	echo, err := worker.Listen("echo", "tcp", "127.0.0.1:7007")
	if err != nil {
		log.Fatal(err)
	}
	g := worker.Group{Drain: 10 * time.Second}
	g.HTTP(&http.Server{Handler: http.FileServer(http.Dir("/srv/www"))}, web...)
	g.HTTP(&http.Server{Handler: http.NotFoundHandler()}, admin...)
	g.Conns(func(ctx context.Context, c *worker.Conn) { io.Copy(c, c) }, echo...)
	if err := g.Serve(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// A stream of events that ends when its connection should be left. The client of
// an EventSource connects again by itself.
func ExampleLeaving() {
	http.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		leaving := worker.Leaving(r.Context())
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-leaving.Done():
				return
			case now := <-ticker.C:
				fmt.Fprintf(w, "data: %s\n\n", now)
				http.NewResponseController(w).Flush()
			}
		}
	})
}

// A server that counts what each client sends goes on counting in the next
// process. It answers each byte, so that the number is all there is to know.
func ExampleConn_Move() {
	count := func(ctx context.Context, c *worker.Conn) {
		n := 0
		if s := string(c.State()); s != "" {
			n, _ = strconv.Atoi(s)
		}
		stop := context.AfterFunc(worker.Leaving(ctx), func() { c.SetReadDeadline(time.Now()) })
		defer stop()
		r := bufio.NewReader(c)
		for {
			_, err := r.ReadByte()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if c.Move(ctx, []byte(strconv.Itoa(n))) == nil {
					return
				}
				c.SetReadDeadline(time.Time{}) // nobody takes it: serve on
				continue
			}
			if err != nil {
				return
			}
			n++
			fmt.Fprintln(c, n)
		}
	}
	var g worker.Group
	g.Conns(count)
	if err := g.Serve(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// The supervisor restarts a service whose database has not answered for
// watchdog_sec.
func ExampleWatchdog() {
	ping := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return database.PingContext(ctx)
	}
	go worker.Watchdog(context.Background(), ping)
}

// database stands for a *sql.DB.
var database interface{ PingContext(context.Context) error }
