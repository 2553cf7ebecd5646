// Package systemd holds the units that run supervisord under systemd. Its tests
// try them under a real one.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/bench/ledger"
	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/rig"
)

// inside is the variable that sends this test binary, run under a systemd of its
// own, to its half of TestUnderSystemd. Its value is the directory with the
// binaries.
const inside = "SUPERVISORD_TEST_INSIDE"

// bed is what both halves of a test need: the binaries and the worker's builds.
type bed struct {
	dir      string
	binaries rig.Binaries
	releases rig.Releases
}

func newBed(t *testing.T) bed {
	t.Helper()
	dir, err := rig.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := bed{dir: dir}
	if b.binaries, err = rig.Build(t.Context(), dir+"/bin"); err != nil {
		t.Fatal(err)
	}
	if b.releases, err = rig.BuildReleases(t.Context(), dir+"/releases"); err != nil {
		t.Fatal(err)
	}
	if err := b.releases.Deploy("plain"); err != nil {
		t.Fatal(err)
	}
	return b
}

// configuration is a service on a socket that supervisord does not bind itself.
func (b bed) configuration(manager, address string) string {
	return manager + fmt.Sprintf(`
[socket.http]
listen_stream = [%q]

[service.api]
exec_start = [%q, "-ledger", %q]
type = "notify"
sockets = ["http"]

[service.api.reload]
bake = "200ms"
`, address, b.releases.Current(), b.dir+"/ledger")
}

// TestUnderSystemd boots a systemd in namespaces of its own and goes on inside.
func TestUnderSystemd(t *testing.T) {
	if dir := os.Getenv(inside); dir != "" {
		underSystemd(t, bed{dir: dir, binaries: rig.Binaries{Dir: dir + "/bin"}, releases: rig.ReleasesIn(dir + "/releases")})
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it boots a systemd in namespaces of its own")
	}
	if _, err := exec.LookPath("systemd-run"); err != nil {
		t.Skip("needs systemd: ", err)
	}
	b := newBed(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	boot := exec.CommandContext(t.Context(), "../../tools/with-systemd.sh", "--boot-timeout", "300", "--bind", b.dir, "--",
		self, "-test.run=^TestUnderSystemd$", "-test.v")
	boot.Env = append(os.Environ(), inside+"="+b.dir)
	boot.Cancel = func() error { return boot.Process.Signal(syscall.SIGTERM) } // it cleans up
	out, err := boot.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// underSystemd follows what an administrator does: install, enable the socket,
// connect, reload under load, stop.
func underSystemd(t *testing.T, b bed) {
	run(t, "install", "-m", "0755", b.binaries.Supervisord(), b.binaries.Superctl(), "/usr/local/bin/")
	run(t, "install", "-m", "0644", "supervisord.service", "supervisord.socket", "/etc/systemd/system/")
	run(t, "install", "-d", "/etc/supervisord")
	if err := os.WriteFile("/etc/supervisord/supervisord.toml", []byte(b.configuration("", "80")), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "start", "supervisord.socket")
	defer func() {
		if t.Failed() {
			t.Logf("%s", output(t, "journalctl", "--no-pager", "-u", "supervisord.service"))
		}
	}()

	if state := property(t, "ActiveState"); state != "inactive" {
		t.Fatalf("supervisord is %s before the first connection", state)
	}
	answered(t, "127.0.0.1:80")
	run(t, "systemctl", "start", "supervisord.service") // it starts already: this waits until READY=1
	if state := property(t, "ActiveState"); state != "active" {
		t.Errorf("supervisord is %s after the first connection", state)
	}
	if text := property(t, "StatusText"); text == "" {
		t.Error("systemctl show has no StatusText")
	}
	reloadsUnderLoad(t, rig.Ctl{Superctl: "superctl", Socket: "/run/supervisord/control.sock"}, "127.0.0.1:80")

	run(t, "systemctl", "reload", "supervisord.service")
	run(t, "systemctl", "stop", "supervisord.socket", "supervisord.service")
	if state, result := property(t, "ActiveState"), property(t, "Result"); state != "inactive" || result != "success" {
		t.Errorf("after the stop supervisord is %s, result %s", state, result)
	}
	allLeft(t, b)
}

// TestUnderSocketActivate has sockets passed by the program that systemd has for
// trying that.
func TestUnderSocketActivate(t *testing.T) {
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip("needs systemd-socket-activate: ", err)
	}
	b := newBed(t)
	address := free(t)
	manager := fmt.Sprintf("[manager]\nruntime_directory = %q\nstate_directory = %q\nlog_directory = %q\n", b.dir+"/run", b.dir+"/state", b.dir+"/log")
	if err := os.WriteFile(b.dir+"/supervisord.toml", []byte(b.configuration(manager, address)), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(b.dir, "log.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ready, err := rig.ListenReady(b.dir + "/notify")
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	// It becomes supervisord when the first connection comes.
	cmd := exec.Command(activate, "--listen="+address, "--fdname=http", "--setenv="+ready.Env(),
		b.binaries.Supervisord(), "-c", b.dir+"/supervisord.toml")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	var ended error
	go func() { ended = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
		rig.Sweep(b.dir)
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s", text)
		}
	})
	listening(t, address)
	answered(t, address)
	if err := ready.Wait(t.Context(), exited); err != nil {
		t.Fatal(err)
	}
	reloadsUnderLoad(t, rig.Ctl{Superctl: b.binaries.Superctl(), Socket: b.dir + "/run/control.sock"}, address)
	cmd.Process.Signal(syscall.SIGTERM)
	if <-exited; ended != nil {
		t.Errorf("supervisord ended with %v", ended)
	}
	allLeft(t, b)
}

// answered makes one request.
func answered(t *testing.T, address string) {
	t.Helper()
	if first := ask(t.Context(), load.Modes[0], address, 1, 1); first.OK != 1 {
		t.Fatalf("the first request was not answered: %s", first.First)
	}
}

// reloadsUnderLoad asks without pause during three reloads, and counts.
func reloadsUnderLoad(t *testing.T, ctl rig.Ctl, address string) {
	t.Helper()
	asking, enough := context.WithCancel(t.Context())
	defer enough()
	modes := load.Modes[:3]
	results := make(chan *load.Result, len(modes))
	for _, m := range modes {
		go func() { results <- ask(asking, m, address, 8, 0) }()
	}
	if _, err := ctl.Must(t.Context(), "start", "api"); err != nil {
		t.Error(err)
	}
	for range 3 {
		if _, err := ctl.Must(t.Context(), "reload", "api"); err != nil {
			t.Error(err)
		}
	}
	enough()
	for range modes {
		if r := <-results; r.Failed > 0 || r.OK == 0 {
			t.Errorf("mode %s: %d of %d requests were lost: %v (%s)", r.Mode, r.Failed, r.Attempts, r.Failures, r.First)
		}
	}
}

func ask(ctx context.Context, m load.Mode, address string, clients int, requests int64) *load.Result {
	return load.Run(ctx, load.Options{
		Mode: m, Network: "tcp", Address: address, Clients: clients, Requests: requests,
		Pause: 5 * time.Millisecond, Body: 100, Timeout: rig.Patience,
	})
}

// allLeft reads the workers' own record: four ran, and each left by its own
// Shutdown.
func allLeft(t *testing.T, b bed) {
	t.Helper()
	entries, err := ledger.Read(b.dir + "/ledger")
	if err != nil {
		t.Fatal(err)
	}
	count := func(event string) int {
		return len(slices.DeleteFunc(slices.Clone(entries), func(e ledger.Entry) bool { return e.Event != event || e.Error != "" }))
	}
	if began, left := count(ledger.Began), count(ledger.Left); began != 4 || left != 4 {
		t.Errorf("%d workers began and %d left by themselves, want 4 and 4: %+v", began, left, entries)
	}
}

func run(t *testing.T, argv ...string) { t.Helper(); output(t, argv...) }

func output(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func property(t *testing.T, name string) string {
	t.Helper()
	return output(t, "systemctl", "show", "--value", "-p", name, "supervisord.service")
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// listening makes the first connection, as soon as there is somebody to make it
// to, and says nothing on it.
func listening(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(rig.Patience); ; {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
