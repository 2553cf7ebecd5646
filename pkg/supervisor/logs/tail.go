package logs

import (
	"bytes"
	"time"
)

// TailSize is how many bytes of each invocation stay in memory.
const TailSize = 16 << 10

// A tail is a ring with the last bytes of a stream. It grows to its size only
// as they come: most services say little.
type tail struct {
	ring  []byte
	total int64 // bytes that ever came
	marks []mark
}

// A mark says when what begins at a place came.
type mark struct {
	at   int64
	time time.Time
}

// minMark bounds the marks of a tail.
const minMark = 128

func (t *tail) add(c chunk) {
	t.mark(c.time)
	t.total += int64(len(c.text))
	text := c.text
	if n := len(text) - TailSize; n > 0 {
		text = text[n:]
	}
	if n := min(TailSize-len(t.ring), len(text)); n > 0 {
		t.ring = append(t.ring, text[:n]...)
		text = text[n:]
	}
	for at := t.total - int64(len(text)); len(text) > 0; {
		n := copy(t.ring[at%TailSize:], text)
		text, at = text[n:], at+int64(n)
	}
}

func (t *tail) mark(now time.Time) {
	if n := len(t.marks); n == 0 || t.total-t.marks[n-1].at >= minMark {
		t.marks = append(t.marks, mark{t.total, now})
	}
	old := 0
	for old+1 < len(t.marks) && t.marks[old+1].at <= t.total-TailSize {
		old++
	}
	t.marks = t.marks[old:]
}

// bytes is a copy of the last bytes, from the beginning of a line if any begins there.
func (t *tail) bytes() []byte {
	if t.total <= TailSize {
		return bytes.Clone(t.ring)
	}
	at := t.total % TailSize
	all := append(append(make([]byte, 0, TailSize), t.ring[at:]...), t.ring[:at]...)
	if i := bytes.IndexByte(all, '\n'); i >= 0 && i+1 < len(all) {
		return all[i+1:]
	}
	return all
}

// lines are those of the last bytes.
func (t *tail) lines(m Meta) []Line {
	var all []Line
	text := t.bytes()
	at, next := t.total-int64(len(text)), 0
	for line, whole := range lines(text) {
		for next < len(t.marks) && t.marks[next].at <= at {
			next++
		}
		l := Line{Meta: m, Text: line, Part: !whole}
		if next > 0 {
			l.Time = t.marks[next-1].time
		}
		all = append(all, l)
		at += int64(len(line)) + 1
	}
	return all
}
