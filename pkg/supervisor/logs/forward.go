package logs

import (
	"bytes"
	"strconv"
)

// maxForward is how much of one service's output may wait for our stdout.
const maxForward = 256 << 10

// A forward is some lines as they are shown.
type forward struct {
	text  []byte
	lines int
}

// dress puts the name before each line, `api[0] | text`. The text stays as it
// was written: who shows it to a person makes it printable.
func (s *Sink) dress(c chunk) forward {
	if s.term == nil || !s.forwards() {
		return forward{}
	}
	prefix := append([]byte(s.service), '[')
	prefix = strconv.AppendInt(prefix, int64(c.from.meta.Instance), 10)
	prefix = append(prefix, "] | "...)
	f := forward{text: make([]byte, 0, len(c.text)+c.lines*(len(prefix)+1))}
	for line := range lines(c.text) {
		f.text = append(append(append(f.text, prefix...), line...), '\n')
		f.lines++
	}
	return f
}

func (s *Sink) forwards() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spec.Forward
}

// forward queues what is shown. mu is held, and may be released meanwhile.
func (s *Sink) forward(f forward) {
	switch {
	case f.lines == 0:
	case s.screen.wait(len(f.text)):
		s.screen.add(f, len(f.text))
	default:
		s.hidden += uint64(f.lines)
	}
}

func (s *Sink) show(batch []forward) {
	text, n := batch[0].text, 0
	if len(batch) > 1 {
		text = nil
	}
	for _, f := range batch {
		if len(batch) > 1 {
			text = append(text, f.text...)
		}
		n += f.lines
	}
	wrote, err := s.term.Write(text)
	if err == nil {
		return
	}
	if wrote > 0 && wrote <= len(text) {
		n -= bytes.Count(text[:wrote], []byte("\n"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden += uint64(n)
}
