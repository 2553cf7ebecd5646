package process

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Program's environments are built in layers, each over the one before: a base,
// the account's variables, what is passed on from our own, the configured ones,
// environment files, the protocol's. As root the base is fixed, as under a system
// manager, so that a service does not depend on who started supervisord, and how.
// Unprivileged and as PID 1 of a container people expect their own variables to
// arrive: the base is our environment, less what was meant for us.
var base = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"LANG=C.UTF-8",
}

// ours are variables that speak to one process, and would be lies to another;
// and those that change how a program is loaded. A trailing * stands for any rest.
var ours = []string{
	"NOTIFY_SOCKET", "LISTEN_*", "WATCHDOG_*", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID",
	"MAINPID*", "FDSTORE", "MANAGERPID*", "CREDENTIALS_DIRECTORY", "SUDO_*", "LD_*", "SUPERVISORD_*",
}

func inherited(environ []string) (kept []string) {
	for _, pair := range environ {
		key, _, ok := strings.Cut(pair, "=")
		if ok && key != "" && !isOurs(key) {
			kept = append(kept, pair)
		}
	}
	return kept
}

func isOurs(key string) bool {
	for _, pattern := range ours {
		prefix, any := strings.CutSuffix(pattern, "*")
		if key == pattern || any && strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// setEnvironment fills in the environment of an order. fixed says which of the two bases.
func setEnvironment(to *order, p *unit.Program, a Account, fixed bool, environ []string) *StartError {
	env := base
	if !fixed {
		env = inherited(environ)
	}
	env = append(env[:len(env):len(env)], a.environment()...)
	env = append(env, passed(p.PassEnvironment, environ)...)
	to.env = merge(append(env, p.Environment...))
	for _, path := range p.EnvironmentFiles {
		if err := addFile(to, path); err != nil {
			return err
		}
	}
	return nil
}

func (a Account) environment() (env []string) {
	for _, v := range []struct{ key, value string }{
		{"HOME", a.Home}, {"USER", a.Name}, {"LOGNAME", a.Name}, {"SHELL", a.Shell},
	} {
		if v.value != "" {
			env = append(env, v.key+"="+v.value)
		}
	}
	return env
}

func passed(keys, environ []string) (env []string) {
	for _, key := range keys {
		for _, pair := range environ {
			if strings.HasPrefix(pair, key+"=") {
				env = append(env, pair)
				break // getenv(3) takes the first
			}
		}
	}
	return env
}

// addFile reads an environment file that nobody but root (or ourselves) can have
// put there. Any other is opened by the process itself, with the rights of the program's
// user: the path may lead to a file that only we can read. So is one that we cannot get at:
// that user may.
func addFile(to *order, path string) *StartError {
	name, _ := optionalFile(path)
	read := safepath.ReadFile
	if to.setIDs { // also if we are not root
		read = safepath.ReadTrusted
	}
	text, err := read(name, maxFile)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
		to.envFiles = append(to.envFiles, envFile{path: path})
		return nil
	case err != nil:
		return stepEnvironment.failed(errnoOf(err), name, Shortage(err))
	}
	pairs, line := parseFile(text)
	if line > 0 {
		return stepEnvironment.failed(syscall.EBADMSG, name+":"+decimal(line), "")
	}
	if n := len(to.envFiles); n > 0 { // comes after one that is not read yet
		to.envFiles[n-1].pairs = append(to.envFiles[n-1].pairs, pairs...)
		return nil
	}
	to.env = append(to.env, pairs...)
	return nil
}

// complete is the environment with the content of the environment files in it, and
// with what is known of this process alone: all of that last.
func (o *order) complete(files [][]string, own []string) []string {
	env := o.env
	for i, f := range o.envFiles {
		env = append(append(env[:len(env):len(env)], files[i]...), f.pairs...)
	}
	env = append(env[:len(env):len(env)], o.protocol...)
	return merge(append(env, own...))
}

// own is what says to the program that it is meant: sd_listen_fds(3),
// sd_watchdog_enabled(3), $SYSTEMD_EXEC_PID of systemd.exec(5), and the ends of
// the pair that connections are handed over by: to receive from, and to send to.
func (o *order) own(who Identity) []string {
	pid := decimal(who.PID)
	env := []string{"SYSTEMD_EXEC_PID=" + pid}
	if n := len(o.names); n > 0 {
		env = append(env, "LISTEN_PID="+pid, "LISTEN_FDS="+decimal(n), "LISTEN_FDNAMES="+strings.Join(o.names, ":"))
		if who.PidfdInode != 0 {
			env = append(env, "LISTEN_PIDFDID="+strconv.FormatUint(who.PidfdInode, 10))
		}
	}
	if o.handover {
		in := firstSocket + len(o.names)
		env = append(env, "SUPERVISORD_HANDOVER="+decimal(in)+":"+decimal(in+1))
	}
	if o.watchdog > 0 {
		env = append(env, "WATCHDOG_PID="+pid, "WATCHDOG_USEC="+strconv.FormatUint(o.watchdog, 10))
	}
	return env
}

// merge returns env with each key once, where it came first, with the value that
// came last: getenv(3) takes the first that it finds, other programs the last.
func merge(env []string) []string {
	place := make(map[string]int, len(env))
	merged := make([]string, 0, len(env))
	for _, pair := range env {
		key, _, _ := strings.Cut(pair, "=")
		if i, ok := place[key]; ok {
			merged[i] = pair
			continue
		}
		place[key] = len(merged)
		merged = append(merged, pair)
	}
	return merged
}

// optionalFile takes the "-" off a path that may be missing.
func optionalFile(path string) (string, bool) { return strings.CutPrefix(path, "-") }
