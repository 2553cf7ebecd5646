package worker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/worker"
)

func init() {
	roles["group"] = serveGroup
	roles["counter"] = func() error {
		var g worker.Group
		g.Conns(count)
		return g.Serve(context.Background())
	}
}

// serveGroup serves "web" and "tls", and leaves within WORKER_DRAIN.
func serveGroup() error {
	web, err := worker.Listen("web", "tcp", "")
	if err != nil {
		return err
	}
	secure, err := worker.Listen("tls", "tcp", "")
	if err != nil {
		return err
	}
	drain, err := time.ParseDuration(os.Getenv("WORKER_DRAIN"))
	if err != nil {
		return err
	}
	g := worker.Group{Drain: drain}
	g.HTTP(&http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: time.Minute}, web...)
	g.HTTP(&http.Server{Handler: http.HandlerFunc(answer), TLSConfig: certificate()}, secure...)
	return g.Serve(context.Background())
}

// handoverPair is what a supervisor gives to all generations of a service.
func handoverPair(t *testing.T) []int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[:]
}

func keepAliveTo(s socket) func(*crowd) poster {
	return func(c *crowd) poster {
		return &keepAlive{crowd: c, dial: func() (net.Conn, error) { return net.Dial(s.network, s.address) }}
	}
}

func TestClientsNoticeNothingOfAHandover(t *testing.T) {
	for _, test := range []struct {
		name, role  string
		listen      func(*testing.T, string) socket
		generations int
	}{
		{"TCP", "http", listenTCP, 15},
		{"unix", "http", listenUnix, 5},
		{"BesideH2c", "h2c", listenTCP, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.listen(t, "web")
			const clients = 16
			crowd := replaceUnder(t, spec{role: test.role, sockets: []socket{s}, pair: handoverPair(t)}, test.generations, clients, keepAliveTo(s))
			if n := crowd.dials.Load(); n != clients {
				t.Errorf("%d clients have connected %d times", clients, n)
			}
		})
	}
}

// replaceUnder replaces a worker again and again while clients use it.
func replaceUnder(t *testing.T, s spec, generations, clients int, dial func(*crowd) poster) *crowd {
	t.Helper()
	start := func() *process {
		w := startWorker(t, s)
		w.await("READY=1")
		return w
	}
	current := start()
	crowd := newCrowd(clients, dial)
	for range generations {
		next := start()
		crowd.awaitMore(100)
		current.terminate()
		current.awaitExit()
		current = next
	}
	crowd.stop(t)
	return crowd
}

// A pipeline client always has a second request on its way.
type pipeline struct {
	keepAlive
	ahead string
}

func (p *pipeline) post(body string) error {
	if p.conn == nil {
		var err error
		if p.conn, err = p.dial(); err != nil {
			return err
		}
		p.crowd.dials.Add(1)
		p.r = bufio.NewReader(p.conn)
		p.ahead = ""
	}
	p.conn.SetDeadline(time.Now().Add(patience))
	if p.ahead == "" {
		p.send(body)
		p.ahead = body
	}
	next := body + " again"
	p.send(next)
	resp, err := http.ReadResponse(p.r, nil)
	if err == nil {
		err = check(resp, p.ahead)
	}
	p.ahead = next
	if err != nil || resp.Close { // an answer less is what RFC 9112, 9.3.2 lets a server do
		p.close()
	}
	return err
}

// send writes a request in two halves, so that some are read by halves.
func (p *pipeline) send(body string) {
	fmt.Fprintf(p.conn, "POST / HTTP/1.1\r\nHost: x\r\nCon")
	fmt.Fprintf(p.conn, "tent-Length: %d\r\n\r\n%s", len(body), body)
}

func TestAConnectionWithRequestsAheadDoesNotMove(t *testing.T) {
	for _, role := range []string{"http", "h2c"} {
		t.Run(role, func(t *testing.T) {
			s := listenTCP(t, "web")
			replaceUnder(t, spec{role: role, sockets: []socket{s}, pair: handoverPair(t)}, 8, 8, func(c *crowd) poster {
				p := &pipeline{}
				p.crowd, p.dial = c, func() (net.Conn, error) { return net.Dial(s.network, s.address) }
				return p
			})
		})
	}
}

func TestConnectionsThatRestMoveOn(t *testing.T) {
	s, pair := listenTCP(t, "web"), handoverPair(t)
	sp := spec{role: "http", sockets: []socket{s}, pair: pair}
	current := startWorker(t, sp)
	current.await("READY=1")
	var clients []*keepAlive
	for i := range 10 {
		k := &keepAlive{conn: dial(t, s)}
		k.r = bufio.NewReader(k.conn)
		if i < 5 { // the others have sent nothing yet
			exchange(t, k, current)
		}
		clients = append(clients, k)
	}
	for range 3 { // in the first two of which no connection is used
		next := startWorker(t, sp)
		next.await("READY=1")
		current.terminate()
		current.awaitExit()
		current = next
	}
	for _, k := range clients {
		exchange(t, k, current)
		exchange(t, k, current)
	}
}

// exchange sends a request that w must answer without closing the connection.
func exchange(t *testing.T, k *keepAlive, w *process) {
	t.Helper()
	if got, want := answeredBy(t, k), strconv.Itoa(w.cmd.Process.Pid); got != want {
		t.Fatalf("answered by %s, want %s", got, want)
	}
}

// answeredBy returns the pid of who answers a request.
func answeredBy(t *testing.T, k *keepAlive) string {
	t.Helper()
	fmt.Fprintf(k.conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(k.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Close {
		t.Fatalf("answer ended with %v, closing: %v", err, resp.Close)
	}
	return strings.TrimSpace(string(body))
}

func TestWithoutATakerClientsAreToldToClose(t *testing.T) {
	s, tls := listenTCP(t, "web"), listenTCP(t, "tls")
	sp := spec{role: "group", sockets: []socket{s, tls}, pair: handoverPair(t), env: []string{"WORKER_DRAIN=2s"}}
	w := startWorker(t, sp)
	w.await("READY=1")
	crowd := newCrowd(4, keepAliveTo(s))
	crowd.awaitMore(10)
	w.terminate()
	w.await("STOPPING=1")
	w.awaitExit() // the socket is still open, so the clients wait in its queue
	next := startWorker(t, sp)
	next.await("READY=1")
	crowd.awaitMore(10)
	crowd.stop(t)
	next.terminate()
	next.awaitExit()
}

func TestWhatNobodyLeavesIsClosedInTheEnd(t *testing.T) {
	web, tls := listenTCP(t, "web"), listenTCP(t, "tls")
	w := startWorker(t, spec{role: "group", sockets: []socket{web, tls}, env: []string{"WORKER_DRAIN=100ms"}})
	w.await("READY=1")
	fresh, used := dial(t, web), &keepAlive{conn: dial(t, web)}
	used.r = bufio.NewReader(used.conn)
	exchange(t, used, w)
	w.terminate()
	for _, c := range []net.Conn{fresh, used.conn} {
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("the end of a connection: %v", err)
		}
		c.Close()
	}
	w.awaitExit()
}

// A socket that another process has made blocking hangs who accepts from it.
func TestABlockingSocketDoesNotHoldUpWhoLeaves(t *testing.T) {
	s := listenTCP(t, "web")
	w := startWorker(t, spec{role: "http", sockets: []socket{s}})
	w.await("READY=1")
	if err := unix.SetNonblock(s.fd, false); err != nil {
		t.Fatal(err)
	}
	k := &keepAlive{conn: dial(t, s)}
	k.r = bufio.NewReader(k.conn)
	exchange(t, k, w) // after which the worker waits in accept
	k.close()
	w.terminate()
	w.awaitExit()
	if got := w.output.String(); !strings.Contains(got, "has somebody made it blocking?") {
		t.Errorf("the worker said %q", got)
	}
}

// count answers each line by how many there were. Its state is that number, and
// the line that has begun.
func count(ctx context.Context, c *worker.Conn) {
	state, rest, _ := strings.Cut(string(c.State()), "\n")
	n, _ := strconv.Atoi(state)
	r := bufio.NewReader(io.MultiReader(strings.NewReader(rest), c))
	stop := context.AfterFunc(worker.Leaving(ctx), func() { c.SetReadDeadline(time.Now()) })
	defer stop()
	var line string
	for {
		part, err := r.ReadString('\n')
		line += part
		switch {
		case err == nil:
			n++
			fmt.Fprintf(c, "%d %d\n", n, len(line))
			line = ""
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.SetReadDeadline(time.Time{})
			ahead, _ := r.Peek(r.Buffered())
			if c.Move(ctx, fmt.Appendf(nil, "%d\n%s%s", n, line, ahead)) == nil {
				return
			}
		default:
			return
		}
	}
}

// A teller counts along with count.
type teller struct {
	address string
	conn    net.Conn
	r       *bufio.Reader
	n       int
}

func (c *teller) post(string) (err error) {
	if c.conn == nil {
		if c.conn, err = net.Dial("tcp", c.address); err != nil {
			return err
		}
		c.r = bufio.NewReader(c.conn)
	}
	c.n++
	c.conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c.conn, "so")
	fmt.Fprint(c.conn, "me\n")
	got, err := c.r.ReadString('\n')
	if want := fmt.Sprintf("%d 5\n", c.n); got != want {
		return fmt.Errorf("got %q, %w; want %q", got, err, want)
	}
	return nil
}

func (c *teller) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

func TestStateMovesWithItsConnection(t *testing.T) {
	s := listenTCP(t, "count")
	replaceUnder(t, spec{role: "counter", sockets: []socket{s}, pair: handoverPair(t)}, 10, 8, func(c *crowd) poster {
		return &teller{address: s.address}
	})
}
