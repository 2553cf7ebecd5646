package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// TestSocketsAreInTheOrderOfTheService, with ten instances after nine.
func TestSocketsAreInTheOrderOfTheService(t *testing.T) {
	names := []string{"admin", "gone", "http@0", "http@1", "http@10", "http@2"}
	slices.SortStableFunc(names, inOrder([]string{"http", "admin"}))
	if want := []string{"http@0", "http@1", "http@2", "http@10", "admin", "gone"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

// TestHoldersAreInOrder: who waits for nobody comes first, then one instance after the
// other.
func TestHoldersAreInOrder(t *testing.T) {
	var all []ipc.SocketHolder
	for _, h := range strings.Fields("gone/0 old/1 next/0 main/2 main/1 old/0 next/1 main/0 /0") {
		role, instance, _ := strings.Cut(h, "/")
		all = append(all, ipc.SocketHolder{Role: role, Instance: int(instance[0] - '0')})
	}
	slices.SortStableFunc(all, inOrderOfRoles)
	got := ""
	for _, h := range all {
		got += fmt.Sprintf("%s/%d ", h.Role, h.Instance)
	}
	if want := "/0 main/0 next/0 old/0 gone/0 main/1 next/1 old/1 main/2 "; got != want {
		t.Errorf("got %s, want %s", got, want)
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
