package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// A session is one run of superctl: how it speaks, and with whom.
type session struct {
	out, err *console
	env      func(string) string
	root     bool // the system's supervisord is our own

	socket string
	config string // by which supervisord is to be found
	at     string // the socket, when it is located
	guess  string // why it may be the wrong one
	owner  int
	color  string
	json   bool

	patience time.Duration // in which nothing happens, before it is said what is waited for
	pace     time.Duration // at which that is said again
	haste    time.Duration // that a shell which completes a word is kept waiting

	dialled *ipc.Client
}

func newSession(out, err io.Writer, env func(string) string) *session {
	return &session{out: newConsole(out, env), err: newConsole(err, env), env: env, root: os.Geteuid() == 0, patience: 3 * time.Second, pace: time.Second, haste: 300 * time.Millisecond}
}

// flags are those that every command has.
func (s *session) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.Var((*path)(&s.socket), "socket", "`PATH` of the control socket of supervisord (default: see superctl --help)")
	f.VarP((*path)(&s.config), "config", "c", "find supervisord by its configuration `FILE`: the socket in its runtime_directory")
	f.IntVar(&s.owner, "socket-owner", ipc.NoOwner, "also trust a supervisord that runs as `UID`, not only root's and your own")
	f.Lookup("socket-owner").DefValue = "0" // pflag's word for none
	s.color = "auto"
	colors := &choice{of: []string{"auto", "always", "never"}, is: &s.color}
	f.Var(colors, "color", "use colour: auto means on a terminal")
	offer(root, "color", colors.of...)
}

// A path is a flag that must not be empty: "$UNSET" would mean another supervisord
// than the one that was meant.
type path string

func (p *path) String() string { return string(*p) }
func (*path) Type() string     { return "string" }

func (p *path) Set(text string) error {
	if text == "" {
		return errors.New("it must not be empty")
	}
	*p = path(text)
	return nil
}

// outputFlag gives a command -o; form is what it is without json.
func (s *session) outputFlag(c *cobra.Command, form string) {
	choose(c, &choice{of: []string{form, "json"}, is: &form, set: func(f string) { s.json = f == "json" }}, "output", "o", "print the answer as "+form+" or json")
}

// settle does what the flags of every command say.
func (s *session) settle(c *cobra.Command) error {
	if s.color != "auto" {
		s.out.color, s.err.color = s.color == "always", s.color == "always"
	}
	if c.Annotations["offline"] != "" {
		return nil
	}
	return s.locate()
}

// client is the connection to supervisord, which has been located. Nothing is sent
// before it is used.
func (s *session) client() *ipc.Client {
	if s.dialled == nil {
		s.dialled = ipc.NewClient(s.at, s.owner)
	}
	return s.dialled
}

func (s *session) close() {
	if s.dialled != nil {
		s.dialled.Close()
	}
}

// systemSocket is that of a supervisord that root runs with its defaults.
const systemSocket = "/run/supervisord/" + config.ControlSocket

// locate finds the socket on which supervisord should listen: where one is told,
// else at one's own supervisord's if it has left a socket there, else at the
// system's.
func (s *session) locate() (err error) {
	switch path := s.env("SUPERVISORD_SOCKET"); {
	case s.socket != "" && s.config != "":
		return &ipc.Error{Code: ipc.Usage, Message: "--socket and --config both say where supervisord is: use one of them"}
	case s.socket != "":
		s.at = s.socket
	case s.config != "":
		s.at, err = s.configured(s.config, nil)
	case path != "":
		s.at = path
	case s.env("SUPERVISORD_CONFIG") != "":
		s.at, err = s.configured(s.env("SUPERVISORD_CONFIG"), []string{"$SUPERVISORD_CONFIG names this file"})
	default:
		s.at = s.usual()
	}
	return err
}

// configured is the socket of the supervisord that has the configuration at path.
func (s *session) configured(path string, notes []string) (string, error) {
	dir, problems := config.RuntimeDirectory(path, config.Options{Root: s.root, Environ: os.Environ()})
	switch {
	case len(problems) > 0:
		return "", &ipc.Error{Code: ipc.Invalid, Message: "cannot find supervisord: " + problems[0].String(), Notes: notes}
	case dir == "":
		return s.usual(), nil
	}
	return filepath.Join(dir, config.ControlSocket), nil
}

// usual is the socket of one's own supervisord, else of the system's.
func (s *session) usual() string {
	for _, dir := range s.ownRuntime() {
		if p := filepath.Join(dir, config.ControlSocket); exists(p) {
			return p
		}
	}
	if !s.root && s.env("HOME")+s.env("XDG_RUNTIME_DIR")+s.env("XDG_STATE_HOME") == "" {
		s.guess = "HOME is not set, so only the system's supervisord was looked for, not your own"
	}
	return systemSocket
}

// ownRuntime is where an ordinary user's supervisord has its runtime directory
// by default.
func (s *session) ownRuntime() (dirs []string) {
	if s.root {
		return nil
	}
	if d := s.env("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		dirs = append(dirs, filepath.Join(d, "supervisord"))
	}
	if d := s.env("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return append(dirs, filepath.Join(d, "supervisord", "run"))
	}
	if d := s.env("HOME"); filepath.IsAbs(d) {
		dirs = append(dirs, filepath.Join(d, ".local", "state", "supervisord", "run"))
	}
	return dirs
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
