package worker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/supervisord-go/supervisord/pkg/worker"
)

// What main is for most services.
func ExampleServe() {
	srv := &http.Server{
		Addr:              "127.0.0.1:8080",
		Handler:           http.FileServer(http.Dir("/srv/www")),
		ReadHeaderTimeout: 10 * time.Second,
	}
	if err := worker.Serve(context.Background(), srv); err != nil {
		log.Fatal(err)
	}
}

// A server and a protocol of one's own, each with its own sockets. The supervisor
// hears READY=1 when both accept.
func ExampleGroup() {
	web, err := worker.Listen("web", "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	echo, err := worker.Listen("echo", "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	g := worker.Group{Drain: 10 * time.Second}
	g.HTTP(&http.Server{Handler: http.NotFoundHandler()}, web...)
	g.Conns(func(_ context.Context, c *worker.Conn) { io.Copy(c, c) }, echo...)

	// Here a client stands for the supervisor that ends the process.
	ctx, leave := context.WithCancel(context.Background())
	go func() {
		defer leave()
		fmt.Println(ask(web[0].Addr(), "GET / HTTP/1.0\r\n\r\n"))
		fmt.Println(ask(echo[0].Addr(), "echo\n"))
	}()
	if err := g.Serve(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// HTTP/1.0 404 Not Found
	// echo
}

// ask returns the first line of an answer.
func ask(address net.Addr, question string) string {
	c, err := net.Dial(address.Network(), address.String())
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	io.WriteString(c, question)
	lines := bufio.NewScanner(c)
	lines.Scan()
	return lines.Text()
}

// A stream of events that ends when its connection should be left. The client of
// an EventSource connects again by itself, to the next process.
func ExampleLeaving() {
	events := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		leaving := worker.Leaving(r.Context())
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-leaving.Done():
				return
			case <-ticker.C:
				fmt.Fprint(w, "data: tick\n\n")
				http.NewResponseController(w).Flush()
			}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	var g worker.Group
	g.HTTP(&http.Server{Handler: http.HandlerFunc(events)}, l)

	ctx, leave := context.WithCancel(context.Background())
	go func() {
		resp, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer http.DefaultClient.CloseIdleConnections()
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		event, err := r.ReadString('\n')
		fmt.Print(event)
		leave()
		for err == nil {
			_, err = r.ReadString('\n')
		}
		fmt.Println("the stream ends:", err == io.EOF)
	}()
	if err := g.Serve(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// data: tick
	// the stream ends: true
}

// A server that counts what each client sends goes on counting in the next process.
// It answers each byte, so that the number is all there is to know. Here there is no
// next process, so it serves its client to the end.
func ExampleConn_Move() {
	count := func(ctx context.Context, c *worker.Conn) {
		n, _ := strconv.Atoi(string(c.State()))
		stop := context.AfterFunc(worker.Leaving(ctx), func() { c.SetReadDeadline(time.Now()) })
		defer stop()
		r := bufio.NewReader(c)
		for {
			_, err := r.ReadByte()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if err = c.Move(ctx, []byte(strconv.Itoa(n))); err == nil {
					return // the connection is the next process's
				}
				fmt.Fprintln(c, err)
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	var g worker.Group
	g.Conns(count, l)

	ctx, leave := context.WithCancel(context.Background())
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		lines := bufio.NewScanner(c)
		hear := func() { lines.Scan(); fmt.Println(lines.Text()) }
		fmt.Fprint(c, "x")
		hear()
		leave()
		hear()
		fmt.Fprint(c, "x")
		hear()
	}()
	if err := g.Serve(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 1
	// cannot move the connection: no process takes connections
	// 2
}

// A service that cuts its last requests does so on purpose.
func ExampleServe_cut() {
	srv := &http.Server{Addr: "127.0.0.1:0"}
	ctx, leave := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, leave)
	switch err := worker.Serve(ctx, srv); {
	case errors.Is(err, worker.ErrCut):
		log.Print(err) // and exit as if nothing had been
	case err != nil:
		log.Fatal(err)
	}
	// Output:
}

// The supervisor restarts a service whose database has not answered for
// watchdog_sec. Without a supervisor that wants to know, Watchdog returns at once.
func ExampleWatchdog() {
	ping := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return database.PingContext(ctx)
	}
	go worker.Watchdog(context.Background(), ping)
	// Output:
}

// database stands for a *sql.DB.
var database interface{ PingContext(context.Context) error }
