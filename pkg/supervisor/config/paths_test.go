package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDefaultPath(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Root: true}, "/etc/supervisord/supervisord.toml"},
		{Options{Root: true, Environ: []string{"HOME=/root", "XDG_CONFIG_HOME=/x"}}, "/etc/supervisord/supervisord.toml"},
		{Options{Root: true, Environ: []string{"SUPERVISORD_CONFIG=/srv/s.toml"}}, "/srv/s.toml"},
		{Options{Environ: []string{"SUPERVISORD_CONFIG=/srv/s.toml", "HOME=/home/u"}}, "/srv/s.toml"},
		{Options{Environ: []string{"SUPERVISORD_CONFIG=", "HOME=/home/u"}}, "/home/u/.config/supervisord/supervisord.toml"},
		{Options{Environ: []string{"HOME=/home/u", "XDG_CONFIG_HOME=/x"}}, "/x/supervisord/supervisord.toml"},
		{Options{Environ: []string{"HOME=/home/u", "XDG_CONFIG_HOME=relative"}}, "/home/u/.config/supervisord/supervisord.toml"},
	} {
		if got := defaultPath(c.o); got != c.want {
			t.Errorf("%+v: %s, want %s", c.o, got, c.want)
		}
	}
}

func TestDefaultDirectories(t *testing.T) {
	for _, c := range []struct {
		what                string
		o                   Options
		text                string
		runtime, state, log string
	}{
		{"root", Options{Root: true, Environ: []string{"XDG_RUNTIME_DIR=/run/user/0"}}, "", "/run/supervisord", "/var/lib/supervisord", "/var/log/supervisord"},
		{
			"a user",
			Options{Environ: []string{"HOME=/home/u", "XDG_RUNTIME_DIR=/run/user/1000"}},
			"",
			"/run/user/1000/supervisord", "/home/u/.local/state/supervisord", "/home/u/.local/state/supervisord/log",
		},
		{
			"a user without a runtime directory: nothing is below /tmp",
			Options{Environ: []string{"HOME=/home/u", "TMPDIR=/tmp"}},
			"",
			"/home/u/.local/state/supervisord/run", "/home/u/.local/state/supervisord", "/home/u/.local/state/supervisord/log",
		},
		{
			"XDG_STATE_HOME",
			Options{Environ: []string{"HOME=/home/u", "XDG_STATE_HOME=/state"}},
			"",
			"/state/supervisord/run", "/state/supervisord", "/state/supervisord/log",
		},
		{
			"log_directory follows state_directory",
			Options{Environ: []string{"HOME=/home/u"}},
			"state_directory = \"/s/\"",
			"/s/run", "/s", "/s/log",
		},
		{"root's does not", Options{Root: true}, "state_directory = \"/s\"", "/run/supervisord", "/s", "/var/log/supervisord"},
	} {
		conf, problems := Decode("/etc/x.toml", []byte("[manager]\n"+c.text), c.o)
		if conf == nil {
			t.Fatal(problems)
		}
		if m := conf.Manager; m.RuntimeDirectory != c.runtime || m.StateDirectory != c.state || m.LogDirectory != c.log {
			t.Errorf("%s: %q", c.what, []string{m.RuntimeDirectory, m.StateDirectory, m.LogDirectory})
		}
	}
}

// Without a home directory nothing is looked for, or made, below /.
func TestNoHome(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain, named := write("plain.toml", "[manager]\n"), write("named.toml", "[manager]\nstate_directory = \"/s\"\n")
	for _, c := range []struct {
		path    string
		o       Options
		problem string
	}{
		{"", Options{}, "supervisord.toml: it is not known where yours is: neither HOME nor XDG_CONFIG_HOME is set; set HOME, or name the file with -c"},
		{"", Options{Environ: []string{"HOME=x"}}, `supervisord.toml: it is not known where yours is: HOME is "x", which is not an absolute path, and XDG_CONFIG_HOME is not set; set HOME, or name the file with -c`},
		{plain, Options{}, plain + ": manager.state_directory: it has no default, since neither HOME nor XDG_STATE_HOME is set; set HOME, or write state_directory"},
		{"", Options{Environ: []string{"SUPERVISORD_CONFIG=" + plain, "XDG_RUNTIME_DIR=/run/user/1"}}, plain + ": manager.state_directory: it has no default, since neither HOME nor XDG_STATE_HOME is set; set HOME, or write state_directory"},
		{"", Options{Environ: []string{"SUPERVISORD_CONFIG=" + plain, "XDG_STATE_HOME=/s"}}, ""},
		{plain, Options{Environ: []string{"HOME=/h"}}, ""},
		{plain, Options{Root: true}, ""},
		{named, Options{}, ""},
	} {
		conf, problems := LoadAtStart(c.path, c.o)
		if (conf == nil) != (c.problem != "") {
			t.Errorf("%s, %+v: is there a configuration? %t", c.path, c.o, conf != nil)
		}
		got := ""
		for _, p := range problems {
			got += p.String()
		}
		if got != c.problem {
			t.Errorf("%s, %+v:\n%s\nwant\n%s", c.path, c.o, got, c.problem)
		}
	}
}

// T27: what is run is what the file says, wherever supervisord was started from.
func TestProgramIsFoundBySayingWhere(t *testing.T) {
	fixed := strings.Split(fixedPath, ":")
	user := Options{Environ: []string{"PATH=/home/u/bin:.::relative/bin:/usr/bin/:/bin", "HOME=/home/u"}}
	for _, c := range []struct {
		what, start string
		o           Options
		path        string
		search      []string
		args        []string
	}{
		{"an absolute path", `["/srv//api/./api", "-x"]`, Options{Root: true}, "/srv/api/api", nil, []string{"/srv//api/./api", "-x"}},
		{"a string", `"/srv/api/api -name 'a b' \"c d\"e ''"`, Options{Root: true}, "/srv/api/api", nil, []string{"/srv/api/api", "-name", "a b", "c de", ""}},
		{"a shell asked for by name", `["/bin/sh", "-c", "exec api | cat"]`, Options{Root: true}, "/bin/sh", nil, []string{"/bin/sh", "-c", "exec api | cat"}},
		{"relative to the file", `["./bin/api"]`, Options{Root: true}, "/etc/conf.d/bin/api", nil, []string{"./bin/api"}},
		{"above the file", `["../api"]`, user, "/etc/api", nil, []string{"../api"}},
		{"a bare name, as root: never our PATH", `["api"]`, Options{Root: true, Environ: user.Environ}, "api", fixed, []string{"api"}},
		{"a bare name, as a user: our PATH, less what is relative", `["api"]`, user, "api", []string{"/home/u/bin", "/usr/bin", "/bin"}, []string{"api"}},
	} {
		conf, problems := Decode("/etc/conf.d/x.toml", []byte("[service.api]\nexec_start = "+c.start), c.o)
		if conf == nil {
			t.Errorf("%s: %v", c.what, problems)
			continue
		}
		if p := conf.Services[0].Program; p.Path != c.path || !slices.Equal(p.Search, c.search) || !slices.Equal(p.Argv, c.args) {
			t.Errorf("%s: %q in %q, with %q", c.what, p.Path, p.Search, p.Argv)
		}
	}
}

func TestProgramsThatAreNone(t *testing.T) {
	for _, start := range []string{
		`[]`, `[""]`, `""`, `"  "`, `"''"`, `["."]`, `[".."]`, `["bin/api"]`, `"~/api"`, `"$HOME/api"`, `"api | cat"`, `"api > log"`,
		`"api *.conf"`, `"api 'x"`, `["-/srv/api"]`, `["@/srv/api", "api"]`, `["/"]`, `["./"]`, `["/srv/api/"]`, `["/srv/..", ""]`, `["api\u0000"]`, `5`, `[5]`,
		`["/srv/api", "\u0000"]`,
	} {
		for _, o := range []Options{{Root: true}, {Environ: []string{"PATH=/bin"}}} {
			conf, problems := Decode("/etc/x.toml", []byte("[service.api]\nexec_start = "+start), o)
			if conf != nil || len(problems) != 1 || problems[0].Key != "service.api.exec_start" {
				t.Errorf("%.60s is a program: %v", start, problems)
			}
		}
	}
}

func TestWorkingDirectory(t *testing.T) {
	for _, c := range []struct {
		o          Options
		text, want string
	}{
		{Options{Root: true}, "", "/"},
		{Options{}, "", "/etc/conf.d"},
		{Options{Root: true}, `working_directory = "/srv/api/"`, "/srv/api"},
		{Options{Root: true}, `working_directory = "api"`, "/etc/conf.d/api"},
		{Options{}, `working_directory = ".."`, "/etc"},
	} {
		conf, problems := Decode("/etc/conf.d/x.toml", []byte("[service.api]\nexec_start = \"/api\"\n"+c.text), c.o)
		if conf == nil || conf.Services[0].Program.Dir != c.want {
			t.Errorf("%+v, %s: %v", c.o, c.text, problems)
		}
	}
}

// What is read and what is not looked at: Decode opens nothing, Load warns.
func TestMissingProgramIsAWarning(t *testing.T) {
	dir := tree(t, map[string]string{
		"main.toml": fmt.Sprintf("[service.a]\nexec_start = [\"./nothing\"]\n[service.b]\nexec_start = \"%[1]s\"\n[service.c]\nexec_start = \"./main.toml\"\n[service.d]\nexec_start = \"surely-not-there\"\n[service.e]\nexec_start = \"/bin/sh\"\nworking_directory = \"nowhere\"\n", "./s"),
		"s/":        "",
	})
	conf, problems := loader{Root: true}.load(t, dir)
	want := `DIR/main.toml:2:1: warning: service.a.exec_start: DIR/nothing does not exist; the service cannot start until that changes
DIR/main.toml:4:1: warning: service.b.exec_start: DIR/s is a directory; the service cannot start until that changes
DIR/main.toml:6:1: warning: service.c.exec_start: DIR/main.toml is not executable; the service cannot start until that changes
DIR/main.toml:8:1: warning: service.d.exec_start: surely-not-there is in none of ` + fixedPath + `; the service cannot start until that changes
DIR/main.toml:11:1: warning: service.e.working_directory: DIR/nowhere does not exist; the service cannot start until that changes`
	if conf == nil || problems != want {
		t.Errorf("got\n%s\nwant\n%s", problems, want)
	}
	text := filepath.Join(dir, "main.toml")
	if _, problems := Decode(text, []byte("[service.a]\nexec_start = \"./nothing\"\n"), Options{Root: true}); len(problems) > 0 {
		t.Error(problems)
	}
}

// A unix socket's name has 107 bytes at most, and a service that cannot be given
// its notify socket never starts: said before anything does, wherever the directory
// comes from.
func TestRuntimeDirectoryTooLongForItsSockets(t *testing.T) {
	fits, long := "/"+strings.Repeat("d", 82), "/"+strings.Repeat("d", 83)
	for what, c := range map[string]struct {
		o     Options
		text  string
		right bool
	}{
		"it just fits":         {Options{Root: true}, "runtime_directory = \"" + fits + "\"\n", true},
		"a byte too many":      {Options{Root: true}, "runtime_directory = \"" + long + "\"\n", false},
		"by XDG_RUNTIME_DIR":   {Options{Environ: []string{"XDG_RUNTIME_DIR=" + long}}, "", false},
		"by a deep home":       {Options{Environ: []string{"HOME=" + long}}, "", false},
		"by state_directory":   {Options{}, "state_directory = \"" + long + "\"\n", false},
		"a deep home does not": {Options{Environ: []string{"HOME=" + long, "XDG_RUNTIME_DIR=/run/user/1000"}}, "", true},
	} {
		conf, problems := Decode("/etc/x.toml", []byte("[manager]\n"+c.text), c.o)
		if c.right != (conf != nil) || !c.right && (problems[0].Key != "manager.runtime_directory" || !strings.Contains(problems[0].Message, "at most 83 bytes")) {
			t.Errorf("%s: %v", what, problems)
		}
	}
}
