package logs

import (
	"bytes"
	"io"
	"slices"
	"strconv"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// maxForward is how much of one service's output may wait for our stdout, or for the
// journal.
const maxForward = 256 << 10

// Elsewhere is where lines go besides the files. Its zero value is nowhere.
type Elsewhere struct {
	// Stdout gets whole lines, NAME[INSTANCE] before each. Nil: there is none.
	Stdout io.Writer

	// Bare says that no name is needed before each line, since there is only one
	// service with one instance. It must not wait. Nil: a name is.
	Bare func() bool

	Journal Journal

	// Tell is told once what a reader of supervisord's own log should know of a
	// service's. Nil: nobody is.
	Tell func(service, what string)
}

// A Journal takes one line, without its newline. An error means that it is lost. It
// waits for no longer than seconds.
type Journal func(service string, m Meta, line []byte) error

// A forward is some lines as they are shown.
type forward struct {
	text    []byte // for stdout
	journal []byte // for the journal
	meta    Meta
	lines   int
}

func (f forward) size() int { return len(f.text) + len(f.journal) }

// dress makes of a chunk what is shown of it: lines, `api[0] | text`. A line that has
// no end yet is held back, since others write to the same places; one that is too long
// comes in pieces. The text stays as it was written: who shows it to a person makes it
// printable.
func (s *Sink) dress(c chunk) forward {
	stdout, journal, bare := s.forwards()
	if !stdout && !journal {
		c.from.held = nil
		return forward{}
	}
	text := c.from.hold(c)
	f := forward{meta: c.from.by(), lines: countLines(text)}
	if journal {
		f.journal = text
	}
	if stdout {
		f.text = s.prefixed(text, c.from.meta, f.lines, bare)
	}
	return f
}

// hold keeps the end of a chunk for the next one, unless it is a line.
func (st *Stream) hold(c chunk) []byte {
	text := c.text
	if st.held != nil {
		text = slices.Concat(st.held, c.text)
	}
	cut := wholeLines(text)
	if c.last || len(text)-cut >= MaxLine {
		cut = len(text)
	}
	st.held = nil
	if cut < len(text) {
		st.held = bytes.Clone(text[cut:])
	}
	return text[:cut]
}

func (s *Sink) prefixed(text []byte, m Meta, n int, bare bool) []byte {
	var prefix []byte
	if !bare {
		prefix = append([]byte(s.service), '[')
		prefix = strconv.AppendInt(prefix, int64(m.Instance), 10)
		prefix = append(prefix, "] | "...)
	}
	shown := make([]byte, 0, len(text)+n*(len(prefix)+1))
	for line := range lines(text) {
		shown = append(append(append(shown, prefix...), line...), '\n')
	}
	return shown
}

// forwards says where to, and whether without a name before each line.
func (s *Sink) forwards() (stdout, journal, bare bool) {
	s.mu.Lock()
	spec := s.spec
	several := slices.ContainsFunc(s.live, func(st *Stream) bool { return st.meta.Instance > 0 })
	s.mu.Unlock()
	switch spec.Prefix {
	case unit.PrefixNever:
		bare = true
	case unit.PrefixAuto:
		bare = !several && s.to.Bare != nil && s.to.Bare()
	}
	return spec.Forward, spec.Journal, bare
}

// forward queues what is shown. mu is held, and may be released meanwhile.
func (s *Sink) forward(f forward) {
	switch {
	case f.lines == 0:
	case s.screen.wait(f.size()):
		s.screen.add(f, f.size())
	default:
		s.hidden += uint64(f.lines)
	}
}

func (s *Sink) show(batch []forward) {
	lost := s.print(batch)
	for _, f := range batch {
		lost += s.tell(f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden += lost
}

// print writes to stdout, and returns how many lines are lost.
func (s *Sink) print(batch []forward) (lost uint64) {
	var text []byte
	for _, f := range batch {
		text = append(text, f.text...)
	}
	if len(text) == 0 {
		return 0
	}
	wrote, err := s.to.Stdout.Write(text)
	if err == nil {
		return 0
	}
	return uint64(bytes.Count(text[max(wrote, 0):], []byte("\n")))
}

// tell sends to the journal, and returns how many lines are lost.
func (s *Sink) tell(f forward) (lost uint64) {
	for line := range lines(f.journal) {
		if s.to.Journal(s.service, f.meta, line) != nil {
			lost++
		}
	}
	return lost
}
