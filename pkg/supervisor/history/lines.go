package history

import (
	"bytes"
	"encoding/json"
)

// backwards calls f with each record in text, the last first, until it returns
// false; then there is no more to be told. damaged is how many lines were none.
func backwards(text []byte, f func(record []byte) bool) (damaged int, more bool) {
	for len(text) > 0 {
		text = bytes.TrimSuffix(text, []byte{'\n'})
		start := bytes.LastIndexByte(text, '\n') + 1
		line := text[start:]
		text = text[:start]
		switch {
		case len(line) == 0:
		case !isRecord(line):
			damaged++
		case !f(line):
			return damaged, false
		}
	}
	return damaged, true
}

// isRecord: a line is one JSON object of a size that we would write.
func isRecord(line []byte) bool {
	return len(line) < maxRecord && line[0] == '{' && json.Valid(line)
}
