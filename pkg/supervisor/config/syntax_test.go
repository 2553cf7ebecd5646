package config

import (
	"fmt"
	"strings"
	"testing"
)

// What people who know other formats better write, and what they are told.
func TestMistakesInTOML(t *testing.T) {
	var b strings.Builder
	for _, text := range []string{
		"[service.a]\ntype = notify\n", "[service.a]\ntype = 'notify\n", "[service.a]\nbake = 5m\n", "[service.a]\nfile = yes\n", "[service.a]\nfile = True\n", "[service.a]\nfile = off\n",
		"[service.a]\numask = 0022\n", "[service.a]\nuser = \n", "user =", "user", "user\n", "user: api\n", "user == \"api\"\n", "user \"api\"\n", "service a = 1\n", "= 1\n", ".a = 1\n",
		"[service.a\n", "[[service.a]\n", "[service.a]]\n", "[service a]\n", "[]\n", "[service.]\n",
		"// a comment\n", "; a comment\n", "a = 1 // a comment\n", "a = 1, b = 2\n", "a = \"x\" \"y\"\n",
		"a = [1, 2\n", "a = [1 2]\n", "a = [1,,2]\n", "a = { b = 1\n", "a = { b = 1 c = 2 }\n", "a = { b: 1 }\n",
		"a = \"c:\\dir\"\n", "a = \"x", "a = \"\"\"x", "a = '''x", "a = \"\x01\"\n", "a = \"x\ry\"\n", "a = \"\\ud800\"\n",
		"a = 1.\n", "a = .5\n", "a = 1_\n", "a = 0x\n", "a = 0b2\n", "a = +0x1\n", "a = 99999999999999999999\n", "a = 2026-13-01\n",
		"[service.a]\nnice = 1\nnice = 2\n", "[service.a]\n[service.b]\n[service.a]\n", "a = 1\n[a]\n", "[a]\n[[a]]\n", "a = { b = 1, b = 2 }\n",
		"\x00", "\xff\xfea\x00", "a = \"\xe4\"\n",
	} {
		_, problems := Decode("x.toml", []byte(text), Options{})
		fmt.Fprintf(&b, "%q\n", text)
		for _, p := range problems {
			fmt.Fprintf(&b, "\t%s\n", p)
		}
		if len(problems) != 1 || !strings.HasPrefix(problems[0].Message, "syntax error: ") {
			t.Errorf("%q: %v", text, problems)
		}
	}
	golden(t, "testdata/mistakes.txt", []byte(b.String()))
}

// A file that an editor has written half of is not said to have characters in it
// that are not there.
func TestHalfAFile(t *testing.T) {
	const whole = "# a\n[[service.a.b]]\n[service.'a']\nuser = \"x\\n\"\nx.y = { z = [1, 2.5, true], 'k' = 07:32:00 }\nt = \"\"\"x\"\"\"\nd = 2026-01-01T00:00:00Z\nn = 0x1f\n"
	for n := range whole {
		_, problems := Decode("x.toml", []byte(whole[:n]), Options{})
		for _, p := range problems {
			if strings.Contains(p.Message, "x00") || strings.Contains(p.Message, "NUL") {
				t.Errorf("%q: %s", whole[:n], p.Message)
			}
		}
	}
}
