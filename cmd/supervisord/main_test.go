package main

import (
	"bytes"
	"errors"
	"flag"
	"path/filepath"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
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

// A problem of a file as a whole says who speaks; one with a line is as compilers have
// it, for editors.
func TestReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.toml")
	_, problems := load(path)
	problems = append(problems, config.Problem{File: "a.toml", Line: 3, Col: 1, Message: "no", Warning: true})
	var out bytes.Buffer
	failed := report(&out, problems)
	want := "supervisord: " + path + ": there is no such file; name another file with -c, or create this one\na.toml:3:1: warning: no\n"
	if out.String() != want || !failed {
		t.Errorf("it says %q, and that it failed: %t", out.String(), failed)
	}
}
