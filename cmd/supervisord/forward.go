package main

import (
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// A printer writes what services wrote to a terminal, with all that would do
// more there than show itself as \x1b, \u202e or the like. It is given whole
// lines.
type printer struct{ w io.Writer }

func (p printer) Write(b []byte) (int, error) {
	if _, err := io.WriteString(p.w, printable(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

func printable(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == '\n' || r == '\t':
			s.WriteRune(r)
		case r == utf8.RuneError && n == 1, ipc.Hidden(r):
			quoted := strconv.QuoteToASCII(string(b[:n]))
			s.WriteString(quoted[1 : len(quoted)-1])
		default:
			s.WriteRune(r)
		}
		b = b[n:]
	}
	return s.String()
}
