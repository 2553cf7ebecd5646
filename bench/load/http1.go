package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What an answer may have at most. Those of a worker are far from it.
const (
	mostHeaders = 100
	mostBody    = 16 << 20
)

// chunk is how long one is, of a body that comes in chunks.
const chunk = 4 << 10

// An http1Wire speaks HTTP/1.1.
type http1Wire struct {
	link
	read *bufio.Reader
}

func (w *http1Wire) connected() bool { return w.quiet() }

func (w *http1Wire) connect(o *Options, by time.Time) error {
	if err := w.dial(o, by); err != nil {
		return err
	}
	w.read = bufio.NewReader(w.Conn)
	return nil
}

func (w *http1Wire) exchange(q question, by time.Time) (answer, error) {
	w.SetDeadline(by)
	if _, err := w.Write(q.http1()); err != nil {
		return answer{}, lose(early(err), err)
	}
	r, err := readResponse(w.read)
	if err != nil {
		return answer{}, err
	}
	if r.close {
		w.hangUp()
	}
	if r.status != 200 {
		return answer{}, lose(Status, fmt.Errorf("status %d: %s", r.status, short(r.body)))
	}
	return r.answer, nil
}

func (q question) http1() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: bench\r\n", q.method, q.target)
	if !q.keep {
		b.WriteString("Connection: close\r\n")
	}
	switch {
	case q.chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		chunks := httputil.NewChunkedWriter(&b)
		for part := range slices.Chunk(q.body, chunk) {
			chunks.Write(part)
		}
		chunks.Close()
		b.WriteString("\r\n") // no trailer
	case q.method == "POST":
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(q.body))
		b.Write(q.body)
	default:
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

// A response is one of HTTP/1.1, of a length that is said before or in chunks.
type response struct {
	answer
	status  int
	length  int64 // -1: not said
	chunked bool
	close   bool // the server ends the connection after it
}

func readResponse(r *bufio.Reader) (response, error) {
	a := response{length: -1}
	if _, err := r.Peek(1); err != nil {
		return a, lose(early(err), err)
	}
	line, err := readLine(r)
	if err != nil {
		return a, err
	}
	if a.status, err = parseStatus(line); err != nil {
		return a, lose(Malformed, err)
	}
	if err := a.readHeaders(r); err != nil {
		return a, err
	}
	if a.chunked {
		return a, a.readChunks(r)
	}
	if a.length < 0 {
		rest, _ := io.ReadAll(io.LimitReader(r, 1024)) // says why, as far as it comes
		return a, lose(Malformed, fmt.Errorf("neither Content-Length nor chunks: status %d, %s", a.status, short(rest)))
	}
	a.body = make([]byte, a.length)
	if _, err := io.ReadFull(r, a.body); err != nil {
		return a, lose(late(err), err)
	}
	return a, nil
}

func parseStatus(line string) (int, error) {
	rest, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if code, _, _ := strings.Cut(rest, " "); ok && len(code) == 3 {
		return strconv.Atoi(code)
	}
	return 0, fmt.Errorf("no status line: %.80q", line)
}

func (a *response) readHeaders(r *bufio.Reader) error {
	for range mostHeaders {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		if line == "" {
			return a.complete()
		}
		if err := a.header(line); err != nil {
			return lose(Malformed, err)
		}
	}
	return lose(Malformed, errors.New("too many headers"))
}

func (a *response) complete() error {
	if a.length >= 0 && a.chunked {
		return lose(Malformed, errors.New("both Content-Length and chunks"))
	}
	return nil
}

func (a *response) header(line string) error {
	key, value, ok := strings.Cut(line, ":")
	if !ok {
		return fmt.Errorf("no header: %.80q", line)
	}
	value = strings.TrimSpace(value)
	switch strings.ToLower(key) {
	case "connection":
		a.close = strings.EqualFold(value, "close")
	case "transfer-encoding":
		a.chunked = strings.EqualFold(value, "chunked")
	case "content-length":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 || n > mostBody || a.length >= 0 {
			return fmt.Errorf("bad Content-Length: %.80q", value)
		}
		a.length = n
	}
	return nil
}

// readChunks reads a body of chunks and its end, and how long it was silent.
func (a *response) readChunks(r *bufio.Reader) error {
	chunks := httputil.NewChunkedReader(r)
	part := make([]byte, 4096)
	for last := time.Now(); ; {
		n, err := chunks.Read(part)
		now := time.Now()
		a.silence, last = max(a.silence, now.Sub(last)), now
		a.body = append(a.body, part[:n]...)
		switch {
		case err == io.EOF:
			return a.readTrailer(r)
		case err != nil:
			return lose(late(err), err)
		case len(a.body) > mostBody:
			return lose(Malformed, errors.New("too long"))
		}
	}
}

// readTrailer reads the empty line that is behind the last chunk.
func (a *response) readTrailer(r *bufio.Reader) error {
	line, err := readLine(r)
	if err == nil && line != "" {
		err = lose(Malformed, fmt.Errorf("a trailer: %.80q", line))
	}
	return err
}

// readLine reads a line that must come whole, without its end.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", lose(Malformed, errors.New("a header line is too long"))
	case err != nil:
		return "", lose(late(err), err)
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}
