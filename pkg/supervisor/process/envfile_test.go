package process

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestEnvironmentFile(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
		bad  int
	}{
		{"", nil, 0},
		{"A=1\nB=2", []string{"A=1", "B=2"}, 0},
		{"# comment\n\n ; another\n  A=1\n", []string{"A=1"}, 0},
		{"A= 1 2  \nB=\n", []string{"A=1 2", "B="}, 0},
		{`A='a b'  "c\"d" e\ f  ` + "\n", []string{`A=a bc"de f`}, 0},
		{"A='$x `y` \\'\nB=1\n", []string{"A=$x `y` \\", "B=1"}, 0},
		{"A=1\\\n2\nB=3\n", []string{"A=12", "B=3"}, 0},
		{"A='x\ny'\nB=1\n", []string{"A=x\ny", "B=1"}, 0},
		{"A=a#b\n", []string{"A=a#b"}, 0},
		{"A=1\r\nB=2\r\n", []string{"A=1", "B=2"}, 0},
		{"A=' '\n", []string{"A= "}, 0},
		{"A=1\nnonsense\n", nil, 2},
		{"A=1\n\n1B=2\n", nil, 3},
		{"export A=1\n", nil, 1},
		{"A='open\nB=2\n", nil, 1},
		{"A=\"open", nil, 1},
		{"A=b\\", []string{"A=b"}, 0},
		{"PW=abc'def\nPW2=abc'def\n", []string{"PW=abc'def", "PW2=abc'def"}, 0},
		{"A=\x00\n", nil, 1},
		{"=x\n", nil, 1},
	} {
		got, bad := parseFile([]byte(c.text))
		if bad != c.bad || !cmp.Equal(c.want, got) {
			t.Errorf("%q is %q, bad line %d; want %q, %d", c.text, got, bad, c.want, c.bad)
		}
	}
}

// What systemd 252 gave to a process, for files made of what its parser and a
// shell's give a meaning to. Where a file is read at all it must come to the same,
// but for comments with a backslash at the end, which since systemd 254 do not go on
// in the next line.
func TestEnvironmentFilesAreReadAsBySystemd(t *testing.T) {
	text, err := os.ReadFile("testdata/systemd-252.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Text string
		Env  []string
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, c := range cases {
		pairs, bad := parseFile([]byte(c.Text))
		switch {
		case longComment.MatchString(c.Text):
		case bad != 0 && !meaningless(c.Text, bad):
			t.Errorf("%q: line %d is refused", c.Text, bad)
		case bad == 0 && !cmp.Equal(c.Env, sorted(pairs), cmpopts.EquateEmpty()):
			t.Errorf("%q: got %q, systemd gives %q", c.Text, sorted(pairs), c.Env)
		case bad == 0:
			read++
		}
	}
	if read < len(cases)/3 {
		t.Errorf("only %d of %d are read", read, len(cases))
	}
}

func sorted(pairs []string) []string {
	pairs = merge(pairs)
	slices.Sort(pairs)
	return pairs
}

var (
	assignment  = regexp.MustCompile(`^[ \t]*[A-Za-z_][A-Za-z0-9_]*[ \t]*=`)
	longComment = regexp.MustCompile(`(^|[\n\r])[ \t]*[#;][^\n\r]*\\[\n\r]`)
)

// meaningless: there is no assignment in the line, or a quote that is never closed.
func meaningless(text string, line int) bool {
	for part := range strings.SplitSeq(strings.Split(text, "\n")[line-1], "\r") {
		if strings.Trim(part, " \t") != "" && !assignment.MatchString(part) {
			return true
		}
	}
	for _, end := range []string{"'", "\"", "\\\""} {
		if _, bad := parseFile([]byte(text + end + "\n")); bad != line {
			return true
		}
	}
	return false
}

func FuzzEnvironmentFile(f *testing.F) {
	f.Add([]byte("A='1' \\\n#\nB=\"2\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		pairs, bad := parseFile(text)
		if bad > strings.Count(string(text), "\n")+1 {
			t.Errorf("line %d is bad, and there are not so many", bad)
		}
		for _, p := range pairs {
			if key, _, ok := strings.Cut(p, "="); key == "" || !ok || strings.ContainsRune(p, 0) {
				t.Errorf("%q is a pair", p)
			}
		}
	})
}

func TestMergeKeepsEachKeyOnce(t *testing.T) {
	got := merge([]string{"A=1", "B=1", "A=2", "C=1", "B="})
	if want := []string{"A=2", "B=", "C=1"}; !cmp.Equal(want, got) {
		t.Errorf("got %q, want %q", got, want)
	}
}
