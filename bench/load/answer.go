package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// What an answer may have at most. Those of a worker are far from it.
const (
	mostHeaders = 100
	mostBody    = 16 << 20
)

// An answer is one HTTP/1.1 response with a Content-Length.
type answer struct {
	status int
	length int64
	close  bool // the server ends the connection after it
	body   []byte
}

func readAnswer(r *bufio.Reader) (answer, error) {
	var a answer
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

func (a *answer) readHeaders(r *bufio.Reader) error {
	a.length = -1
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

func (a *answer) complete() error {
	if a.length < 0 {
		return lose(Malformed, errors.New("no Content-Length"))
	}
	return nil
}

func (a *answer) header(line string) error {
	key, value, ok := strings.Cut(line, ":")
	if !ok {
		return fmt.Errorf("no header: %.80q", line)
	}
	value = strings.TrimSpace(value)
	switch strings.ToLower(key) {
	case "connection":
		a.close = strings.EqualFold(value, "close")
	case "content-length":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 || n > mostBody || a.length >= 0 {
			return fmt.Errorf("bad Content-Length: %.80q", value)
		}
		a.length = n
	}
	return nil
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
