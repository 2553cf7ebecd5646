package process

import (
	"os"
	"strings"
	"syscall"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/stage"
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

// fixedBase says which of the two bases a supervisord gives its services.
func fixedBase() bool { return os.Geteuid() == 0 && os.Getpid() != 1 }

// setEnvironment fills in the environment of a stage's task.
func setEnvironment(to *stage.Task, p *unit.Program, a Account, fixed bool, environ []string) *StartError {
	env := base
	if !fixed {
		env = inherited(environ)
	}
	env = append(env[:len(env):len(env)], a.environment()...)
	env = append(env, passed(p.PassEnvironment, environ)...)
	to.Env = stage.Merge(append(env, p.Environment...))
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
// put there. Any other the stage opens, with the rights of the program's user: the
// path may lead to a file that only root can read.
func addFile(to *stage.Task, path string) *StartError {
	name, _ := stage.OptionalFile(path)
	text, err := safepath.ReadFile(name, stage.MaxFile)
	if err != nil {
		to.EnvFiles = append(to.EnvFiles, stage.EnvFile{Path: path})
		return nil
	}
	pairs, line := stage.ParseFile(text)
	if line > 0 {
		return startError(stage.Environment, syscall.EBADMSG, name+":"+decimal(line), "")
	}
	if n := len(to.EnvFiles); n > 0 { // comes after one that is not read yet
		to.EnvFiles[n-1].Pairs = append(to.EnvFiles[n-1].Pairs, pairs...)
		return nil
	}
	to.Env = append(to.Env, pairs...)
	return nil
}
