// Package config reads configurations: TOML files whose keys are systemd's
// directives in snake_case wherever systemd has one.
//
// All keys are in one table, keys. The decoder follows that table, and the reference and
// the sample are generated from it, so the three agree. The decoder does not stop at the
// first error: if you fix a file, you want to know all errors at once, each with its line
// and column. Only a syntax error ends the list, because what follows it is anybody's
// guess.
//
// Reading has three steps:
//
//  1. Read the files and find their tables (files.go).
//  2. Decode each key on its own into a unit (decode.go, values.go, program.go,
//     address.go).
//  3. Fill in and check what depends on several keys or units (complete.go).
//
// A value that was wrong once is not reported again.
//
// A configuration is plain data, and never changes once it is read.
package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Config is what the files say, with every default filled in.
type Config struct {
	Path     string // of the first file, absolute
	Manager  Manager
	Sockets  []*unit.Socket // by name
	Services []*unit.Spec   // by name
	Files    []string       // all that were read, Path first
	Digest   string         // SHA-256 of what was read, in hexadecimal

	// What LoadAtStart left out; both are empty after Load.
	Aside    []Aside  // units with an error, by name; none of them is in Sockets or Services
	Degraded []string // errors in what has no unit's name, like an include that cannot be read: FILE:LINE:COLUMN: …

	seen *snapshot // nil: it was not read from files
}

// ControlSocket is the name of the control socket in the runtime directory.
const ControlSocket = "control.sock"

// Manager is the configuration of supervisord itself. Directories are absolute, and are
// created when they are needed. A group that the files name exists. The default group is
// ignored if it does not.
type Manager struct {
	RuntimeDirectory string
	StateDirectory   string
	LogDirectory     string
	ReadGroup        string // may be empty, as AdminGroup
	AdminGroup       string
	LogLevel         string       // debug, info, warn or error
	MetricsListen    unit.Address // TCP with a host, or a path; zero: nowhere
}

// Options say for which kind of supervisord a configuration is read. Defaults depend on
// them.
type Options struct {
	Root     bool     // supervisord runs as root
	PID1     bool     // it is the first process of a container
	Terminal bool     // its stdout is a terminal
	Environ  []string // its environment, KEY=VALUE: PATH, HOME, XDG_…, SUPERVISORD_CONFIG

	// Unsteerable is why this process cannot steer sockets, and what to do about that;
	// empty: it can, or nobody knows. Sockets that were to be steered are shared then,
	// with a warning, and say so: see [unit.Socket.Unsteered].
	Unsteerable string
	// Check: the configuration is only checked here. The supervisord that will run it may
	// be able to steer what this process cannot, so the sockets stay steered, and the
	// warning claims no more than is known.
	Check bool
}

// env is a variable of the environment; like getenv(3) it takes the first.
func (o Options) env(name string) string {
	for _, pair := range o.Environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// Load reads the configuration at path and the files that it includes. An empty
// path is the default one: $SUPERVISORD_CONFIG, else
// /etc/supervisord/supervisord.toml as root and
// $XDG_CONFIG_HOME/supervisord/supervisord.toml as anybody else.
//
// The problems are in the order of the text. If one of them is not a warning, the Config
// is nil.
func Load(path string, o Options) (*Config, []Problem) { return newLoad(o).files(path) }

// LoadAtStart is [Load] for the start of supervisord, where one mistake must not keep
// everything else down. It sets aside each unit with an error. An error outside of any
// unit makes the Config degraded. Both are left out of the Config; all other units are as
// with Load. See [Config.Aside] and [Config.Degraded].
//
// The Config is nil only if the first file cannot be read, has a syntax error, or has an
// error in what configures supervisord itself. The problems include those of everything
// that was left out.
func LoadAtStart(path string, o Options) (*Config, []Problem) {
	l := newLoad(o)
	l.atStart = true
	return l.files(path)
}

func (l *load) files(path string) (*Config, []Problem) {
	l.disk = true
	if path == "" {
		path = defaultPath(l.o)
		if why := l.o.homeless("XDG_CONFIG_HOME"); why != "" && !l.o.Root && l.o.env("SUPERVISORD_CONFIG") == "" {
			return nil, []Problem{{File: "supervisord.toml", Message: "it is not known where yours is: " + why + "; set HOME, or name the file with -c"}}
		}
	}
	l.first(path)
	return l.finish()
}

// RuntimeDirectory is what the configuration at path says of runtime_directory,
// and empty if it says nothing. Nothing else in it can be an error but what leaves
// it unread: a file that cannot be read, a syntax error, another error in [manager].
func RuntimeDirectory(path string, o Options) (string, []Problem) {
	l := newLoad(o)
	l.atStart = true
	l.first(path)
	if !l.broken {
		return l.config.Manager.RuntimeDirectory, l.errors[itself]
	}
	return "", l.problems
}

// Decode reads a configuration from a text that is called name in problems. It
// looks at no file: programs, directories and users may be missing, and include
// is an error.
func Decode(name string, text []byte, o Options) (*Config, []Problem) {
	l := newLoad(o)
	l.add(name, text)
	return l.finish()
}

// Changes lists the units that differ between two configurations. The names of sockets
// end in .socket.
type Changes struct {
	Added, Removed, Changed []string
	Manager                 bool // [manager] differs; that takes effect with the next supervisord, but for MetricsListen
}

// Diff returns how b differs from a.
func Diff(a, b *Config) Changes {
	before, after := a.units(), b.units()
	d := Changes{Manager: a.Manager != b.Manager}
	for name, is := range after {
		was, there := before[name]
		switch {
		case !there:
			d.Added = append(d.Added, name)
		case !reflect.DeepEqual(was, is):
			d.Changed = append(d.Changed, name)
		}
	}
	for name := range before {
		if after[name] == nil {
			d.Removed = append(d.Removed, name)
		}
	}
	for _, names := range [][]string{d.Added, d.Removed, d.Changed} {
		slices.Sort(names)
	}
	return d
}

func (c *Config) units() map[string]any {
	all := map[string]any{}
	for _, s := range c.Sockets {
		all[s.Name+".socket"] = s
	}
	for _, s := range c.Services {
		all[s.Name] = s
	}
	return all
}
