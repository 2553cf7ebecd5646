package supervisor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// What is read and shown of an answer, in bytes but for the lines. The headers come in
// whole or not at all.
const (
	getHead  = 32 << 10
	getLines = 16
	getLine  = 512
	getBody  = 1 << 10
)

// get sends one HTTP/1.1 request, and returns the beginning of the answer when that is
// there or the time is over; a body that goes on for longer is cut off. What came that
// is no HTTP is a [*notHTTP]. The error is [os.ErrDeadlineExceeded] if no answer came.
func get(c net.Conn, path string, by time.Time) (ipc.Tried, error) {
	if err := c.SetDeadline(by); err != nil {
		return ipc.Tried{}, err
	}
	began := time.Now()
	if path == "" {
		path = "/"
	}
	// One that answers early may have read only a part of it: what it answers counts.
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: superctl\r\nAccept: */*\r\nConnection: close\r\n\r\n", path)
	var raw bytes.Buffer
	r := bufio.NewReader(io.TeeReader(io.LimitReader(c, getHead+4*getBody), &raw))
	a, interim, err := response(r)
	if err != nil {
		return ipc.Tried{}, noAnswer(raw.Bytes(), err)
	}
	t := ipc.Tried{Code: a.StatusCode, Seconds: time.Since(began).Seconds()}
	t.Status, t.Headers, t.More = head(raw.Bytes(), interim)
	body, more := beginning(a.Body)
	t.Body, t.More = body, t.More || more
	return t, nil
}

// response reads the answer that counts, and says how many interim ones came before it.
func response(r *bufio.Reader) (a *http.Response, interim int, err error) {
	for {
		a, err = http.ReadResponse(r, &http.Request{Method: "GET"})
		if err != nil || a.StatusCode >= 200 {
			return a, interim, err
		}
		interim++
	}
}

// head is the status line and the first headers of an answer, as they came, after so
// many interim answers.
func head(raw []byte, interim int) (status string, headers []string, more bool) {
	for line := range strings.Lines(string(raw)) {
		switch line = strings.TrimRight(line, "\r\n"); {
		case line == "" && interim == 0:
			return status, headers, more
		case line == "":
			interim, status, headers, more = interim-1, "", nil, false
		case status == "":
			status, _ = shortened(line, getLine)
		case len(headers) == getLines:
			more = true
		default:
			line, cut := shortened(line, getLine)
			headers, more = append(headers, line), more || cut
		}
	}
	return status, headers, more
}

// beginning is the first of a body, and whether there is more, or was to be.
func beginning(body io.Reader) (text string, more bool) {
	first, err := io.ReadAll(io.LimitReader(body, getBody+1))
	text, more = shortened(string(first), getBody)
	return text, more || err != nil
}

// shortened is at most so many bytes of text, without a character cut in two.
func shortened(text string, most int) (string, bool) {
	more := len(text) > most
	if more {
		for range utf8.UTFMax - 1 {
			if !utf8.RuneStart(text[most]) {
				most--
			}
		}
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "\uFFFD"), more
}

// noAnswer says why there is no answer, as far as what came tells.
func noAnswer(raw []byte, err error) error {
	late := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case len(raw) == 0 && late:
		return os.ErrDeadlineExceeded
	case len(raw) == 0 && errors.Is(err, syscall.ECONNRESET):
		return errors.New("it reset the connection")
	case len(raw) == 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		return errors.New("it ended the connection without an answer")
	case len(raw) == 0:
		return err
	case !bytes.HasPrefix(raw, []byte("HTTP/1.")):
		return &notHTTP{first: raw[:min(len(raw), notHTTPShown)]}
	case late:
		return errors.New("its answer stopped before the end of the headers")
	case len(raw) >= getHead:
		return fmt.Errorf("its headers have more than %d KiB", getHead>>10)
	}
	return fmt.Errorf("its answer is not right: %w", err)
}

// notHTTP is something else that came.
type notHTTP struct{ first []byte }

const notHTTPShown = 64

func (e *notHTTP) Error() string {
	if e.tls() {
		return "it expects TLS"
	}
	return fmt.Sprintf("what came begins with %q", e.first)
}

// tls: it is an alert (RFC 8446, section 6).
func (e *notHTTP) tls() bool { return len(e.first) >= 2 && e.first[0] == 21 && e.first[1] == 3 }

func (e *notHTTP) hints() []string {
	if e.tls() {
		return []string{"only plain HTTP can be tried"}
	}
	return nil
}
