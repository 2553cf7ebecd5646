package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stranger is a uid that neither root nor we are.
const stranger = 65534

// tree makes files in a directory of its own, closed to others, and returns that.
// A name that ends in / is a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		parent := filepath.Dir(dir + "/" + name)
		if err := os.MkdirAll(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		if path == parent { // it is a directory
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const sleeper = "exec_start = [\"/bin/sleep\", \"1000\"]\n"

// load reads main.toml of a tree, and gives problems without the directory.
func (f loader) load(t *testing.T, dir string) (*Config, string) {
	t.Helper()
	c, problems := Load(filepath.Join(dir, "main.toml"), Options(f))
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&b, strings.ReplaceAll(p.String(), dir, "DIR"))
	}
	return c, strings.TrimSuffix(b.String(), "\n")
}

type loader Options

func TestIncludedFilesAreOneConfiguration(t *testing.T) {
	dir := tree(t, map[string]string{
		"main.toml":         "include = [\"services.d/*.toml\", \"sockets.toml\"]\n[manager]\nlog_level = \"debug\"\n",
		"services.d/b.toml": "[service.b]\n" + sleeper + "sockets = [\"http\"]\ntype = \"notify\"\n",
		"services.d/a.toml": "[service.a]\n" + sleeper,
		"services.d/a.txt":  "this is no TOML",
		"sockets.toml":      "[socket.http]\nlisten_stream = [\"127.0.0.1:0\"]\n",
	})
	c, problems := loader{Root: true}.load(t, dir)
	if problems != "" {
		t.Fatal(problems)
	}
	want := []string{dir + "/main.toml", dir + "/services.d/a.toml", dir + "/services.d/b.toml", dir + "/sockets.toml"}
	if !slices.Equal(c.Files, want) {
		t.Errorf("files are %q", c.Files)
	}
	if len(c.Services) != 2 || len(c.Sockets) != 1 || c.Manager.LogLevel != "debug" {
		t.Errorf("it is %+v", c)
	}
}

func TestWhatIsWrongWithIncludedFiles(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a unit in two files": {
			map[string]string{
				"main.toml": "include = [\"a.toml\", \"b.toml\"]\n",
				"a.toml":    "\n[service.api]\n" + sleeper,
				"b.toml":    "[service]\n  [service.api]\n" + sleeper,
			},
			"DIR/b.toml:2:4: service.api: it is already defined at DIR/a.toml:2; a unit belongs in one file",
		},
		"a pattern without files is none": {
			map[string]string{"main.toml": "include = [\"services.d/*.toml\"]\n"}, "",
		},
		"a file that is not there": {
			map[string]string{"main.toml": "include = [\"a.toml\"]\n"},
			"DIR/main.toml:1:12: include: there is no DIR/a.toml",
		},
		"no pattern": {
			map[string]string{"main.toml": "include = [\"[a.toml\"]\n"},
			"DIR/main.toml:1:12: include: \"[a.toml\" is not a pattern: a [ has no ]",
		},
		"a directory": {
			map[string]string{"main.toml": "include = [\"a.toml\"]\n", "a.toml/": ""},
			"DIR/main.toml:1:12: include: cannot use DIR/a.toml: is a directory",
		},
		"a file that includes itself": {
			map[string]string{"main.toml": "include = [\"*.toml\"]\n[service.api]\n" + sleeper}, "",
		},
		"an include in an included file": {
			map[string]string{"main.toml": "include = [\"a.toml\"]\n", "a.toml": "include = [\"b.toml\"]\n"},
			"DIR/a.toml:1:1: include: it belongs in DIR/main.toml, which includes this file",
		},
		"a manager in an included file": {
			map[string]string{"main.toml": "include = [\"a.toml\"]\n", "a.toml": "[manager]\nlog_level = \"debug\"\n"},
			"DIR/a.toml:1:2: manager: it belongs in DIR/main.toml, which includes this file",
		},
		"a syntax error, of which alone is spoken": {
			map[string]string{"main.toml": "include = [\"*.toml\"]\nfoo = 1\n", "a.toml": "bar = 1\n", "b.toml": "[service.api\n", "c.toml": "["},
			"DIR/b.toml:1:13: syntax error: the name of a table ends with ], not the end of the line",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := loader{Root: true}.load(t, tree(t, c.files))
			if problems != c.want {
				t.Errorf("got\n%s\nwant\n%s", problems, c.want)
			}
		})
	}
}

func TestFirstFileIsMissing(t *testing.T) {
	c, problems := loader{Root: true}.load(t, tree(t, nil))
	if want := "DIR/main.toml: there is no such file; name another file with -c, or create this one"; c != nil || problems != want {
		t.Error(problems)
	}
}

// T24: as root, nothing is read that somebody else wrote, could have written, or
// has put there in place of something else.
func TestFilesOfOthersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes files of another user")
	}
	chown := func(path string) error { return os.Lchown(path, stranger, stranger) }
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string // in the message
	}{
		"a file of somebody else":     {func(d string) error { return chown(d + "/s/a.toml") }, "DIR/s/a.toml"},
		"a file that others write":    {func(d string) error { return os.Chmod(d+"/s/a.toml", 0o646) }, "DIR/s/a.toml"},
		"a file that a group writes":  {func(d string) error { return os.Chmod(d+"/s/a.toml", 0o660) }, "DIR/s/a.toml"},
		"a directory of somebody":     {func(d string) error { return chown(d + "/s") }, "DIR/s"},
		"a directory that all write":  {func(d string) error { return os.Chmod(d+"/s", 0o777) }, "DIR/s"},
		"a parent of somebody else":   {chown, "DIR/main.toml: DIR: it belongs to uid 65534"},
		"a link into such a place":    {func(d string) error { return replaceByLink(d+"/s/a.toml", d+"/theirs/a.toml") }, "DIR/theirs"},
		"a link of somebody else":     {func(d string) error { return theirLink(d+"/s/a.toml", d+"/ours.toml") }, "DIR/s/a.toml"},
		"a FIFO, without waiting":     {func(d string) error { return replaceByFIFO(d + "/s/a.toml") }, "DIR/s/a.toml"},
		"more than a MiB":             {func(d string) error { return os.Truncate(d+"/s/a.toml", maxFile+1) }, "DIR/s/a.toml"},
		"a device that never ends":    {func(d string) error { return replaceByLink(d+"/s/a.toml", "/dev/zero") }, "/dev/zero"},
		"a link to itself":            {func(d string) error { return replaceByLink(d+"/s/a.toml", d+"/s/a.toml") }, "DIR/s/a.toml"},
		"a secret of root's, by link": {func(d string) error { return theirLink(d+"/s/a.toml", "/etc/shadow") }, "DIR/s/a.toml"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{
				"main.toml":     "include = [\"s/*.toml\"]\n",
				"s/a.toml":      "[service.hostile]\n" + sleeper,
				"theirs/a.toml": "[service.hostile]\n" + sleeper,
				"ours.toml":     "[service.fine]\n" + sleeper,
			})
			for _, path := range []string{dir + "/theirs", dir + "/theirs/a.toml"} {
				if err := chown(path); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			conf, problems := loader{Root: true}.load(t, dir)
			if conf != nil || !strings.Contains(problems, c.want) || strings.Contains(problems, "\n") {
				t.Errorf("%v", problems)
			}
			t.Log(problems)
		})
	}
}

func replaceByLink(path, target string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

func theirLink(path, target string) error {
	if err := replaceByLink(path, target); err != nil {
		return err
	}
	return os.Lchown(path, stranger, stranger)
}

func replaceByFIFO(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return unix.Mkfifo(path, 0o600)
}

// T24: a directory with more files than anybody has is not read to its end.
func TestTooManyFiles(t *testing.T) {
	dir := tree(t, map[string]string{"main.toml": "", "s/a.toml": "", "s/b.toml": ""})
	l := newLoad(Options{Root: true})
	l.disk = true
	l.first(dir + "/main.toml")
	for len(l.config.Files) < maxFiles-1 { // as if they had been read
		l.config.Files = append(l.config.Files, dir+"/other.toml")
	}
	l.include(cursor{file: &file{load: l, name: dir + "/main.toml", dir: dir}, key: "include"}, "s/*.toml")
	c, problems := l.finish()
	want := `include: with "s/*.toml" there are more than 10000 files`
	if c != nil || len(problems) != 1 || !strings.HasSuffix(problems[0].String(), want) {
		t.Errorf("got\n%v\nwant\n%s", problems, want)
	}
	if last := l.config.Files[len(l.config.Files)-1]; last != dir+"/s/a.toml" || len(l.config.Files) != maxFiles {
		t.Errorf("%d files were read, the last is %s", len(l.config.Files), last)
	}
}

// T30: a file with secrets in it that everybody can read is worth a word.
func TestReadableSecretsAreWarnedOf(t *testing.T) {
	text := "[service.api]\n" + sleeper + "environment = { TOKEN = \"hunter2\" }\n"
	dir := tree(t, map[string]string{"main.toml": text})
	c, problems := loader{Root: true}.load(t, dir)
	if c == nil || problems != "" {
		t.Errorf("closed to others: %v", problems)
	}
	if err := os.Chmod(dir+"/main.toml", 0o644); err != nil {
		t.Fatal(err)
	}
	c, problems = loader{Root: true}.load(t, dir)
	want := "DIR/main.toml:3:1: warning: service.api.environment: everybody on this machine can read it here; chmod o-r DIR/main.toml, or keep secrets in an environment_file that is closed to others"
	if c == nil || problems != want {
		t.Errorf("got\n%s\nwant\n%s", problems, want)
	}
	for _, s := range c.Services {
		if all := fmt.Sprintf("%v %+v %#v", s, s, *s); strings.Contains(all, "hunter2") {
			t.Errorf("a secret can be printed: %s", all)
		}
	}
}

func TestDigestTellsWhatWasRead(t *testing.T) {
	dir := tree(t, map[string]string{"main.toml": "include = [\"a.toml\"]\n", "a.toml": "[service.a]\n" + sleeper})
	digest := func() string {
		c, problems := loader{Root: true}.load(t, dir)
		if c == nil {
			t.Fatal(problems)
		}
		return c.Digest
	}
	before := digest()
	if len(before) != 64 || before != digest() {
		t.Errorf("the same files have the digests %q and %q", before, digest())
	}
	if err := os.WriteFile(dir+"/a.toml", []byte("[service.a]\n"+sleeper+"# more\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if before == digest() {
		t.Error("a changed file has the same digest")
	}
}
