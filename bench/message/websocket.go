package message

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Opcodes and bits of RFC 6455, section 5.2.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa

	final  = 0x80 // in the first byte
	masked = 0x80 // in the second
)

// Accept answers a request with a WebSocket and takes its connection over. The
// caller closes the connection.
func Accept(w http.ResponseWriter, r *http.Request) (Conn, net.Conn, error) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "this is for WebSockets", http.StatusBadRequest)
		return nil, nil, fmt.Errorf("%w: no handshake of a WebSocket", ErrMalformed)
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept(key))
	return &webSocket{conn: conn, r: buffered.Reader}, conn, err
}

// Dial makes a WebSocket of a connection by asking for a path. The connection
// stays the caller's.
func Dial(conn net.Conn, path string) (Conn, error) {
	key := base64.StdEncoding.EncodeToString([]byte(rand.Text()[:16]))
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", path, key); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	if _, err := r.Peek(1); err != nil {
		return nil, err
	}
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-WebSocket-Accept") != accept(key) {
		return nil, fmt.Errorf("%w: %s is no WebSocket", ErrMalformed, answer.Status)
	}
	return &webSocket{conn: conn, r: r, client: true}, nil
}

// accept is what a server answers to a key (RFC 6455, section 4.2.2).
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A webSocket carries each message as one text frame.
type webSocket struct {
	conn   net.Conn
	r      *bufio.Reader
	client bool // masks what it sends

	sending sync.Mutex
}

func (w *webSocket) Send(m []byte) error { return w.send(opText, m) }

func (w *webSocket) send(op byte, m []byte) error {
	frame := w.header(op, len(m))
	body := len(frame)
	frame = append(frame, m...)
	if w.client {
		xor(frame[body:], [4]byte(frame[body-4:body]))
	}
	w.sending.Lock()
	defer w.sending.Unlock()
	_, err := w.conn.Write(frame)
	return err
}

// header is all of a frame before its payload, with the mask at its end.
func (w *webSocket) header(op byte, n int) []byte {
	h := []byte{final | op}
	switch {
	case n < 126:
		h = append(h, byte(n))
	case n < 1<<16:
		h = binary.BigEndian.AppendUint16(append(h, 126), uint16(n))
	default:
		h = binary.BigEndian.AppendUint64(append(h, 127), uint64(n))
	}
	if w.client {
		h[1] |= masked
		h = append(h, rand.Text()[:4]...)
	}
	return h
}

// Receive answers pings, and a close with a close.
func (w *webSocket) Receive() ([]byte, error) {
	for {
		op, m, err := w.frame()
		if err != nil {
			return nil, err
		}
		switch op {
		case opText:
			return m, nil
		case opPing:
			err = w.send(opPong, m)
		case opClose:
			return nil, errors.Join(io.EOF, w.send(opClose, m))
		case opPong:
		default:
			err = fmt.Errorf("%w: opcode %d", ErrMalformed, op)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (w *webSocket) frame() (op byte, m []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0xf0 != final || (head[1]&masked != 0) == w.client {
		return 0, nil, fmt.Errorf("%w: frame begins with %x", ErrMalformed, head)
	}
	n, err := w.length(head[1] &^ masked)
	if err != nil {
		return 0, nil, err
	}
	var mask [4]byte
	if !w.client {
		b, err := readBody(w.r, 4)
		if err != nil {
			return 0, nil, err
		}
		mask = [4]byte(b)
	}
	m, err = readBody(w.r, n)
	xor(m, mask)
	return head[0] & 0xf, m, err
}

// length reads the rest of a length whose first byte is short.
func (w *webSocket) length(short byte) (n uint64, err error) {
	size := map[byte]uint64{126: 2, 127: 8}[short]
	b, err := readBody(w.r, size)
	if err != nil {
		return 0, err
	}
	if size == 0 {
		return uint64(short), nil
	}
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	if n > Most {
		return 0, fmt.Errorf("%w: of %d bytes", ErrMalformed, n)
	}
	return n, nil
}

func xor(b []byte, mask [4]byte) {
	for i := range b {
		b[i] ^= mask[i%4]
	}
}
