package process

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// T39: what a program's environment is, whoever started supervisord.
func TestEnvironment(t *testing.T) {
	shell := []string{
		"PATH=/home/me/bin:/bin", "HOME=/home/me", "USER=me", "TERM=xterm", "EDITOR=vi", "TOKEN=t",
		"NOTIFY_SOCKET=/run/x", "LISTEN_FDS=3", "LISTEN_PID=1", "LISTEN_PIDFDID=5", "WATCHDOG_USEC=1", "INVOCATION_ID=f",
		"JOURNAL_STREAM=1:2", "MAINPID=5", "MAINPIDFDID=6", "FDSTORE=1", "MANAGERPID=1", "CREDENTIALS_DIRECTORY=/c",
		"SUDO_USER=me", "LD_PRELOAD=/x.so", "LD_LIBRARY_PATH=/x", "SUPERVISORD_CONFIG=/c", "SYSTEMD_EXEC_PID=4", "", "=x", "noequals",
	}
	daemon := Account{Name: "daemon", Home: "/usr/sbin", Shell: "/usr/sbin/nologin"}
	for _, c := range []struct {
		name    string
		fixed   bool
		program unit.Program
		account Account
		want    []string
	}{
		{"root", true, unit.Program{}, Account{}, base},
		{
			"root, with a user", true,
			unit.Program{},
			daemon,
			append(slices.Clone(base), "HOME=/usr/sbin", "USER=daemon", "LOGNAME=daemon", "SHELL=/usr/sbin/nologin"),
		},
		{
			"root, its own", true,
			unit.Program{Environment: []string{"LANG=de_DE.UTF-8", "A=1"}},
			Account{},
			[]string{base[0], "LANG=de_DE.UTF-8", "A=1"},
		},
		{
			"root, passing some on", true,
			unit.Program{PassEnvironment: []string{"TOKEN", "LD_PRELOAD", "NONE", "TOK"}},
			Account{},
			append(slices.Clone(base), "TOKEN=t", "LD_PRELOAD=/x.so"),
		},
		{
			"configured over passed on", true,
			unit.Program{PassEnvironment: []string{"TOKEN"}, Environment: []string{"TOKEN=mine"}},
			Account{},
			append(slices.Clone(base), "TOKEN=mine"),
		},
		{
			"unprivileged, or PID 1", false,
			unit.Program{},
			Account{},
			[]string{"PATH=/home/me/bin:/bin", "HOME=/home/me", "USER=me", "TERM=xterm", "EDITOR=vi", "TOKEN=t"},
		},
		{
			"PID 1, with a user", false,
			unit.Program{},
			daemon,
			[]string{"PATH=/home/me/bin:/bin", "HOME=/usr/sbin", "USER=daemon", "TERM=xterm", "EDITOR=vi", "TOKEN=t", "LOGNAME=daemon", "SHELL=/usr/sbin/nologin"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o order
			if err := setEnvironment(&o, &c.program, c.account, c.fixed, shell); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, o.env); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
		})
	}
}
