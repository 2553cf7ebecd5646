package main

import (
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What stands for a value is in capitals, but for words that are to be typed as they are.
func TestPlaceholdersAreInCapitals(t *testing.T) {
	root := newRoot(newSession(io.Discard, io.Discard, func(string) string { return "" }))
	seen := 0
	for _, c := range append(root.Commands(), root) {
		look := func(f *pflag.Flag) {
			name, _ := pflag.UnquoteUsage(f)
			if _, words := f.Value.(*choice); words || f.Value.Type() == "bool" {
				return
			}
			if seen++; name != strings.ToUpper(name) {
				t.Errorf("%s --%s %s", c.CommandPath(), f.Name, name)
			}
		}
		c.LocalFlags().VisitAll(look)
	}
	if seen < 10 {
		t.Errorf("only %d flags have a value", seen)
	}
}

// As kill(1) and systemctl kill take them.
func TestSignalsByNameAndNumber(t *testing.T) {
	for word, want := range map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "SIGTERM": syscall.SIGTERM, "sigterm": syscall.SIGTERM, "15": syscall.SIGTERM,
		"RTMIN": 34, "SIGRTMIN": 34, "RTMIN+3": 37, "SIGRTMIN+3": 37, "rtmin+3": 37, "37": 37, "64": 64,
		"RTMAX": 64, "SIGRTMAX": 64, "RTMAX-1": 63, "SIGRTMAX-30": 34,
		"RTMIN-1": 0, "RTMIN+31": 0, "RTMAX+1": 0, "RTMIN+": 0, "RTMIN+-3": 0, "SIGSIGTERM": 0, "0": 0, "65": 0, "-9": 0, "": 0, "FOO": 0,
	} {
		got, err := parseSignal(&cobra.Command{}, word)
		if got != int(want) || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v; want %d", word, got, err, want)
		}
	}
}
