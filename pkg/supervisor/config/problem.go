package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Problem is something wrong with a configuration, and where.
type Problem struct {
	File      string
	Line, Col int    // from 1, Col in characters; 0: the file as a whole
	Key       string // as it is named from the top: service.api.restart_sec
	Message   string // what is wrong; what would be right
	Warning   bool   // it can be run as it is
}

// String returns the problem as file:line:column: key: what is wrong; what would be
// right.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Col)
	}
	b.WriteString(": ")
	if p.Warning {
		b.WriteString("warning: ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return printable(b.String())
}

// printable shows what a terminal would not, or would obey.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// inOrder sorts problems as one meets them when one reads the files.
func inOrder(problems []Problem, files []string) []Problem {
	number := map[string]int{}
	for i, f := range files {
		number[f] = i
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(number[a.File], number[b.File]),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
		)
	})
	return problems
}

// closest gives so many hints and no more: who needs more of them has not
// mistyped, and looking for them takes its time.
func (l *load) closest(word string, words []string) string {
	const enough = 50
	if l.hints++; l.hints > enough {
		return ""
	}
	return unit.Closest(word, words)
}

// brief is a message without the middle of a value that was absurdly long: what
// would be right stands at the end.
func brief(message string) string {
	const start, end = 300, 300
	return cut(message, start, end)
}

// cut leaves out what is between the first and the last letters.
func cut(s string, first, last int) string {
	if len(s) <= first+last {
		return s
	}
	r := []rune(s)
	if len(r) <= first+last {
		return s
	}
	return string(r[:first]) + "…" + string(r[len(r)-last:])
}

// list is the words of a choice: "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
