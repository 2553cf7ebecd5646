package metrics

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A scrape is one short answer. Whoever is slow to ask or to read is cut off, and
// a connection is not kept: a new one costs nothing at these rates, and the places
// are few.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
	maxHeader    = 8 << 10 // bytes
	places       = 16      // connections at once; others wait in the kernel's queue
)

// path is all that is served.
const path = "/metrics"

// newHTTP makes the server of one listener. With local, requests must name this
// machine as one does who means it; errors that no client can be told go to faults.
func newHTTP(source func() Snapshot, local bool, faults io.Writer) *http.Server {
	h := &handler{source: source, local: local}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	srv := &http.Server{
		Handler:        h,
		Protocols:      protocols,
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       log.New(faults, "", 0),

		DisableGeneralOptionsHandler: true,
	}
	srv.SetKeepAlivesEnabled(false)
	return srv
}

type handler struct {
	source func() Snapshot
	local  bool
	one    sync.Mutex // however many ask, one snapshot is made at a time
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case h.local && !namesThisMachine(r.Host):
		http.Error(w, "the Host of a request must be an IP address or localhost: another name can be anybody's", http.StatusForbidden)
	case r.URL.Path != path:
		http.Error(w, "there is only "+path, http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are answered", http.StatusMethodNotAllowed)
	default:
		h.answer(w)
	}
}

// answer writes the whole text at once, so that no snapshot waits for a reader.
func (h *handler) answer(w http.ResponseWriter) {
	text := h.scrape()
	head := w.Header()
	head.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	head.Set("Content-Length", strconv.Itoa(len(text)))
	head.Set("X-Content-Type-Options", "nosniff")
	w.Write(text) // a client that is gone is told nothing
}

func (h *handler) scrape() []byte {
	h.one.Lock()
	defer h.one.Unlock()
	s := h.source()
	var b bytes.Buffer
	Write(&b, &s)
	return b.Bytes()
}

// namesThisMachine refuses what a web page can have made of its own name: the
// page's browser runs here, and its resolver says what the page's owner likes
// (DNS rebinding). An address is what it is.
func namesThisMachine(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || strings.EqualFold(host, "localhost")
}

// A door lets in so many connections at once. It accepts no other before one of
// them is closed.
type door struct {
	net.Listener
	free chan struct{} // has one for each connection inside
	shut chan struct{}
	once sync.Once
}

func newDoor(l net.Listener, places int) *door {
	return &door{Listener: l, free: make(chan struct{}, places), shut: make(chan struct{})}
}

// Accept returns a connection that gives its place back when it is closed.
func (d *door) Accept() (net.Conn, error) {
	select {
	case d.free <- struct{}{}:
	case <-d.shut:
		return nil, net.ErrClosed
	}
	c, err := d.Listener.Accept()
	if err != nil {
		<-d.free
		return nil, err
	}
	return &guest{Conn: c, leave: sync.OnceFunc(func() { <-d.free })}, nil
}

// Close also ends an Accept that waits for a place.
func (d *door) Close() error {
	d.once.Do(func() { close(d.shut) })
	return d.Listener.Close()
}

type guest struct {
	net.Conn
	leave func()
}

func (g *guest) Close() error {
	err := g.Conn.Close()
	g.leave()
	return err
}

// ended says whether a server's end was asked for.
func ended(err error) bool { return errors.Is(err, http.ErrServerClosed) }
