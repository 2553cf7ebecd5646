package main

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/supervisord-go/supervisord/bench/rig"
)

// What is wrong with one service is said, and the others run.
func TestOneMistakeKeepsNothingElseDown(t *testing.T) {
	r := at(t, sleeper+"[service.bad]\nexec_strat = \"/bin/true\"\n[service.nobody]\nexec_start = [\"/bin/sleep\", \"1000\"]\nuser = \"nobody-is-called-this\"\n")
	text, err := os.ReadFile(r.path("supervisord.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.path("supervisord.toml"), append([]byte("include = [\"drop-in.toml\"]\n"), text...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.path("drop-in.toml"), []byte("[service.more\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.ctl(0, "start", "api")
	r.has(r.line("service.bad.exec_strat"), "supervisord.toml:12:")
	r.has(r.line("syntax error"), "drop-in.toml:1:")
	r.has(r.line("set aside"), "configuration: bad\"", "superctl daemon-reload")
	r.has(r.line("left out because of an error in the configuration", "drop-in.toml:1:"), "superctl daemon-reload")
	r.has(r.ctl(1, "daemon-reload"), "drop-in.toml:1:", "stays")
	r.stop()
}

// A socket that systemd gives and no unit names is let go of, and the others are
// served. It is kept if it may be that of a unit with an error.
func TestGivenSocketThatNobodyNames(t *testing.T) {
	for configuration, note := range map[string]string{
		sleeper: "closed: systemd still has it",
		sleeper + "[socket.web]\nlisten_stream = [\"nowhere\"]\n": "kept: it may belong to",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		r := at(t, configuration)
		ready, err := rig.ListenReady(r.path("notify"))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := binaries()
		cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec "$@"`, "sh", b.Supervisord(), "-c", r.path("supervisord.toml"))
		cmd.ExtraFiles = []*os.File{f}
		exited := r.run(cmd, ready.Env())
		f.Close()
		l.Close()
		if err := ready.Wait(t.Context(), exited); err != nil {
			t.Error(err)
		}
		ready.Close()
		r.has(r.line("cannot use the stream socket"), l.Addr().String(), "web", note)
		r.ctl(0, "start", "api")
		conn, err := net.Dial("tcp", l.Addr().String())
		if (err == nil) != strings.HasPrefix(note, "kept") {
			t.Errorf("%s; but to connect gives %v", note, err)
		}
		if err == nil {
			conn.Close()
		}
		r.stop()
	}
}
