package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// A session is one run of superctl: how it speaks, and with whom.
type session struct {
	out, err *console
	env      func(string) string
	root     bool // the system's supervisord is our own

	socket string
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
func (s *session) flags(f *pflag.FlagSet) {
	f.Var((*path)(&s.socket), "socket", "`path` of supervisord's control socket (else $SUPERVISORD_SOCKET, your own supervisord's, the system's)")
	f.IntVar(&s.owner, "socket-owner", ipc.NoOwner, "trust a supervisord of this `uid`, besides root's and your own")
	f.Lookup("socket-owner").DefValue = "0" // pflag's word for none
	s.color = "auto"
	f.Var(&choice{of: []string{"auto", "always", "never"}, is: &s.color}, "color", "when to use colour: on a terminal, always or never")
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
	forms := []string{form, "json"}
	c.Flags().VarP(&choice{of: forms, is: &form, set: func(f string) { s.json = f == "json" }}, "output", "o", "print the answer as "+form+" or json")
	c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
}

// settle does what the flags of every command say.
func (s *session) settle() error {
	if s.color != "auto" {
		s.out.color, s.err.color = s.color == "always", s.color == "always"
	}
	return nil
}

// client is the connection to supervisord. Nothing is sent before it is used.
func (s *session) client() *ipc.Client {
	if s.dialled == nil {
		s.dialled = ipc.NewClient(s.path(), s.owner)
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

// path is where supervisord should listen: where one is told, else at one's own
// supervisord's if it has left a socket there, else at the system's.
func (s *session) path() string {
	for _, p := range []string{s.socket, s.env("SUPERVISORD_SOCKET")} {
		if p != "" {
			return p
		}
	}
	for _, dir := range s.ownRuntime() {
		if p := filepath.Join(dir, config.ControlSocket); exists(p) {
			return p
		}
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
