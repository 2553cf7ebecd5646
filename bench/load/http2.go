package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// An http2Wire speaks HTTP/2, by net/http. A ClientConn is one connection and
// sends a request once; its Transport only makes it.
type http2Wire struct {
	transport *http.Transport
	conn      *http.ClientConn // nil: none
	scheme    string
}

// connected is false from the moment that the server's GOAWAY arrives.
func (w *http2Wire) connected() bool { return w.conn != nil && w.conn.Available() > 0 }

func (w *http2Wire) connect(o *Options, by time.Time) (err error) {
	w.prepare(o)
	ctx, cancel := context.WithDeadline(context.Background(), by)
	defer cancel()
	w.conn, err = w.transport.NewClientConn(ctx, w.scheme, "bench:0")
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return lose(connectFailure(err), err)
	}
	if err != nil {
		return lose(early(err), err)
	}
	return nil
}

func (w *http2Wire) prepare(o *Options) {
	if w.transport != nil {
		return
	}
	w.transport = &http.Transport{Protocols: new(http.Protocols)}
	w.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, o.Network, o.Address)
	}
	if o.Mode.Socket == TLS {
		w.scheme = "https"
		w.transport.Protocols.SetHTTP2(true)
		w.transport.TLSClientConfig = o.TLS.Clone()
		w.transport.TLSClientConfig.NextProtos = []string{"h2"}
		return
	}
	w.scheme = "http"
	w.transport.Protocols.SetUnencryptedHTTP2(true)
}

func (w *http2Wire) exchange(q question, by time.Time) (answer, error) {
	ctx, cancel := context.WithDeadline(context.Background(), by)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, q.method, w.scheme+"://bench"+q.target, bytes.NewReader(q.body))
	if err != nil {
		return answer{}, err
	}
	r, err := w.conn.RoundTrip(request)
	if err != nil {
		return answer{}, unanswered(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, mostBody))
	switch {
	case err != nil:
		return answer{}, lose(late(err), err)
	case r.StatusCode != http.StatusOK:
		return answer{}, lose(Status, errors.New(r.Status))
	case r.ProtoMajor != 2:
		return answer{}, lose(Malformed, fmt.Errorf("it was %s", r.Proto))
	}
	return answer{body: body}, nil
}

// unanswered tells requests that the server has not begun with from lost ones. A
// GOAWAY names the last one that it has (RFC 9113, section 6.8); net/http has no
// names for its errors.
func unanswered(err error) error {
	for _, text := range []string{
		"http2: Transport received Server's graceful shutdown GOAWAY", // behind the last one
		"http2: client conn not usable",                               // not sent, as the GOAWAY was here before
	} {
		if strings.HasSuffix(err.Error(), text) {
			return errUnprocessed
		}
	}
	return lose(early(err), err)
}

func (w *http2Wire) hangUp() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}
