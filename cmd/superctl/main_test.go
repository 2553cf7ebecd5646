package main

import (
	"context"
	"flag"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"superctl": main})
}

// TestScripts are sessions of a user: files that say what supervisord knows,
// commands, and what these print. Run with -update to write what they print now.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			f, stop, err := serve(e.WorkDir)
			if err != nil {
				return err
			}
			e.Values["fake"] = f
			e.Defer(stop)
			e.Setenv("SUPERVISORD_SOCKET", filepath.Join(e.WorkDir, config.ControlSocket))
			e.Setenv("COLUMNS", "80")
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"followed": followed,
			"exits":    exits,
		},
		Deadline: time.Now().Add(10 * time.Minute),
	})
}

// followed waits until some superctl follows the job with this id.
func followed(ts *testscript.TestScript, _ bool, args []string) {
	enough := time.After(30 * time.Second)
	for {
		select {
		case id := <-ts.Value("fake").(*fake).followed:
			if id == args[0] {
				return
			}
		case <-enough:
			ts.Fatalf("job %s is not followed", args[0])
		}
	}
}

// exits runs a command that is to exit with a status: exits 3 superctl status api.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	status := "0"
	if err != nil {
		status = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if status != args[0] {
		ts.Fatalf("it exits with %s, not %s", status, args[0])
	}
}

// serve answers as a fake that reads dir, on a control socket in it.
func serve(dir string) (f *fake, stop func(), err error) {
	d, err := safepath.OpenDir(dir)
	if err != nil {
		return nil, nil, err
	}
	l, err := ipc.Listen(d, config.ControlSocket)
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	f = newFake(dir)
	server := ipc.NewServer(f, io.Discard)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	return f, func() {
		server.Shutdown(context.Background())
		<-served
		d.Close()
	}, nil
}

func mustTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}
