package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// at is the path of a value: names of keys, and indexes of elements.
func at(parts ...any) (path string) {
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			path = join(path, p)
		case int:
			path = joinIndex(path, p)
		}
	}
	return path
}

// Each text has an @ where that stands which is asked for.
func TestScanFindsKeysHoweverTheyAreWritten(t *testing.T) {
	for _, c := range []struct{ what, path, text string }{
		{"a key", at("a"), "@a = 1\n"},
		{"the second key", at("b"), "a = 1\n@b = 2\n"},
		{"after blanks and comments", at("b"), "# one\n\n\t a = 1 # two = 2\n \t @b=2"},
		{"without an end of line", at("a"), "@a = 1"},
		{"a key in a table", at("t", "a"), "[t]\n@a = 1\n"},
		{"a table by its name, not its bracket", at("t"), "[ @t ]\na = 1\n"},
		{"a table by its first header", at("t", "u"), "[@t.u.v]\n[t.u]\n[t]\n"},
		{"blanks in a header", at("t", "u"), "[ @t . u ]\n"},
		{"each part of a dotted key", at("a", "b"), "@a.b.c = 1\n"},
		{"the whole of a dotted key", at("a", "b", "c"), "@a.b.c = 1\n"},
		{"a dotted key with blanks", at("t", "a", "b"), "[t]\n  @a . b = 1\n"},
		{"another dotted key that begins alike", at("a", "c"), "a.b = 1\n@a.c = 2\n"},
		{"a quoted key with a dot", at("a.b"), `@"a.b" = 1`},
		{"a key in single quotes", at(`a\b`), `@'a\b' = 1`},
		{"a key with an escape", at("aé]b"), `@"a\u00e9]b" = 1`},
		{"a quoted name in a header", at("service", "a b"), `[@service . "a\u0020b"]`},
		{"an empty key", at(""), `@"" = 1`},
		{"a key in an inline table", at("a", "c"), "a = { b = 1, @c = 2 }\n"},
		{"a dotted key in an inline table", at("a", "b", "c"), "a = { x = 1, @b.c = 2 }\n"},
		{"an inline table in an inline table", at("a", "b", "c"), "a = { b = { @c = 2 } }\n"},
		{"an inline table of several lines", at("a", "c"), "a = {\n b = 1, # }\n @c = 2,\n}\n"},
		{"an inline table in an array", at("a", 1, "b"), "a = [{ b = 1 }, { @b = 2 }]\n"},
		{"an element", at("a", 1), "a = [1, @2]\n"},
		{"an element on a line of its own", at("a", 1), "a = [\n  1, # ]\n  @2,\n]\n"},
		{"an element of an array in an array", at("a", 1, 0), "a = [[1], [@2]]\n"},
		{"a table of an array of them", at("a", 1), "[[a]]\n[[@a]]\n"},
		{"a key in such a table", at("a", 1, "b"), "[[a]]\nb = 1\n[[a]]\n@b = 2\n"},
		{"a table below an array of tables", at("a", 1, "t", "b"), "[[a]]\n[[a]]\n[a.t]\n@b = 1\n"},
		{"an array of tables below another", at("a", 1, "b", 0, "c"), "[[a]]\n[[a.b]]\n[[a]]\n[[a.b]]\n@c = 1\n"},
		{"after a string with brackets", at("b"), "a = \"]}#='\"\n@b = 1\n"},
		{"after a string with quotes", at("b"), "a = \"\\\"\\\\\"\n@b = 1\n"},
		{"after a literal string", at("b"), "a = 'c:\\'\n@b = 1\n"},
		{"after an empty string", at("b"), "a = \"\"\n@b = 1\n"},
		{"after a string of several lines", at("b"), "a = \"\"\"\n x = 1\n \\\"\"\" y\n\"\"\"\n@b = 1\n"},
		{"after one that ends in five quotes", at("b"), "a = \"\"\"x\"\"\"\"\"\n@b = 1\n"},
		{"after one with a line that goes on", at("b"), "a = \"\"\"x\\\n  y\"\"\"\n@b = 1\n"},
		{"after a literal string of several lines", at("b"), "a = '''\n\\'''\n@b = 1\n"},
		{"after a date with a blank", at("a", 1), "a = [2026-11-24 10:00:00, @1]\n"},
		{"lines that end in CR LF", at("t", "b"), "a = 1\r\n[t]\r\n@b = 2\r\n"},
		{"columns are characters, not bytes", at("a", 1), "a = [\"äöü€\", @\"x\"]\n"},
		{"after a byte order mark", at("a"), "\ufeff@a = 1\n"},
	} {
		text := strings.Replace(c.text, "@", "", 1)
		want := placeOf(text, strings.Index(c.text, "@"))
		found, deep := scan(text)
		if got, ok := found[c.path]; !ok || got != want || deep != nil {
			t.Errorf("%s: it is at %v, and found at %v (%v):\n%s", c.what, want, got, ok, text)
		}
		if err := agrees(text); err != nil {
			t.Errorf("%s: %v:\n%s", c.what, err, text)
		}
	}
}

// agrees says whether scan knows the place of all that the TOML package finds in
// a text, and of nothing else. A text that is no TOML agrees.
func agrees(text string) error {
	found, deep := scan(text)
	var top map[string]any
	if _, err := toml.Decode(text, &top); err != nil || deep != nil {
		return nil
	}
	lines := strings.Split(text, "\n")
	seen := 0
	var walk func(path string, v any) error
	check := func(path string, v any) error {
		at, ok := found[path]
		switch seen++; {
		case !ok:
			return fmt.Errorf("%q has no place", path)
		case at.line < 1 || at.line > len(lines) || at.col < 1 || at.col > len([]rune(lines[at.line-1])):
			return fmt.Errorf("%q is outside of the text, at %v", path, at)
		}
		return walk(path, v)
	}
	walk = func(path string, v any) error {
		switch v := v.(type) {
		case map[string]any:
			for name, v := range v {
				if err := check(join(path, name), v); err != nil {
					return err
				}
			}
		case []map[string]any:
			for i, v := range v {
				if err := check(joinIndex(path, i), v); err != nil {
					return err
				}
			}
		case []any:
			for i, v := range v {
				if err := check(joinIndex(path, i), v); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk("", top); err != nil {
		return err
	}
	if seen != len(found) {
		return fmt.Errorf("%d places for %d values", len(found), seen)
	}
	return nil
}
