package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

// seeds are all configurations that there are here, right and wrong.
func seeds(f *testing.F) {
	for _, pattern := range []string{"testdata/*.toml", "../../../etc/*.toml", "../../../etc/*/*.toml", "../../../examples/*/*.toml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	for _, k := range keys { // each key alone, as it is by default and as in the sample
		for _, value := range []string{k.def, k.eg, `"infinity"`, "0"} {
			if value != "" && k.in != "" {
				f.Add([]byte("[" + strings.Replace(within(k.in), "NAME", "a", 1) + "]\n" + k.name + " = " + value + "\n"))
			}
		}
	}
}

func decodeAtStart(text []byte, o Options) (*Config, []Problem) {
	l := newLoad(o)
	l.atStart = true
	l.add("x.toml", text)
	return l.finish()
}

// lenient: what is right is the same for a start, which leaves nothing out of it.
func lenient(strict, started *Config) error {
	switch {
	case strict == nil:
		return nil
	case started == nil:
		return errors.New("a start refuses what is right")
	case len(started.Aside)+len(started.Degraded) > 0 || !reflect.DeepEqual(Diff(strict, started), Changes{}):
		return fmt.Errorf("a start makes %+v of what is right", started)
	}
	return nil
}

// Whatever is in a file: no panic; either a configuration or an error; each
// problem at a place that an editor can go to, in one line. At a start each unit is
// there or set aside, and what is there refers to nothing else.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		lines := strings.Split(string(text), "\n")
		for _, o := range []Options{{Root: true}, {PID1: true, Environ: []string{"PATH=/bin", "HOME=/h"}}} {
			c, problems := Decode("x.toml", text, o)
			wrong := 0
			for _, p := range problems {
				if !p.Warning {
					wrong++
				}
				if p.Line < 1 || p.Line > len(lines) || p.Col < 1 || p.Col > len([]rune(lines[p.Line-1]))+1 {
					t.Errorf("%q is outside of the text", p)
				}
				if strings.ContainsFunc(p.String(), unicode.IsControl) {
					t.Errorf("%q has control characters", p)
				}
			}
			if (c == nil) != (wrong > 0) {
				t.Errorf("%d errors and %v", wrong, c)
			}
			started, found := decodeAtStart(text, o)
			for _, err := range []error{agreement(c, problems), agreement(started, found), lenient(c, started)} {
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// What scan says of a text is what the TOML package reads there.
func FuzzScan(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := agrees(string(text)); err != nil {
			t.Error(err)
		}
	})
}
