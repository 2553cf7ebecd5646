package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// fixedPath is where programs of a root's supervisord are searched, whoever
// started it.
const fixedPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// defaultPath is the configuration that is read when none is named.
func defaultPath(o Options) string {
	const file = "supervisord/supervisord.toml"
	switch path := o.env("SUPERVISORD_CONFIG"); {
	case path != "":
		return path
	case o.Root:
		return "/etc/" + file
	}
	return filepath.Join(o.xdg("XDG_CONFIG_HOME", ".config"), file)
}

// xdg is a directory of the XDG base directory specification, which wants
// relative ones to be ignored.
func (o Options) xdg(variable, below string) string {
	if dir := o.env(variable); filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join("/", o.env("HOME"), below)
}

// homeless says why there is no such directory; empty: there is.
func (o Options) homeless(variable string) string {
	if filepath.IsAbs(o.env(variable)) || filepath.IsAbs(o.env("HOME")) {
		return ""
	}
	if home := o.env("HOME"); home != "" {
		return fmt.Sprintf("HOME is %q, which is not an absolute path, and %s is not set", home, variable)
	}
	return fmt.Sprintf("neither HOME nor %s is set", variable)
}

// checkHome refuses to put below / what belongs below a home directory.
func (l *load) checkHome() {
	if !l.disk || l.o.Root || l.manager.names("state_directory") {
		return
	}
	if why := l.o.homeless("XDG_STATE_HOME"); why != "" {
		l.note(itself, Problem{
			File: l.config.Path, Key: "manager.state_directory",
			Message: "it has no default, since " + why + "; set HOME, or write state_directory",
		})
	}
}

// setDirectories fills in what [manager] leaves out.
func (m *Manager) setDirectories(o Options) {
	state := "/var/lib/supervisord"
	if !o.Root {
		state = filepath.Join(o.xdg("XDG_STATE_HOME", ".local/state"), "supervisord")
	}
	setDefault(&m.StateDirectory, state)
	switch runtime := o.env("XDG_RUNTIME_DIR"); {
	case o.Root:
		setDefault(&m.RuntimeDirectory, "/run/supervisord")
		setDefault(&m.LogDirectory, "/var/log/supervisord")
	case filepath.IsAbs(runtime):
		setDefault(&m.RuntimeDirectory, filepath.Join(runtime, "supervisord"))
	default: // never below /tmp, where others can be first
		setDefault(&m.RuntimeDirectory, filepath.Join(m.StateDirectory, "run"))
	}
	setDefault(&m.LogDirectory, filepath.Join(m.StateDirectory, "log"))
}

// maxRuntimeDirectory leaves room for the sockets in it: notify/ and 16 characters.
const maxRuntimeDirectory = maxSunPath - len("/notify/") - 16

// checkRuntimeDirectory: services cannot even start if the sockets in it have names
// that are too long, which would only show then.
func (l *load) checkRuntimeDirectory() {
	if dir := l.config.Manager.RuntimeDirectory; len(dir) > maxRuntimeDirectory {
		l.manager.child("runtime_directory", nil).wrong("%q has %d bytes, too many for the unix sockets in it (unix(7)); use a directory of at most %d bytes", dir, len(dir), maxRuntimeDirectory)
	}
}

func setDefault[T comparable](at *T, value T) {
	if *at == *new(T) {
		*at = value
	}
}

// search are the directories for bare names of programs. Those of PATH that are
// relative, or empty, mean whatever directory somebody is in, and are left out.
func (o Options) search() (dirs []string) {
	path := fixedPath
	if !o.Root {
		path = o.env("PATH")
	}
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) {
			dirs = append(dirs, filepath.Clean(dir))
		}
	}
	return dirs
}

func absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	if wd, err := os.Getwd(); err == nil {
		return filepath.Join(wd, path)
	}
	return filepath.Join("/", path)
}

func dirOf(file string) string { return filepath.Dir(absolute(file)) }

// relativeTo is path, seen from dir if it is relative.
func relativeTo(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

var directory = kind[string]{name: "absolute path", read: func(c cursor) string {
	path := readText(c)
	if path != "" && !filepath.IsAbs(path) {
		c.wrong("%q is relative; write the whole path, like %q", path, relativeTo(c.file.dir, path))
	}
	if path == "" {
		if _, ok := c.value.(string); ok {
			c.wrong("it is empty; write an absolute path, or leave the key out")
		}
		return ""
	}
	return strings.TrimSuffix(filepath.Clean(path), "/")
}}
