package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// T23: superctl starts no program, not even a pager, and neither does what it is
// linked with: some terminal libraries ask tmux what it can do.
func TestSuperctlCanStartNothing(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if deps := strings.Fields(string(out)); slices.Contains(deps, "os/exec") || len(deps) < 50 {
		t.Errorf("os/exec is among what superctl is made of: %q", deps)
	}
}

func TestSocketIsLookedForWhereItWouldBe(t *testing.T) {
	dir := t.TempDir()
	touch := func(elements ...string) string {
		path := filepath.Join(append([]string{dir}, elements...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	runtime := touch("runtime", "supervisord", "control.sock")
	state := touch("state", "supervisord", "run", "control.sock")
	home := touch("home", ".local", "state", "supervisord", "run", "control.sock")
	for _, c := range []struct {
		name string
		flag string
		env  map[string]string
		root bool
		want string
	}{
		{name: "what is typed comes first", flag: "/a", env: map[string]string{"SUPERVISORD_SOCKET": "/b"}, want: "/a"},
		{name: "then the variable", env: map[string]string{"SUPERVISORD_SOCKET": "/b", "XDG_RUNTIME_DIR": dir + "/runtime"}, want: "/b"},
		{name: "then one's own", env: map[string]string{"XDG_RUNTIME_DIR": dir + "/runtime", "XDG_STATE_HOME": dir + "/state"}, want: runtime},
		{name: "also without a runtime directory", env: map[string]string{"XDG_STATE_HOME": dir + "/state", "HOME": dir + "/home"}, want: state},
		{name: "and without anything but a home", env: map[string]string{"HOME": dir + "/home"}, want: home},
		{name: "if it is there", env: map[string]string{"XDG_RUNTIME_DIR": dir + "/nowhere"}, want: systemSocket},
		{name: "relative paths say nothing", env: map[string]string{"XDG_RUNTIME_DIR": "runtime", "HOME": "."}, want: systemSocket},
		{name: "root's own is the system's", root: true, env: map[string]string{"HOME": dir + "/home"}, want: systemSocket},
	} {
		s := newSession(&bytes.Buffer{}, &bytes.Buffer{}, func(k string) string { return c.env[k] })
		s.socket, s.root = c.flag, c.root
		if err := s.locate(); err != nil || s.at != c.want {
			t.Errorf("%s: %s, not %s (%v)", c.name, s.at, c.want, err)
		}
	}
}

// A configuration says where its supervisord is only to who names it.
func TestSocketIsLookedForWhereTheConfigurationSays(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	named := file("named.toml", "[manager]\nruntime_directory = \"/run/mine\"\n[service.a]\nnosuch = 1\n")
	silent := file("silent.toml", "[service.a]\nexec_start = [\"/bin/true\"]\n")
	broken := file("broken.toml", "[manager\n")
	for _, c := range []struct {
		name         string
		socket, file string
		env          map[string]string
		want, fails  string
	}{
		{name: "-c", file: named, env: map[string]string{"SUPERVISORD_SOCKET": "/b"}, want: "/run/mine/control.sock"},
		{name: "the variable", env: map[string]string{"SUPERVISORD_CONFIG": named}, want: "/run/mine/control.sock"},
		{name: "a socket's variable says it better", env: map[string]string{"SUPERVISORD_CONFIG": named, "SUPERVISORD_SOCKET": "/b"}, want: "/b"},
		{name: "it says nothing", file: silent, want: systemSocket},
		{name: "it cannot be read", file: broken, fails: "broken.toml:1:"},
		{name: "it is not there", env: map[string]string{"SUPERVISORD_CONFIG": dir + "/nowhere"}, fails: "no such file"},
		{name: "both", file: named, socket: "/a", fails: "use one of them"},
	} {
		s := newSession(io.Discard, io.Discard, func(k string) string { return c.env[k] })
		s.socket, s.config, s.root = c.socket, c.file, true
		err := s.locate()
		if c.fails == "" && (err != nil || s.at != c.want) {
			t.Errorf("%s: %s, not %s (%v)", c.name, s.at, c.want, err)
		}
		if c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%s: %v, not %s", c.name, err, c.fails)
		}
	}
}

// Names come with what the services do; not those that stand there already, nor
// any that a shell might take for something else.
func TestNamesAreOffered(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "status.json", ipc.Status{Services: []ipc.UnitStatus{
		{Name: "api", SubState: "running", Want: 3}, {Name: "web", SubState: "failed\x1b[2J"}, {Name: "$(reboot)"}, {Name: "-rf"},
	}})
	_, stop, err := serve(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for line, want := range map[string]string{
		"reload ":     "api\trunning\nweb\tfailed\\x1b[2J\n:4\n",
		"reload api ": "web\tfailed\\x1b[2J\n:4\n",
		"scale ":      "api\trunning\nweb\tfailed\\x1b[2J\n:4\n",
		"scale api ":  "3\tas now\n:4\n",
	} {
		var out bytes.Buffer
		s := newSession(&out, io.Discard, func(string) string { return "" })
		s.haste = time.Minute
		args := append([]string{"__complete", "--socket", filepath.Join(dir, config.ControlSocket)}, strings.Split(line, " ")...)
		run(t.Context(), args, s)
		if out.String() != want {
			t.Errorf("%q completes to %q, not %q", line, out.String(), want)
		}
	}
}

// What is hinted at goes to the supervisord that was asked.
func TestHintsCanBePasted(t *testing.T) {
	for socket, want := range map[string]string{
		"":                "superctl status api",
		"/tmp/d-1/c.sock": "superctl --socket /tmp/d-1/c.sock status api",
		"/tmp/$(reboot)":  "superctl status api",
	} {
		s := newSession(io.Discard, io.Discard, func(string) string { return "" })
		s.socket = socket
		if got := s.pasteable("superctl status api"); got != want {
			t.Errorf("with --socket %q: %q, not %q", socket, got, want)
		}
		if got := s.pasteable("to see: superctl status api"); got != "to see: "+want {
			t.Errorf("with --socket %q, behind a reason: %q", socket, got)
		}
		if got := s.pasteable("the superctl that came with supervisord"); got != "the superctl that came with supervisord" {
			t.Errorf("with --socket %q: %q", socket, got)
		}
		if got := (&session{config: "/etc/x.toml"}).pasteable("superctl status"); got != "superctl -c /etc/x.toml status" {
			t.Errorf("with -c: %q", got)
		}
		if got := s.pasteable("is it running?"); got != "is it running?" {
			t.Errorf("with --socket %q: %q", socket, got)
		}
	}
}
