package main

import (
	"strings"
	"testing"
)

func TestConfigurations(t *testing.T) {
	for _, test := range []struct {
		kind               kind
		sections, steering int
		flag               string
	}{
		{none, 0, 0, ""},
		{shared, 3, 0, " -shared"},
		{steered, 3, 3, " -steer"},
	} {
		names, text := configure(3, test.kind, "/crowd")
		if got := strings.Count(text, "\n[socket.s"); len(names) != 3 || got != test.sections {
			t.Errorf("%s: %d services, %d sockets", test.kind, len(names), got)
		}
		if got := strings.Count(text, `steer = "connections"`); got != test.steering || test.kind.flag() != test.flag {
			t.Errorf("%s: %d are steered, and the flag is %q", test.kind, got, test.kind.flag())
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "sockets") && !strings.HasPrefix(line, `sockets = ["s000`) {
				t.Errorf("%s: %q", test.kind, line)
			}
		}
	}
}

func TestKinds(t *testing.T) {
	for _, test := range []struct {
		shared, steer bool
		want          kind
	}{{false, false, none}, {true, false, shared}, {false, true, steered}} {
		if k, err := kindOf(test.shared, test.steer); k != test.want || err != nil {
			t.Errorf("shared %v, steer %v: %q, %v", test.shared, test.steer, k, err)
		}
	}
	if _, err := kindOf(true, true); err == nil {
		t.Error("a socket of two kinds")
	}
}
