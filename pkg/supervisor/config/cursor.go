package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A cursor stands at a value of a file and knows where that is.
type cursor struct {
	file  *file
	name  string // of the key
	path  string // as places has it
	key   string // as people write it: service.api.restart_sec
	value any
	of    owner // whose error it is if something is wrong here
}

// child is the value of a key in the table at c.
func (c cursor) child(name string, value any) cursor {
	key := quoteKey(name)
	if c.key != "" {
		key = c.key + "." + key
	}
	return cursor{c.file, name, join(c.path, name), key, value, c.of}
}

// element is the value at i in the array at c. It is called as the array is.
func (c cursor) element(i int, value any) cursor {
	return cursor{c.file, c.name, joinIndex(c.path, i), c.key, value, c.of}
}

// place is where c is, or what it is in.
func (c cursor) place() place {
	for path := c.path; path != ""; path = path[:strings.LastIndexAny(path, "\x00\x01")] {
		if at, ok := c.file.places[path]; ok {
			return at
		}
	}
	return place{1, 1}
}

// where is file:line of c, for messages about something else.
func (c cursor) where() string { return fmt.Sprintf("%s:%d", c.file.name, c.place().line) }

// wrong notes an error here.
func (c cursor) wrong(format string, args ...any) {
	c.file.problem(c, false, fmt.Sprintf(format, args...))
}

// doubtful notes a warning here.
func (c cursor) doubtful(format string, args ...any) {
	c.file.problem(c, true, fmt.Sprintf(format, args...))
}

// bareKey has the letters that a key may have without quotes.
func bareKey(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

func quoteKey(name string) string {
	const long = 100
	name = cut(name, long, 0)
	if bareKey(name) {
		return name
	}
	return strconv.Quote(name)
}

// show is a value as one could have written it, not too long.
func show(v any) string {
	const long = 60
	return cut(literal(v), long, 0)
}

func literal(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case time.Time:
		return v.Format(time.RFC3339)
	case []any:
		return "[" + strings.Join(mapped(v, literal), ", ") + "]"
	case []map[string]any, map[string]any:
		return "a table"
	}
	return fmt.Sprint(v)
}

func mapped[A, B any](list []A, f func(A) B) []B {
	out := make([]B, 0, len(list))
	for _, a := range list {
		out = append(out, f(a))
	}
	return out
}

// noun says what kind of value it is.
func noun(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "a number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case time.Time:
		return "a date"
	case []any, []map[string]any:
		return "a list"
	}
	return "a table"
}

// sorted are the names in a table, in the order in which they are written.
func (c cursor) sorted(table map[string]any) []cursor {
	all := make([]cursor, 0, len(table))
	for name, v := range table {
		all = append(all, c.child(name, v))
	}
	slices.SortFunc(all, func(a, b cursor) int {
		at, bt := a.place(), b.place()
		if at.line != bt.line {
			return at.line - bt.line
		}
		if at.col != bt.col {
			return at.col - bt.col
		}
		return strings.Compare(a.path, b.path)
	})
	return all
}
