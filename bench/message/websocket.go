package message

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

// Accept answers a request with a WebSocket and takes its connection over. If it
// fails, the client has its answer.
func Accept(w http.ResponseWriter, r *http.Request) (Conn, error) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, err
	}
	return newWebSocket(ws), nil
}

// Dial makes a WebSocket of a connection by asking for a path. If it fails, the
// connection is closed.
func Dial(conn net.Conn, path string) (Conn, error) {
	next := []net.Conn{conn} // one attempt, as nothing here may be tried again behind a client's back
	dial := func(context.Context, string, string) (net.Conn, error) {
		if len(next) == 0 {
			return nil, net.ErrClosed
		}
		defer func() { next = nil }()
		return next[0], nil
	}
	ws, answer, err := websocket.Dial(context.Background(), "ws://bench"+path, &websocket.DialOptions{
		HTTPClient:      &http.Client{Transport: &http.Transport{DialContext: dial}},
		CompressionMode: websocket.CompressionDisabled,
	})
	switch {
	case err == nil:
		return newWebSocket(ws), nil
	case answer != nil:
		err = fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	conn.Close()
	return nil, err
}

// A webSocket carries each message as one of text.
type webSocket struct{ ws *websocket.Conn }

func newWebSocket(ws *websocket.Conn) *webSocket {
	ws.SetReadLimit(Most)
	return &webSocket{ws}
}

// Send is that of Conn.
func (w *webSocket) Send(m []byte) error {
	return w.ws.Write(context.Background(), websocket.MessageText, m)
}

// Receive is that of Conn. It answers pings, and a close with a close. A message of
// which not one byte has come when the connection ends is an empty one.
func (w *webSocket) Receive() ([]byte, error) {
	kind, r, err := w.ws.Reader(context.Background())
	if err != nil {
		return nil, between(err)
	}
	m, err := io.ReadAll(r)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, io.ErrUnexpectedEOF
	case err != nil && !isNet(err):
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	case err == nil && kind != websocket.MessageText:
		return nil, fmt.Errorf("%w: it is not text", ErrMalformed)
	}
	return m, err
}

// between is the error of a connection on which no message has begun.
func between(err error) error {
	switch {
	case websocket.CloseStatus(err) >= 0:
		return io.EOF
	case isNet(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

// isNet says whether the connection failed, and not what came on it.
func isNet(err error) bool {
	var below net.Error
	return errors.As(err, &below) || errors.Is(err, net.ErrClosed)
}

// Close is that of Conn.
func (w *webSocket) Close() error { return w.ws.CloseNow() }
