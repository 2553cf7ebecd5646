package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each file in testdata is wrong in many ways, and beside it is what is said of
// that. Read the difference as somebody who has to mend the file.
func TestProblemsSayWhatWouldBeRight(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(inputs) == 0 {
		t.Fatal("no files in testdata", err)
	}
	for _, input := range inputs {
		t.Run(filepath.Base(input), func(t *testing.T) {
			text, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			c, problems := Decode("/etc/"+filepath.Base(input), text, Options{Root: true})
			if c != nil {
				t.Error("there is a configuration, in spite of errors")
			}
			var b strings.Builder
			for _, p := range problems {
				fmt.Fprintln(&b, p)
			}
			if strings.Contains(b.String(), "hunter2") {
				t.Error("a secret is part of a message")
			}
			golden(t, strings.TrimSuffix(input, ".toml")+".problems", []byte(b.String()))
		})
	}
}

func TestAfterSyntaxErrorNothingElseIsSaid(t *testing.T) {
	for name, text := range map[string]string{
		"an open list":   "[service.api]\nfoo = 1\nexec_start = [\n",
		"a bare word":    "[service.api]\nfoo = 1\ntype = notify\n",
		"not UTF-8":      "[service.api]\nfoo = 1\ntype = \"\xff\"\n",
		"UTF-16":         "\xff\xfe[\x00",
		"NUL":            "[service.api]\nfoo = 1\ntype = \"\x00\"\n",
		"a second value": "[service.api]\nfoo = 1\nfoo = 2\n",
		"deep lists":     "foo = " + strings.Repeat("[", 100_000),
		"deep tables":    "foo = " + strings.Repeat("{a=", 100_000),
		"deep keys":      strings.Repeat("a.", 100_000) + "a = 1",
		"deep headers":   "[" + strings.Repeat("a.", 100_000) + "a]",
	} {
		c, problems := Decode("x.toml", []byte(text), Options{})
		if c != nil || len(problems) != 1 || problems[0].Line == 0 || problems[0].Warning {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestProblemsAreInTheOrderOfTheText(t *testing.T) {
	_, problems := Decode("x.toml", []byte("[service.b]\nfoo = 1\nbar = 2\n[service.a]\nbaz = 3\n"), Options{})
	if !slices.IsSortedFunc(problems, func(a, b Problem) int { return a.Line - b.Line }) || len(problems) != 5 {
		t.Errorf("%v", problems)
	}
}
