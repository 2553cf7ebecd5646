package logs

import (
	"bytes"
	"iter"
)

// lines are the lines of text, without their newlines, and whether each had one. Those
// that are longer than MaxLine come in pieces of that length.
func lines(text []byte) iter.Seq2[[]byte, bool] {
	return func(yield func([]byte, bool) bool) {
		for len(text) > 0 {
			line, rest, whole := cutLine(text)
			if !yield(line, whole) {
				return
			}
			text = rest
		}
	}
}

// cutLine cuts off a line, or a piece of one that is not whole.
func cutLine(text []byte) (line, rest []byte, whole bool) {
	i := bytes.IndexByte(text[:min(len(text), MaxLine+1)], '\n')
	if i >= 0 {
		return text[:i], text[i+1:], true
	}
	n := min(len(text), MaxLine)
	return text[:n], text[n:], false
}

// countLines is how many lines are written by text. A piece is one.
func countLines(text []byte) int {
	n := bytes.Count(text, []byte("\n"))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n++
	}
	return n
}

// wholeLines is how much of text is lines that have an end.
func wholeLines(text []byte) int { return bytes.LastIndexByte(text, '\n') + 1 }
