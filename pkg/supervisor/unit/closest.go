package unit

import (
	"math"
	"strings"
)

// Closest is the word that was probably meant: at most a third of it is to be
// changed, or one letter of a short one, but never all. It is empty if there is none.
func Closest(word string, words []string) string {
	word = strings.ToLower(word)
	most, best, found := min(max(1, min(len(word)/3, 5)), len(word)-1), math.MaxInt, ""
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
