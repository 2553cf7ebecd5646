package main

import (
	"errors"
	"flag"
	"testing"
)

// What is wrong with a command line is said in our words, not in package flag's.
func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // "": it is right
	}{
		{[]string{"-c", "a.toml", "--check"}, ""},
		{[]string{"--config=a.toml"}, ""},
		{[]string{"--version"}, ""},
		{[]string{"--chekc"}, "unknown flag --chekc: use -c FILE, --check, --demo or --version"},
		{[]string{"-chekc=1"}, "unknown flag -chekc: use -c FILE, --check, --demo or --version"},
		{[]string{"-c"}, "-c needs a value: -c FILE"},
		{[]string{"--check", "--config"}, "--config needs a value: --config FILE"},
		{[]string{"--config="}, "--config is empty: name a file, or leave it out"},
		{[]string{"-c", ""}, "-c is empty: name a file, or leave it out"},
		{[]string{"--check=maybe"}, "--check, --demo and --version take no value"},
		{[]string{"---x"}, `unknown flag "---x"`},
		{[]string{"a.toml"}, `unexpected argument "a.toml": name the configuration with -c`},
		{[]string{"--demo", "-c", "a.toml"}, "--demo brings its own configuration: leave -c out"},
	} {
		_, err := parse(c.args)
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%q: %v, not %q", c.args, err, c.want)
		}
	}
	if _, err := parse([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}
