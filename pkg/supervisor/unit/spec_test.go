package unit

import (
	"regexp"
	"strings"
	"testing"
)

// TestNamesAreThoseOfThePattern: the editors' schema and we mean the same.
func TestNamesAreThoseOfThePattern(t *testing.T) {
	pattern := regexp.MustCompile(NamePattern)
	check := func(s string) {
		t.Helper()
		if got, want := IsName(s), pattern.MatchString(s); got != want {
			t.Errorf("IsName(%q) = %v; the pattern says %v", s, got, want)
		}
	}
	for _, n := range []int{0, 1, 62, 63, 64, 1000} {
		check(strings.Repeat("a", n))
	}
	for c := range 256 {
		for _, around := range []string{"", "a", "-"} {
			check(around + string([]byte{byte(c)}))
			check(string([]byte{byte(c)}) + around)
			check("a" + string([]byte{byte(c)}) + around)
		}
	}
	check("é")
	check("a\n")
}
