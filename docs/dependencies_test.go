package docs

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The page names each module that go.mod requires directly, and no other.
func TestDependenciesAreThoseOfTheModule(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var required []string
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1) {
		required = append(required, m[1])
	}
	page, err := os.ReadFile("explanation/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\S+)` \\|").FindAllStringSubmatch(string(page), -1) {
		named = append(named, m[1])
	}
	slices.Sort(required)
	slices.Sort(named)
	if len(required) < 5 || !slices.Equal(required, named) {
		t.Errorf("go.mod requires\n%s\nthe page names\n%s", strings.Join(required, "\n"), strings.Join(named, "\n"))
	}
}
