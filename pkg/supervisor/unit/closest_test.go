package unit

import (
	"strings"
	"testing"
)

func TestClosest(t *testing.T) {
	words := []string{"restart", "restart_sec", "sockets", "type"}
	for word, want := range map[string]string{
		"restart_sce": "restart_sec", "restrat": "restart", "socket": "sockets", "Type": "type", "tpye": "type",
		"RESTART": "restart", "x": "", "memory": "", "": "", strings.Repeat("restart", 1000): "",
	} {
		if got := Closest(word, words); got != want {
			t.Errorf("Closest(%q) = %q, want %q", word, got, want)
		}
	}
	for word, want := range map[string]string{"c": "", "wb": "web", "aa": "a"} {
		if got := Closest(word, []string{"a", "web"}); got != want {
			t.Errorf("Closest(%q) = %q, want %q", word, got, want)
		}
	}
}
