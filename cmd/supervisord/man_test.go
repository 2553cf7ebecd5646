package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/man/roff"
)

//go:generate go test -count=1 -run TestManPage . -update

var update = flag.Bool("update", false, "write the manual page")

// TestManPage: supervisord(8) is made of what --help says.
func TestManPage(t *testing.T) {
	path := filepath.Join("..", "..", "man", "supervisord.8")
	want := manPage()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
		t.Errorf("%v\n%s\ngo generate ./cmd/supervisord writes it", err, diff)
	}
}

func manPage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Synopsis\n\n    %s\n\n", strings.Join(synopsis, "\n    "))
	b.WriteString(`## Description

supervisord starts services, owns their listening sockets, and swaps in a new build of a
running service without dropping a connection. ` + "`superctl`" + ` controls it, over a socket in its
runtime directory.

It runs in the foreground and logs to stderr. As root it is the system's supervisord; any
other user can run one as well. As PID 1 it also reaps orphans, as an init does.

`)
	for _, part := range []struct {
		title string
		list  []about
	}{{"Options", flagTexts}, {"Signals", signalTexts}, {"Exit status", statusTexts}, {"Environment", environment}, {"Files", files}} {
		fmt.Fprintf(&b, "## %s\n\n| what | does |\n|---|---|\n", part.title)
		for _, a := range part.list {
			fmt.Fprintf(&b, "| `%s` | %s |\n", a.what, a.does)
		}
		b.WriteString("\n")
	}
	b.WriteString("## See also\n\n`superctl`(1), `supervisord.toml`(5)\n")
	return roff.Page{Name: "supervisord", Section: 8, Says: "start services and replace them without a gap"}.Of(b.String())
}

var environment = []about{
	{"SUPERVISORD_CONFIG", "the configuration file, where -c does not name one"},
	{"XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR", "where the files of an ordinary user's supervisord are"},
	{"NOTIFY_SOCKET", "where to report READY=1, see sd_notify(3); services get one of their own"},
	{"LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES", "sockets that systemd gives; see sd_listen_fds(3)"},
	{"JOURNAL_STREAM", "if it names stderr, as in a unit of systemd, log lines carry their priority for the journal"},
	{"NO_COLOR", "if set, log without colours on a terminal"},
}

var files = []about{
	{"/etc/supervisord/supervisord.toml", "the configuration; see supervisord.toml(5)"},
	{"/run/supervisord/control.sock", "the socket on which superctl asks"},
	{"/var/log/supervisord/NAME.log", "the output of a service"},
	{"/var/lib/supervisord/", "the history, and what else outlives a reboot"},
}
