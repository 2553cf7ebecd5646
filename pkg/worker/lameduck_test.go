package worker_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/worker"
)

func init() {
	roles["http"] = func() error {
		return worker.Serve(context.Background(), &http.Server{Handler: http.HandlerFunc(answer)})
	}
	roles["https"] = func() error {
		return worker.Serve(context.Background(), &http.Server{Handler: http.HandlerFunc(answer), TLSConfig: certificate()})
	}
	roles["h2c"] = func() error {
		srv := &http.Server{Handler: http.HandlerFunc(answer), Protocols: new(http.Protocols)}
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetUnencryptedHTTP2(true)
		return worker.Serve(context.Background(), srv)
	}
}

// answer sends back what it got, after its own pid.
func answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != "GET" && r.Method != "POST" { // as one with bytes missing
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%d %s", os.Getpid(), body)
}

func certificate() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// A crowd is clients that send one POST after the other until they are stopped.
type crowd struct {
	mu       sync.Mutex
	news     *sync.Cond
	done     int // requests
	stopped  atomic.Bool
	failures []error
	dials    atomic.Int64
	clients  sync.WaitGroup
}

// bodies are the sizes of requests, some of them of more than a server's buffer.
var bodies = []int{0, 0, 0, 0, 5000, 0, 0, 0, 0, 0, 20_000}

// A poster sends one request and checks its answer.
type poster interface {
	post(body string) error
	close()
}

func newCrowd(n int, dial func(c *crowd) poster) *crowd {
	c := &crowd{}
	c.news = sync.NewCond(&c.mu)
	for range n {
		c.clients.Go(func() {
			p := dial(c)
			defer p.close()
			for i := 0; !c.stopped.Load(); i++ {
				c.count(p.post(fmt.Sprint("request ", i, strings.Repeat(".", bodies[i%len(bodies)]))))
			}
		})
	}
	return c
}

func (c *crowd) count(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	if err != nil {
		c.failures = append(c.failures, err)
	}
	c.news.Broadcast()
}

// awaitMore returns when n more requests have been answered.
func (c *crowd) awaitMore(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for want := c.done + n; c.done < want; {
		c.news.Wait()
	}
}

// stop ends the clients and fails the test for each request that failed.
func (c *crowd) stop(t *testing.T) {
	t.Helper()
	c.stopped.Store(true)
	c.clients.Wait()
	for i, err := range c.failures {
		t.Errorf("request failed: %v", err)
		if i == 5 {
			break
		}
	}
	t.Logf("%d requests, %d failures, %d connections", c.done, len(c.failures), c.dials.Load())
}

// A keepAlive client speaks HTTP/1.1 itself and never repeats a request.
type keepAlive struct {
	crowd *crowd
	dial  func() (net.Conn, error)
	conn  net.Conn
	r     *bufio.Reader
}

func (k *keepAlive) post(body string) (err error) {
	if k.conn == nil {
		if k.conn, err = k.dial(); err != nil {
			return err
		}
		k.crowd.dials.Add(1)
		k.r = bufio.NewReader(k.conn)
	}
	closing, err := k.exchange(body)
	if err != nil || closing {
		k.close()
	}
	return err
}

func (k *keepAlive) exchange(body string) (closing bool, err error) {
	k.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(k.conn, requestOf(body)); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(k.r, nil)
	if err != nil {
		return false, err
	}
	return resp.Close, check(resp, body)
}

// requestOf has a body of known length or, if it is large, in chunks.
func requestOf(body string) string {
	const head = "POST / HTTP/1.1\r\nHost: x\r\n"
	if half := len(body) / 2; half > 4096 {
		return fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", head, half, body[:half], len(body)-half, body[half:])
	}
	return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

func (k *keepAlive) close() {
	if k.conn != nil {
		k.conn.Close()
		k.conn = nil
	}
}

func check(resp *http.Response, body string) error {
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if _, rest, _ := strings.Cut(string(got), " "); rest != body {
		return fmt.Errorf("answer to %q was %q", body, got)
	}
	return nil
}

// A transport is a client of net/http. It repeats only what GOAWAY says was not
// begun.
type transport struct {
	http.Transport
	scheme string
}

func (c *transport) post(body string) error {
	req, err := http.NewRequest("POST", c.scheme+"://x/", bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	resp, err := c.RoundTrip(req)
	if err != nil {
		return err
	}
	if resp.ProtoMajor != 2 {
		return fmt.Errorf("answered by %s", resp.Proto)
	}
	return check(resp, body)
}

func (c *transport) close() { c.CloseIdleConnections() }

func TestNothingIsLostWhenAProcessIsReplaced(t *testing.T) {
	insecure := &tls.Config{InsecureSkipVerify: true}
	secure := func(s socket) func(*crowd) poster {
		return func(c *crowd) poster {
			return &keepAlive{crowd: c, dial: func() (net.Conn, error) { return tls.Dial(s.network, s.address, insecure) }}
		}
	}
	http2 := func(s socket, config *tls.Config) func(*crowd) poster {
		return func(c *crowd) poster {
			client := &transport{scheme: "https"}
			if config == nil {
				client.scheme = "http"
			}
			client.TLSClientConfig = config.Clone()
			client.Protocols = new(http.Protocols)
			client.Protocols.SetHTTP2(config != nil)
			client.Protocols.SetUnencryptedHTTP2(config == nil)
			client.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				c.dials.Add(1)
				return new(net.Dialer).DialContext(ctx, s.network, s.address)
			}
			return client
		}
	}
	for _, test := range []struct {
		name, role string
		listen     func(*testing.T, string) socket
		client     func(socket) func(*crowd) poster
	}{
		{"TCP", "http", listenTCP, keepAliveTo},
		{"unix", "http", listenUnix, keepAliveTo},
		{"TLS", "https", listenTCP, secure},
		{"HTTP2", "https", listenTCP, func(s socket) func(*crowd) poster { return http2(s, insecure) }},
		{"h2c", "h2c", listenTCP, func(s socket) func(*crowd) poster { return http2(s, nil) }},
		{"HTTP1BesideH2c", "h2c", listenTCP, keepAliveTo},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.listen(t, "web")
			replaceUnder(t, spec{role: test.role, sockets: []socket{s}}, 5, 8, test.client(s))
		})
	}
}
