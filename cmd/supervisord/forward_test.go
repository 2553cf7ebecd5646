package main

import (
	"strings"
	"testing"
)

func TestForwardedOutputDoesNothingToATerminal(t *testing.T) {
	const hostile = "\x1b]8;;http://x\x07 \x9b31m \u202e \u200b \r \b \x7f caf\u00e9 \u65e5\t\n\xff"
	var out strings.Builder
	if n, err := (printer{&out}).Write([]byte(hostile)); n != len(hostile) || err != nil {
		t.Fatal(n, err)
	}
	const want = `\x1b]8;;http://x\a \x9b31m \u202e \u200b \r \b \x7f ` + "caf\u00e9 \u65e5\t\n" + `\xff`
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
