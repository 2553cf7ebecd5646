package config

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
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

// closest is the word that was probably meant: at most a third of it is to be
// changed. It is empty if there is none.
func closest(word string, words []string) string {
	word = strings.ToLower(word)
	most, best, found := max(1, min(len(word)/3, 5)), math.MaxInt, ""
	for _, w := range words {
		if len(w) > len(word)+most || len(word) > len(w)+most {
			continue
		}
		d := distance(word, strings.ToLower(w))
		if score := 2*d - sameStart(word, w); d <= most && score < best {
			best, found = score, w
		}
	}
	return found
}

// closest gives so many hints and no more: who needs more of them has not
// mistyped, and looking for them takes its time.
func (l *load) closest(word string, words []string) string {
	const enough = 50
	if l.hints++; l.hints > enough {
		return ""
	}
	return closest(word, words)
}

// sameStart is how many letters two words begin with, up to three: people err
// less there.
func sameStart(a, b string) (n int) {
	for n < min(len(a), len(b), 3) && a[n] == b[n] {
		n++
	}
	return n
}

// distance is how many letters must be inserted, removed, changed or swapped
// with their neighbour to make b of a.
func distance(a, b string) int {
	const long = 64 // of anything longer nobody mistypes a letter or two
	if len(a) > long || len(b) > long {
		return long
	}
	var older, old, row []int
	for j := range len(b) + 1 {
		old = append(old, j)
	}
	for i := range len(a) {
		row = append([]int(nil), i+1)
		for j := range len(b) {
			d := min(old[j+1], row[j]) + 1
			if a[i] == b[j] {
				d = min(d, old[j])
			} else {
				d = min(d, old[j]+1)
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, older[j-1]+1)
			}
			row = append(row, d)
		}
		older, old = old, row
	}
	return old[len(b)]
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
