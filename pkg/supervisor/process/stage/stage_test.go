package stage

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestTaskArrivesAsItWasSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOf(rapid.String())
		numbers := rapid.SliceOf(rapid.Uint64())
		sent := Task{
			Path: rapid.String().Draw(t, "path"), Pinned: rapid.Bool().Draw(t, "pinned"),
			Argv: text.Draw(t, "argv"), Dir: rapid.String().Draw(t, "dir"), Env: text.Draw(t, "env"),
			EnvFiles: rapid.SliceOf(rapid.Custom(func(t *rapid.T) EnvFile {
				return EnvFile{rapid.String().Draw(t, "file"), text.Draw(t, "pairs")}
			})).Draw(t, "files"),
			Protocol: text.Draw(t, "protocol"), Names: text.Draw(t, "names"), Handover: rapid.Bool().Draw(t, "handover"), Watchdog: rapid.Uint64().Draw(t, "watchdog"),
			SetIDs: rapid.Bool().Draw(t, "ids"), UID: rapid.Uint64().Draw(t, "uid"), GID: rapid.Uint64().Draw(t, "gid"),
			Groups: numbers.Draw(t, "groups"), Umask: rapid.Uint64().Draw(t, "umask"),
			SetNice: rapid.Bool().Draw(t, "nice"), SetOOM: rapid.Bool().Draw(t, "oom"),
			Nice: rapid.Int64().Draw(t, "n"), OOM: rapid.Int64().Draw(t, "o"),
			Limits: rapid.SliceOf(rapid.Custom(func(t *rapid.T) Limit {
				return Limit{rapid.Uint64().Draw(t, "resource"), rapid.Uint64().Draw(t, "soft"), rapid.Uint64().Draw(t, "hard")}
			})).Draw(t, "limits"),
			Defaults: rapid.Bool().Draw(t, "defaults"),
		}
		message := Encode(&sent)
		got, err := receive(pipeWith(t, message))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sent, got); diff != "" {
			t.Errorf("sent (-), received (+):\n%s", diff)
		}
		if _, err := receive(pipeWith(t, message[:len(message)-1])); err == nil {
			t.Error("a task that was cut short is one")
		}
	})
}

// pipeWith is an fd from which b can be read; small enough for the pipe to hold.
func pipeWith(t *rapid.T, b []byte) int {
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(pipe[0]) })
	defer syscall.Close(pipe[1])
	if len(b) > 1<<16 {
		t.Skip("it does not fit the pipe")
	}
	write(pipe[1], b)
	return pipe[0]
}

func FuzzReceive(f *testing.F) {
	f.Add(Encode(&Task{Argv: []string{"a"}, Groups: []uint64{1}})[wordSize:])
	f.Fuzz(func(t *testing.T, b []byte) {
		c := coder{buf: b, decode: true}
		var task Task
		task.code(&c) // does not panic, nor take more memory than there are bytes
	})
}

func TestOutcome(t *testing.T) {
	failed := append([]byte{markFailed, byte(Chdir)}, putUint(nil, uint64(syscall.ENOENT))...)
	failed = append(failed, "/srv"...)
	want := Failure{Chdir, syscall.ENOENT, "/srv"}
	for _, c := range []struct {
		answer []byte
		ran    bool
		f      Failure
	}{
		{nil, false, Failure{}},
		{[]byte{markExec}, true, Failure{}},
		{failed, false, want},
		{append([]byte{markExec}, failed...), false, want},
		{failed[:5], false, Failure{}},
		{[]byte("garbage"), false, Failure{}},
	} {
		if o := Read(c.answer); o.Ran != c.ran || o.Failure != c.f {
			t.Errorf("%q says %+v", c.answer, o)
		}
	}
	if s := Step(200); s.Status() != 255 || s.String() != "stage" {
		t.Error("a step that there is not has a name")
	}
}

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
		got, bad := ParseFile([]byte(c.text))
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
		pairs, bad := ParseFile([]byte(c.Text))
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
	pairs = Merge(pairs)
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
		if _, bad := ParseFile([]byte(text + end + "\n")); bad != line {
			return true
		}
	}
	return false
}

func FuzzEnvironmentFile(f *testing.F) {
	f.Add([]byte("A='1' \\\n#\nB=\"2\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		pairs, bad := ParseFile(text)
		if bad > strings.Count(string(text), "\n")+1 {
			t.Errorf("line %d is bad, and there are not so many", bad)
		}
		for _, p := range pairs {
			if key := keyOf(p); key == "" || key == p || strings.ContainsRune(p, 0) {
				t.Errorf("%q is a pair", p)
			}
		}
	})
}

func TestMergeKeepsEachKeyOnce(t *testing.T) {
	got := Merge([]string{"A=1", "B=1", "A=2", "C=1", "B="})
	if want := []string{"A=2", "B=", "C=1"}; !cmp.Equal(want, got) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The stage is initialized before the rest of the program only as long as it
// depends on nothing of it.
func TestImportsAreFew(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			switch i.Path.Value {
			case `"os"`, `"syscall"`, `"unsafe"`:
			default:
				t.Errorf("%s imports %s", name, i.Path.Value)
			}
		}
	}
}
