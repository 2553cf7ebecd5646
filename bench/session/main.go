// Session makes the session in the README: it runs examples/hello under a
// supervisord of its own, types what a user would, and writes what came of it.
//
//	go run ./bench/session           to stdout
//	go run ./bench/session -w FILE   into its block in FILE
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/supervisord-go/supervisord/bench/page"
	"github.com/supervisord-go/supervisord/bench/rig"
)

// A command is typed by the user. Setup is done before, and not shown.
type command struct {
	setup string
	typed string
}

var script = []command{
	{typed: "curl http://127.0.0.1:8080/"},
	{setup: build("2"), typed: `go build -o hello -ldflags "-X main.version=2" . && superctl reload hello`},
	{typed: "curl http://127.0.0.1:8080/"},
	{setup: build(""), typed: `go build -o hello -ldflags "-X main.version=" . && superctl reload hello   # a broken build`},
	{typed: "curl http://127.0.0.1:8080/"},
	{typed: "superctl status"},
}

const configuration = `[socket.hello]
listen_stream = ["127.0.0.1:8080"]

[service.hello]
exec_start = %q
type       = "notify"
sockets    = ["hello"]
`

func build(version string) string {
	return fmt.Sprintf("go build -o $PROGRAM -ldflags '-X main.version=%s' %s/examples/hello", version, rig.Module)
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("session: ")
	file := flag.String("w", "", "`file` to write the session into")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	session, err := run(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if *file == "" {
		os.Stdout.Write(session)
		return
	}
	if err := page.Insert(*file, "go run ./bench/session", string(session)); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (_ []byte, err error) {
	dir, err := rig.TempDir()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binaries, err := rig.Build(ctx, filepath.Join(dir, "bin"))
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, "hello")
	shell := shell{env: append(os.Environ(), "CGO_ENABLED=0", "PROGRAM="+program, "PATH="+binaries.Dir+":"+os.Getenv("PATH"))}
	if _, err := shell.run(ctx, build("1")); err != nil {
		return nil, err
	}
	s, err := rig.Start(ctx, binaries, dir, fmt.Sprintf(configuration, program))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	shell.env = append(shell.env, "SUPERVISORD_SOCKET="+s.Socket)
	if _, err := s.Must(ctx, "start", "hello"); err != nil {
		return nil, err
	}
	var session bytes.Buffer
	for _, c := range script {
		out, err := c.run(ctx, shell)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&session, "$ %s\n%s", c.typed, out)
	}
	return session.Bytes(), nil
}

type shell struct{ env []string }

// run returns stdout and stderr as a terminal has them. A command of a session
// may fail; that is for the reader to see.
func (s shell) run(ctx context.Context, command string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	return out, err
}

// run does the setup and what of the typed command is not done by it.
func (c command) run(ctx context.Context, s shell) ([]byte, error) {
	typed := c.typed
	if c.setup != "" {
		if out, err := s.run(ctx, c.setup); err != nil || len(out) > 0 {
			return nil, errors.Join(err, fmt.Errorf("%s: %s", c.setup, out))
		}
		_, typed, _ = strings.Cut(typed, "&& ")
	}
	return s.run(ctx, strings.Replace(typed, "curl ", "curl -sS ", 1))
}
