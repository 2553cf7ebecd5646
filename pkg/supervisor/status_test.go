package supervisor

import (
	"slices"
	"strings"
	"testing"
)

// TestSocketsAreInTheOrderOfTheService, with ten instances after nine.
func TestSocketsAreInTheOrderOfTheService(t *testing.T) {
	names := []string{"admin", "gone", "http@0", "http@1", "http@10", "http@2"}
	slices.SortStableFunc(names, inOrder([]string{"http", "admin"}))
	if want := []string{"http@0", "http@1", "http@2", "http@10", "admin", "gone"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

// Who mistypes a name is told what was meant, else what there is.
func TestNamesAreSuggested(t *testing.T) {
	many := strings.Fields("a1 b2 c3 d4 e5 f6 g7 h8 i9 j10 k11 l12 m13")
	for _, c := range []struct {
		name  string
		known []string
		want  string
	}{
		{"helo", []string{"crash", "hello"}, "did you mean hello?"},
		{"htpp.socket", []string{"http.socket"}, "did you mean http.socket?"},
		{"nothing", []string{"crash", "hello"}, "known services: crash, hello"},
		{"nothing.socket", []string{"a.socket"}, "known sockets: a.socket"},
		{"nothing", many, "to list all units: superctl status"},
		{"nothing", nil, "to see what the configuration has: superctl verify"},
	} {
		if got := suggestions(c.name, c.known); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s of %q: %q, not %q", c.name, c.known, got, c.want)
		}
	}
}
