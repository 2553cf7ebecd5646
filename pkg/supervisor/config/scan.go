package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The TOML package reads values, but it does not tell where a key stands. scan
// does: it walks once over a text and notes the place of each key, table and
// array element. It is no second parser: it knows names, brackets and where a
// value ends, and leaves it to the TOML package to say what is wrong. Where it
// meets something that it does not understand it stops, and so will the other.

// Both readers are recursive, and keep the whole path of each key: a hostile file
// must not use up the stack or the memory.
const (
	maxDepth = 32   // of arrays, inline tables and dotted keys
	maxPath  = 1024 // bytes of a key with those of the tables that it is in
)

// A place is where something stands in a text: line and column count from 1,
// the column in characters.
type place struct{ line, col int }

// places maps paths to where they stand. A path is what [join] makes.
type places map[string]place

// join appends a name to a path. A name may have any character in it.
func join(path, name string) string {
	if strings.ContainsAny(name, "\x00\x01\x02") {
		name = separators.Replace(name)
	}
	return path + "\x00" + name
}

var separators = strings.NewReplacer("\x00", "\x020", "\x01", "\x021", "\x02", "\x022")

// joinIndex appends the index of an element to a path.
func joinIndex(path string, i int) string { return path + "\x01" + strconv.Itoa(i) }

type scanner struct {
	text     string
	at       int // byte offset
	line     int
	lineFrom int // offset of the line's first byte
	colFrom  int // offset up to which the characters of the line are counted
	col      int
	table    string
	arrays   map[string]int // how many elements [[path]] has so far
	found    places
	refused  *refusal
}

// A refusal is something that would cost too much to read.
type refusal struct {
	place
	why string
}

// scan finds the places of all that is in text, unless it refuses to.
func scan(text string) (places, *refusal) {
	s := &scanner{text: text, line: 1, col: 1, arrays: map[string]int{}, found: places{}}
	if strings.HasPrefix(text, "\ufeff") {
		s.at, s.lineFrom, s.colFrom = 3, 3, 3
	}
	for s.blank(true); s.at < len(s.text); s.blank(true) {
		if !s.statement() {
			break
		}
	}
	return s.found, s.refused
}

func (s *scanner) statement() bool {
	if s.peek() != '[' {
		return s.pair(s.table, 0)
	}
	if s.skip("[[") {
		return s.header(true) && s.skip("]]")
	}
	return s.skip("[") && s.header(false) && s.skip("]")
}

// header reads the name of a table. An array of tables gets one more element.
func (s *scanner) header(array bool) bool {
	from := s.here()
	path, ok := s.key("", from)
	if !ok {
		return false
	}
	s.table = path
	if array {
		s.table = joinIndex(path, s.arrays[path])
		s.arrays[path]++
		s.note(s.table, from)
	}
	return true
}

// pair reads a key and its value.
func (s *scanner) pair(table string, depth int) bool {
	path, ok := s.key(table, s.here())
	return ok && s.skip("=") && s.value(path, depth)
}

// key reads a dotted key and notes each of its parts at from, where it begins:
// that is what an editor should show for any of them.
func (s *scanner) key(path string, from place) (string, bool) {
	for depth := 0; ; depth++ {
		if depth > maxDepth {
			return "", s.refuse(from, tooDeep)
		}
		s.blank(false)
		part, ok := s.part()
		if !ok {
			return "", false
		}
		path = s.last(path)
		if path = join(path, part); len(path) > maxPath {
			return "", s.refuse(from, tooLong)
		}
		s.note(path, from)
		if !s.skip(".") {
			return path, true
		}
	}
}

// last is the element that a path through an array of tables means.
func (s *scanner) last(path string) string {
	if n := s.arrays[path]; n > 0 {
		return joinIndex(path, n-1)
	}
	return path
}

// part reads one name of a key, bare or quoted.
func (s *scanner) part() (string, bool) {
	switch s.peek() {
	case '"', '\'':
		from := s.at
		if !s.quoted() {
			return "", false
		}
		return unquote(s.text[from:s.at])
	}
	from := s.at
	for s.at < len(s.text) && !strings.ContainsRune(" \t\r\n.=[]{},#\"'", rune(s.text[s.at])) {
		s.at++
	}
	return s.text[from:s.at], s.at > from
}

// value skips a value and notes what is in it.
func (s *scanner) value(path string, depth int) bool {
	s.blank(false)
	if depth > maxDepth {
		return s.refuse(s.here(), tooDeep)
	}
	switch s.peek() {
	case '[':
		return s.array(path, depth+1)
	case '{':
		return s.inline(path, depth+1)
	case '"', '\'':
		return s.quoted()
	}
	return s.plain()
}

func (s *scanner) array(path string, depth int) bool {
	s.at++
	for i := 0; ; i++ {
		s.blank(true)
		if s.skip("]") {
			return true
		}
		at := joinIndex(path, i)
		s.note(at, s.here())
		if !s.value(at, depth) {
			return false
		}
		s.blank(true)
		if !s.skip(",") {
			return s.skip("]")
		}
	}
}

func (s *scanner) inline(path string, depth int) bool {
	s.at++
	for {
		s.blank(true)
		if s.skip("}") {
			return true
		}
		if !s.pair(path, depth) {
			return false
		}
		s.blank(true)
		if !s.skip(",") {
			return s.skip("}")
		}
	}
}

// plain skips a number, a date or a word. A date may have a blank before its time.
func (s *scanner) plain() bool {
	from := s.at
	for s.at < len(s.text) && !strings.ContainsRune(",]}#\r\n", rune(s.text[s.at])) {
		s.at++
	}
	return s.at > from
}

// quoted skips a string of any of the four kinds.
func (s *scanner) quoted() bool {
	quote := s.text[s.at : s.at+1]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(s.text[s.at:], long) {
		return s.long(long)
	}
	for s.at++; s.at < len(s.text) && s.text[s.at] != '\n'; s.at++ {
		switch {
		case s.text[s.at] == '\\' && quote == `"`:
			s.at++
		case s.text[s.at] == quote[0]:
			s.at++
			return true
		}
	}
	s.at = min(s.at, len(s.text))
	return false
}

// long skips a string that may have several lines. Up to two quotes more than
// three at its end belong to it.
func (s *scanner) long(quotes string) bool {
	for s.at += 3; s.at < len(s.text); s.at++ {
		switch {
		case s.text[s.at] == '\n':
			s.line, s.lineFrom = s.line+1, s.at+1
		case s.text[s.at] == '\\' && quotes[0] == '"' && s.at+1 < len(s.text) && s.text[s.at+1] != '\n':
			s.at++
		case strings.HasPrefix(s.text[s.at:], quotes):
			s.at += 3
			for range 2 {
				if s.at < len(s.text) && s.text[s.at] == quotes[0] {
					s.at++
				}
			}
			return true
		}
	}
	return false
}

// blank skips blanks, and if it may also comments and ends of lines.
func (s *scanner) blank(lines bool) {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == ' ' || c == '\t':
		case !lines:
			return
		case c == '#':
			s.comment()
			continue
		case c == '\n':
			s.line, s.lineFrom = s.line+1, s.at+1
		case c != '\r':
			return
		}
		s.at++
	}
}

func (s *scanner) comment() {
	n := strings.IndexByte(s.text[s.at:], '\n')
	if n < 0 {
		n = len(s.text) - s.at
	}
	s.at += n
}

// skip skips blanks and then word, if that is what comes.
func (s *scanner) skip(word string) bool {
	s.blank(false)
	if !strings.HasPrefix(s.text[s.at:], word) {
		return false
	}
	s.at += len(word)
	return true
}

func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) here() place {
	s.blank(false)
	if s.colFrom < s.lineFrom {
		s.colFrom, s.col = s.lineFrom, 1
	}
	s.col += utf8.RuneCountInString(s.text[s.colFrom:s.at])
	s.colFrom = s.at
	return place{s.line, s.col}
}

var (
	tooDeep = fmt.Sprintf("this is nested more than %d deep; nothing here needs that", maxDepth)
	tooLong = fmt.Sprintf("this key, with the tables that it is in, has more than %d bytes; nothing here needs that", maxPath)
)

func (s *scanner) refuse(at place, why string) bool {
	s.refused = &refusal{at, why}
	return false
}

// note keeps the first place of a path: a table may be begun more than once.
func (s *scanner) note(path string, at place) {
	if _, ok := s.found[path]; !ok {
		s.found[path] = at
	}
}

// placeOf is the place of a byte offset, or of the character that it is in the middle
// of: the TOML package counts one back from the end of the file.
func placeOf(text string, offset int) place {
	offset = min(max(offset, 0), len(text))
	for offset > 0 && offset < len(text) && !utf8.RuneStart(text[offset]) {
		offset--
	}
	before := text[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	return place{strings.Count(before, "\n") + 1, utf8.RuneCountInString(strings.TrimPrefix(before[start:], "\ufeff")) + 1}
}

// unquote is the name that a quoted key means.
func unquote(quoted string) (string, bool) {
	if quoted[0] == '\'' || !strings.Contains(quoted, `\`) {
		return quoted[1 : len(quoted)-1], true
	}
	name, ok := parsed(quoted).(string)
	return name, ok
}
