package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// demoConfig is what --demo runs: this very binary, as a web service.
// (No template: text/template keeps the linker from leaving methods out, two
// megabytes of them.)
const demoConfig = `# what supervisord --demo runs
[manager]
runtime_directory = "$DIR/run"
state_directory   = "$DIR/state"
log_directory     = "$DIR/log"
log_level         = "warn"

[socket.web]
listen_stream = ["127.0.0.1:0"]

[service.web]
exec_start       = ["$EXE", "$ARG"]
type             = "notify"
sockets          = ["web"]
timeout_stop_sec = "10s"

[service.web.reload]
bake = "1s"
`

// prepareDemo makes a directory that nobody else can enter, for all that the
// demo writes, and the configuration in it. clean removes it.
func prepareDemo() (c *config.Config, clean func(), err error) {
	dir, err := os.MkdirTemp("", "supervisord-demo-")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a directory for the demo: %w", err)
	}
	clean = func() { os.RemoveAll(dir) }
	exe, err := os.Executable()
	if err != nil {
		clean()
		return nil, nil, fmt.Errorf("cannot find out what to run: %w", err)
	}
	file := filepath.Join(dir, "supervisord.toml")
	if err := writeDemo(file, dir, exe); err != nil {
		clean()
		return nil, nil, err
	}
	c, problems := load(file)
	if report(os.Stderr, problems) {
		clean()
		return nil, nil, errors.New("cannot run the demo's own configuration")
	}
	return c, clean, nil
}

func writeDemo(file, dir, exe string) error {
	text := strings.NewReplacer("$DIR", dir, "$EXE", exe, "$ARG", demoServiceArg).Replace(demoConfig)
	err := os.WriteFile(file, []byte(text), 0o600)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	return nil
}

// introduce says what runs, and what to type next: each line works when it is
// pasted alone into another terminal.
func introduce(w io.Writer, control, address string) {
	ctl := superctl(control)
	fmt.Fprintf(w, `A web service runs, and supervisord owns its socket. In another terminal:

  curl http://%s/
  %s status
  %s reload web
  %s logs web

reload starts a new process beside the old one, waits until it is ready and has
stayed so for a second, and only then sends the old one SIGTERM. Ctrl-C ends
the demo and leaves nothing behind.

`, address, ctl, ctl, ctl)
}

// superctl is the command that speaks to this supervisord: from source if this
// one was started so, from beside this binary if it is there.
func superctl(control string) string {
	exe, _ := os.Executable()
	command := "superctl"
	if strings.Contains(exe, "/go-build") {
		command = "go run ./cmd/superctl"
	} else if beside := filepath.Join(filepath.Dir(exe), "superctl"); exists(beside) {
		command = beside
	}
	return command + " --socket " + control
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
